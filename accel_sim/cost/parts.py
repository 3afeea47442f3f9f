"""The machine's bill of materials: which circuit stands in it how often. Area, clock and leakage are sums over it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from accel_sim.arch import derived
from accel_sim.arch.schema import Arch
from accel_sim.cost import circuits
from accel_sim.cost.delays import pipeline_cycles
from accel_sim.cost.tables import constant
from accel_sim.cost.units import UnitCost, dot_product_flip_flops, flip_flop, unit
from accel_sim.pattern import Pattern

LOGIC_COMPONENTS = (
    "multipliers_and_adder_trees",
    "operand_multiplexers",
    "operand_mux_registers",
    "activation_registers",
    "weight_registers",
    "weight_shift_multiplexers",
    "metadata_registers",
    "metadata_decoders",
    "select_line_registers",
    "accumulator_drain",
    "zero_gating",
    "selectors",
    "selector_pipeline_registers",
    "requantisers",
    "token_scale_units",
    "control",
)
"""Every logic component, in the order of a report; a machine without one holds 0 of it."""
ACCUMULATOR_BITS = 32
OPERAND_BITS = 8


@dataclass(frozen=True)
class Part:
    """`count` instances of a circuit in one component."""

    component: str
    unit: UnitCost
    count: float
    per_column: bool = False
    """Grows with the number of columns."""
    in_array: bool = True
    """Stands in the array's block, over which operands are broadcast."""

    @property
    def area_um2(self) -> float:
        """Cell area at 45 nm."""
        return self.unit.area_um2 * self.count

    @property
    def leakage_nw(self) -> float:
        return self.unit.leakage_nw * self.count


@cache
def parts(arch: Arch) -> tuple[Part, ...]:
    """All logic of the machine. A flexible unit holds the largest of each component that one of its patterns needs."""
    built = [*_dense_datapath(arch), *_behind_the_array(arch)]
    if arch.zero_gating == "operand":
        built += _zero_gating(arch)
    options = [list(_sparse(arch, pattern)) for pattern in circuits.sparse_patterns(arch.sparsity)]
    for component in LOGIC_COMPONENTS:
        alternatives = [[part for part in option if part.component == component] for option in options]
        built += max(alternatives, key=lambda chosen: sum(part.area_um2 for part in chosen), default=[])
    return tuple(built)


def register_bits(arch: Arch) -> float:
    """Flip-flops of the machine, those inside the dot-product units included: all are clocked in every cycle."""
    standing = sum(part.count for part in parts(arch) if part.unit is flip_flop())
    return standing + arch.array.rows * arch.array.cols * dot_product_flip_flops(arch.array.lanes)


def slots(lanes: int, pattern: Pattern) -> int:
    """Lanes that a pattern keeps busy: whole groups side by side, or all of them on a part of one group."""
    return min(lanes, derived.groups_per_cycle(lanes, pattern) * pattern.n)


def _dense_datapath(arch: Arch) -> Iterator[Part]:
    rows, cols, lanes = arch.array.rows, arch.array.cols, arch.array.lanes
    yield Part("multipliers_and_adder_trees", unit("dotk", k=lanes), rows * cols, per_column=True)
    # Operands stand in one register set a row and one a column, or move through one in every processing element.
    systolic = arch.array.interconnect == "systolic"
    activations, weights = (rows * cols, rows * cols) if systolic else (rows, cols)
    yield Part("activation_registers", flip_flop(), activations * activation_bits(arch), per_column=systolic)
    yield Part("weight_registers", flip_flop(), weights * weight_bits(arch), per_column=True)
    # A tile leaves column by column: one 2:1 multiplexer a bit, in the accumulator or in the register behind it.
    drain = circuits.multiplexer_2(ACCUMULATOR_BITS, "load or shift, 32 bits")
    yield Part("accumulator_drain", drain, rows * cols, per_column=True)
    if arch.array.drain == "overlapped":
        yield Part("accumulator_drain", flip_flop(), rows * cols * ACCUMULATOR_BITS, per_column=True)


def activation_bits(arch: Arch) -> int:
    """Activation register of one row: a kept activation a lane."""
    return OPERAND_BITS * arch.array.lanes


