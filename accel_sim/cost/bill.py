"""A line of the bill of materials, and the components that lines belong to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from accel_sim.cost.circuits import multiplexer_2
from accel_sim.cost.units import Library, UnitCost

LOGIC_COMPONENTS = (
    "multipliers_and_adder_trees",
    "column_sums",
    "operand_multiplexers",
    "window_multiplexers",
    "operand_mux_registers",
    "activation_registers",
    "weight_registers",
    "weight_load_multiplexers",
    "weight_shift_multiplexers",
    "window_buffers",
    "metadata_registers",
    "metadata_decoders",
    "select_line_registers",
    "zero_skipping",
    "accumulator_drain",
    "zero_gating",
    "selectors",
    "selector_pipeline_registers",
    "gathering",
    "prediction",
    "requantisers",
    "token_scale_units",
    "control",
)
"""Every logic component, in the order of a report; a machine without one holds 0 of it."""


@dataclass(frozen=True)
class Part:
    """`count` instances of a circuit in one component of one core."""

    component: str
    unit: UnitCost
    count: float
    per_column: bool = False
    """Grows with the number of columns."""
    in_array: bool = True
    """Stands in the array's block, over which operands are broadcast."""

    @property
    def area_um2(self) -> float:
        """Cell area at the library's node."""
        return self.unit.area_um2 * self.count

    @property
    def leakage_nw(self) -> float:
        return self.unit.leakage_nw * self.count


def held_register(
    library: Library, component: str, load_component: str, bits: float, count: float, *, per_column: bool
) -> Iterator[Part]:
    """`count` registers of `bits` that keep what they hold until they are loaded: a flip-flop and a 2:1 multiplexer a
    bit (their clock is not gated)."""
    yield Part(component, library.flip_flop, count * bits, per_column=per_column)
    yield Part(
        load_component, multiplexer_2(library, bits, f"load or hold, {bits:g} bits"), count, per_column=per_column
    )
