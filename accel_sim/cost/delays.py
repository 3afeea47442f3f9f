"""Stage delays, the clock they allow, and the pipeline latencies that follow, all at 45 nm."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import ceil

from accel_sim.arch.schema import Arch
from accel_sim.cost import circuits
from accel_sim.cost.sram import memories
from accel_sim.cost.tables import Status
from accel_sim.cost.units import UnitCost, flip_flop, unit
from accel_sim.pattern import Pattern

ARRAY_REGISTERS = 3
"""Operand, product and accumulator register: the clock edges between SRAM and a sum."""


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
    """From SRAM to a sum: operand, product and accumulator register, operand_mux_register, metadata decoder."""
    selector_latency_cycles: int
    requantiser_latency_cycles: int


def delays(arch: Arch, pattern: Pattern | None) -> Delays:
    """Delays and latencies of `arch` running `pattern` (None: by the dense rule).

    The clock is the machine's, whatever runs: every built network counts. Decoder and selector are pipelined to the
    clock; those of a flexible unit are its largest pattern's.
    """
    single, pipelined = _single_cycle_stages(arch), _pipelined_stages(arch)
    critical = max(single, key=lambda stage: stage.delay_ns)
    clock = clock_hz(arch)
    cycles = {stage.name: ceil(stage.delay_ns * 1e-9 * clock) for stage in pipelined}
    runs_sparse = pattern is not None and not pattern.keeps_all
    return Delays(
        stages=(*single, *pipelined),
        critical_path_ns=critical.delay_ns,
        critical_stage=critical.name,
        clock_hz=clock,
        compute_latency_cycles=ARRAY_REGISTERS
        + (arch.sparsity.operand_mux_register and bool(circuits.sparse_patterns(arch.sparsity)))
        + (cycles.get("metadata_decoder", 0) if runs_sparse else 0),
        selector_latency_cycles=cycles.get("selector", 0) if runs_sparse else 0,
        requantiser_latency_cycles=cycles["requantiser"],
    )


@cache
def clock_hz(arch: Arch) -> float:
    """min(target, 1 / the slowest stage that is not pipelined)."""
    slowest = max(stage.delay_ns for stage in _single_cycle_stages(arch))
    return min(arch.technology.clock_target_hz, 1e9 / slowest)


def pipeline_cycles(arch: Arch, circuit: UnitCost | None) -> int:
    """Cycles of the machine's clock that a circuit is cut into; 0 for no circuit."""
    return 0 if circuit is None else max(1, ceil(circuit.delay_ns * 1e-9 * clock_hz(arch)))


def _single_cycle_stages(arch: Arch) -> list[Stage]:
    multiplier, register, tree = unit("mul8"), flip_flop(), unit("dotk", k=arch.array.lanes)
    muxes = [circuits.multiplexer(arch.sparsity.operand_mux, p) for p in circuits.sparse_patterns(arch.sparsity)]
    slowest = max(muxes, key=lambda mux: mux.delay_ns, default=None)
    stages = []
    multiply, name, source = multiplier.delay_ns, "multiply", "register and mul8"
    if slowest is not None and arch.sparsity.operand_mux_register:
        select = register.delay_ns + slowest.delay_ns
        stages.append(Stage("operand_select", select, False, slowest.status, f"register and {slowest.name}"))
    elif slowest is not None:
        multiply += slowest.delay_ns
        name, source = "operand_select_and_multiply", f"register, {slowest.name} and mul8"
    if arch.zero_gating == "operand":
        multiply += circuits.and_gates(1, "product gate").delay_ns
    stages.append(Stage(name, register.delay_ns + multiply, False, "computed", source))
    stages.append(Stage("adder_tree_and_accumulate", tree.delay_ns, False, tree.status, f"{tree.name}: {tree.source}"))
    slow = max(memories(arch), key=lambda sram: sram.bank.cycle_ns)
    stages.append(Stage(f"sram_{slow.name}", slow.bank.cycle_ns, False, "computed", slow.bank.source))
    return stages


def _pipelined_stages(arch: Arch) -> list[Stage]:
    sparsity = arch.sparsity
    stages = []
    patterns = circuits.sparse_patterns(sparsity)
    decoders = [circuits.decoder(sparsity.operand_mux, sparsity.metadata, pattern) for pattern in patterns]
    selectors = [circuits.selector(sparsity.selector, sparsity.metadata, pattern) for pattern in patterns]
    for name, built in (
        ("metadata_decoder", decoders),
        ("selector", selectors),
        ("requantiser", [circuits.requantiser()]),
    ):
        slowest = max(filter(None, built), key=lambda circuit: circuit.delay_ns, default=None)
        if slowest is not None:
            stages.append(Stage(name, slowest.delay_ns, True, slowest.status, f"{slowest.name}: {slowest.source}"))
    return stages
