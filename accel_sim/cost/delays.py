"""Stage delays, the clock they allow, and the pipeline latencies that follow, all brought to 45 nm."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import ceil

from accel_sim.arch import derived
from accel_sim.arch.schema import Arch
from accel_sim.cost import circuits, hierarchy, operands
from accel_sim.cost.gathering import address_generator, gathers
from accel_sim.cost.network import Network, networks
from accel_sim.cost.scaling import Scale
from accel_sim.cost.sram import all_memories
from accel_sim.cost.tables import Status
from accel_sim.cost.units import UnitCost, library_of, total
from accel_sim.pattern import Pattern

ARRAY_REGISTERS = 3
"""Operand, product and accumulator register: the clock edges between SRAM and a sum."""
OUTPUT_SRAM_CYCLE = 1
"""A requantised code is written in one cycle and can be read in the next."""
EDGE_STAGES = ("metadata_decoder", "non_zero_finder", "activation_select")
"""Circuits at the array's edge between metadata and select lines, in series."""


@dataclass(frozen=True)
class Stage:
    """One circuit between registers, or one that is pipelined over several cycles."""

    name: str
    delay_ns: float
    pipelined: bool
    """Cut into as many cycles as it needs, so that it never limits the clock."""
    status: Status
    source: str


@dataclass(frozen=True)
class Delays:
    """What a machine's circuits allow its clock and how many cycles they take."""

    stages: tuple[Stage, ...]
    critical_path_ns: float
    critical_stage: str
    clock_hz: float
    """min(target, 1 / critical path)."""
    compute_latency_cycles: int
    """From SRAM to a sum: operand, product and accumulator register, operand_mux_register, the circuits at the array's
    edge (metadata decoder, finder of non-zeros, selection of their values), and weight-stationary the tree over a
    column and the adder at the accumulator SRAM."""
    selector_latency_cycles: int
    """The selector, and the address generator where weights are gathered."""
    requantiser_latency_cycles: int
    """The second accumulator where drain overlaps, the requantiser, and the output SRAM, which a store reads a cycle
    after the last code is written."""


def delays(arch: Arch, pattern: Pattern | None) -> Delays:
    """Delays and latencies of `arch` running `pattern` (None: by the dense rule).

    The clock is the machine's, whatever runs: every built network counts. Decoder and selector are pipelined to the
    clock; those of a flexible unit are its largest pattern's.
    """
    single, pipelined = _single_cycle_stages(arch), _pipelined_stages(arch)
    critical = max(single, key=lambda stage: stage.delay_ns)
    clock = clock_hz(arch)
    cycles = {stage.name: max(1, ceil(stage.delay_ns * 1e-9 * clock)) for stage in pipelined}
    array_patterns = derived.array_patterns(arch)
    runs_sparse = derived.array_pattern(arch, pattern) in array_patterns
    return Delays(
        stages=(*single, *pipelined),
        critical_path_ns=critical.delay_ns,
        critical_stage=critical.name,
        clock_hz=clock,
        compute_latency_cycles=ARRAY_REGISTERS
        + (arch.sparsity.operand_mux_register and bool(array_patterns))
        + (sum(cycles.get(name, 0) for name in EDGE_STAGES) if runs_sparse else 0)
        + (cycles.get("column_sums", 0) + 1 if operands.is_stationary(arch) else 0),
        selector_latency_cycles=(cycles["selector"] if derived.selects(arch, pattern) else 0)
        + cycles.get("gather_addresses", 0),
        requantiser_latency_cycles=(arch.array.drain == "overlapped") + cycles["requantiser"] + OUTPUT_SRAM_CYCLE,
    )


@cache
def clock_hz(arch: Arch) -> float:
    """min(target, 1 / the slowest stage that is not pipelined); the target, where a chip exists that runs at it."""
    if arch.technology.existing_chip:
        return arch.technology.clock_target_hz
    slowest = max(stage.delay_ns for stage in _single_cycle_stages(arch))
    return min(arch.technology.clock_target_hz, 1e9 / slowest)


def pipeline_cycles(arch: Arch, circuit: UnitCost | None) -> int:
    """Cycles of the machine's clock that a circuit is cut into; 0 for no circuit."""
    return (
        0
        if circuit is None
        else max(1, ceil(circuit.delay_ns * Scale.of(arch.technology).delay * 1e-9 * clock_hz(arch)))
    )