def weight_bits(arch: Arch) -> int:
    """Weight register of one column: g·M weights, or a whole group of which `lanes` slots are used a cycle."""
    lanes = arch.array.lanes
    groups = (derived.groups_per_cycle(lanes, p) * p.m for p in circuits.sparse_patterns(arch.sparsity))
    return OPERAND_BITS * max([lanes, *groups])


def _behind_the_array(arch: Arch) -> Iterator[Part]:
    requantiser, adder = circuits.requantiser(), unit("add32")
    count = arch.array.requantisers
    held = pipeline_cycles(arch, requantiser) * constant("pipeline_bits_per_requantiser_stage")
    yield Part("requantisers", requantiser, count, in_array=False)
    yield Part("requantisers", flip_flop(), count * held, in_array=False)
    yield Part("token_scale_units", adder, count, in_array=False)
    yield Part("token_scale_units", flip_flop(), count * constant("token_scale_width"), in_array=False)
    yield Part("control", adder, constant("control_counters"), in_array=False)
    yield Part("control", flip_flop(), constant("control_counters") * ACCUMULATOR_BITS, in_array=False)


def _zero_gating(arch: Arch) -> Iterator[Part]:
    rows, cols, lanes = arch.array.rows, arch.array.cols, arch.array.lanes
    mux_register = arch.sparsity.operand_mux_register and bool(circuits.sparse_patterns(arch.sparsity))
    if not mux_register:
        bits = constant("zero_gating_hold_bits")
        yield Part("zero_gating", flip_flop(), rows * cols * lanes * bits, per_column=True)
    gate = circuits.and_gates(constant("zero_gating_product_bits"), "product gate")
    yield Part("zero_gating", gate, rows * cols * lanes, per_column=True)
    detector = circuits.random_gates(constant("zero_gating_detector_gates"), "zero detector")
    yield Part("zero_gating", detector, rows * lanes)
    yield Part("zero_gating", flip_flop(), rows * lanes)


def _sparse(arch: Arch, pattern: Pattern) -> Iterator[Part]:
    """What one pattern adds to the dense datapath."""
    sparsity = arch.sparsity
    rows, cols, lanes = arch.array.rows, arch.array.cols, arch.array.lanes
    groups = derived.groups_per_cycle(lanes, pattern)
    busy = slots(lanes, pattern)
    multiplexer = circuits.multiplexer(sparsity.operand_mux, pattern)
    yield Part("operand_multiplexers", multiplexer, rows * cols * busy / pattern.n, per_column=True)
    if sparsity.operand_mux_register:
        yield Part("operand_mux_registers", flip_flop(), rows * cols * busy * OPERAND_BITS, per_column=True)
    if derived.cycles_per_group(lanes, pattern) > 1:
        shift = circuits.multiplexer_2(pattern.m * OPERAND_BITS, "load or shift, one group")
        chains = rows * cols if arch.array.interconnect == "systolic" else cols
        yield Part("weight_shift_multiplexers", shift, chains, per_column=True)
    yield Part("metadata_registers", flip_flop(), rows * groups * pattern.metadata_bits(sparsity.metadata))
    lines = rows * groups * circuits.select_bits(sparsity.operand_mux, pattern)
    decoder = circuits.decoder(sparsity.operand_mux, sparsity.metadata, pattern)
    if decoder is not None:
        yield Part("metadata_decoders", decoder, rows * groups)
        yield Part("select_line_registers", flip_flop(), lines * pipeline_cycles(arch, decoder))
    if arch.array.interconnect == "systolic":  # decoded once at the row's edge, then handed on with the activations
        yield Part("select_line_registers", flip_flop(), lines * cols, per_column=True)
    selector = circuits.selector(sparsity.selector, sparsity.metadata, pattern)
    units = derived.selector_units(arch, pattern)
    yield Part("selectors", selector, units, in_array=False)
    held = constant("selector_pipeline_bits_per_element") * pattern.m * (pipeline_cycles(arch, selector) - 1)
    yield Part("selector_pipeline_registers", flip_flop(), units * held, in_array=False)