def edge_cycles(arch: Arch, net: Network) -> int:
    """Cycles from metadata at the array's edge to select lines."""
    return sum(pipeline_cycles(arch, circuit) for circuit in _edge_circuits(net).values())


def _edge_circuits(net: Network) -> dict[str, UnitCost | None]:
    """Decoder, finder of non-zeros and multiplexers of what it found: in series, by stage."""
    if net.skipping is None:
        return {"metadata_decoder": net.decoder}
    finders, selects = ([placed.unit for placed in each] for each in (net.skipping.finders, net.skipping.selects))
    return {
        "metadata_decoder": net.decoder,
        "non_zero_finder": total("finders of non-zeros", finders, rule="in series") if finders else None,
        "activation_select": total("selection of values", selects, rule="in series") if selects else None,
    }


@cache
def column_tree(arch: Arch) -> UnitCost | None:
    """The levels of adders over a column, where it has a tree: their delay (the adders are the elements' own)."""
    levels = operands.column_tree_levels(arch)
    if levels == 0:
        return None
    return total(f"{levels} levels of 32-bit adders", [library_of(arch).unit("adder")] * levels)


def _single_cycle_stages(arch: Arch) -> list[Stage]:
    library, faster = library_of(arch), Scale.of(arch.technology).delay
    register, tree = library.flip_flop, library.unit("dot_product", lanes=arch.array.lanes)
    stages = _multiply_stages(arch)
    stages.append(
        Stage("adder_tree_and_accumulate", tree.delay_ns * faster, False, tree.status, f"{tree.name}: {tree.source}")
    )
    if operands.is_stationary(arch):
        adder = library.unit("adder")
        add = (register.delay_ns + adder.delay_ns) * faster
        stages.append(Stage("accumulate", add, False, "computed", f"register and {adder.name}: {adder.source}"))
    slow = max(all_memories(arch), key=lambda sram: sram.bank.cycle_ns)
    stages.append(Stage(f"sram_{slow.name}", slow.bank.cycle_ns, False, "computed", slow.bank.source))
    return stages


def _multiply_stages(arch: Arch) -> list[Stage]:
    """Register, operand multiplexers and multiplier; the multiplexers on their own where a register follows them."""
    library, faster = library_of(arch), Scale.of(arch.technology).delay
    register, multiply = library.flip_flop.delay_ns * faster, library.unit("multiplier").delay_ns * faster
    if arch.zero_gating == "operand":
        multiply += circuits.and_gates(library, 1, "product gate").delay_ns * faster
    slowest = max(networks(arch), key=lambda net: net.delay_ns, default=None)
    if slowest is None:
        return [Stage("multiply", register + multiply, False, "computed", "register and multiplier")]
    series, select = slowest.in_series, slowest.delay_ns * faster
    status = total("", series).status
    names = ", ".join(["register", *(circuit.name for circuit in series)])
    if arch.sparsity.operand_mux_register:
        return [
            Stage("operand_select", register + select, False, status, names),
            Stage("multiply", register + multiply, False, "computed", "register and multiplier"),
        ]
    joint = register + select + multiply
    return [Stage("operand_select_and_multiply", joint, False, status, f"{names} and multiplier")]


def _pipelined_stages(arch: Arch) -> list[Stage]:
    library, sparsity, faster = library_of(arch), arch.sparsity, Scale.of(arch.technology).delay
    edges = [_edge_circuits(net) for net in networks(arch)]
    built: dict[str, list[UnitCost | None]] = {name: [edge.get(name) for edge in edges] for name in EDGE_STAGES}
    built["column_sums"] = [column_tree(arch)]
    built["selector"] = [
        hierarchy.selector(library, sparsity.selector, sparsity.metadata, pattern)
        for pattern in sparsity.patterns
        if derived.selects(arch, pattern)
    ]
    built["gather_addresses"] = [address_generator(library)] if gathers(arch) else []
    built["requantiser"] = [circuits.requantiser(library)]
    stages = []
    for name, candidates in built.items():
        slowest = max(filter(None, candidates), key=lambda circuit: circuit.delay_ns, default=None)
        if slowest is not None:
            delay = slowest.delay_ns * faster
            stages.append(Stage(name, delay, True, slowest.status, f"{slowest.name}: {slowest.source}"))
    return stages
