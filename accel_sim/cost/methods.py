"""What every pruning criterion and every mitigation adds to a machine, so that the cheapest good one can be chosen."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

from accel_sim.arch import derived
from accel_sim.arch.schema import Arch
from accel_sim.cost import operands, sram
from accel_sim.cost.area import area
from accel_sim.cost.method_bills import Bill, Shape, all_bills, shape_for
from accel_sim.cost.scaling import Scale


@dataclass(frozen=True)
class MethodCost:
    """What one method adds to one machine for one product of features × outputs."""

    name: str
    kind: Literal["criterion", "mitigation"]
    area_um2: float
    """Circuits and tables at the machine's node, all cores; tables of one site."""
    overhead: float
    """`area_um2` over the machine's area."""
    energy_pj_per_token: float
    """Everything besides `macs_per_token`, on the machine's energy scale."""
    energy_overhead: float
    """That and the energy of the extra multiplications, over the pruned product's multiplications."""
    macs_per_token: float
    """Multiplications on the array besides the product's."""
    cycles_per_token: float
    """The core's, where nothing hides them; those of the extra multiplications included."""
    table_bytes: float
    """Of one site, on chip."""
    weight_bytes: float
    """Of one site: more weights, which travel as the others do."""
    rule: str
    """What it is built of, and what is folded away."""


def methods_cost(arch: Arch, features: int, outputs: int) -> tuple[MethodCost, ...]:
    """Every criterion and mitigation on `arch`, for a product of so many features and outputs.

    A flexible machine is taken with its largest pattern. Raises AccelSimError for a machine that selects nothing, for
    patterns of two levels, and for sizes below 1.
    """
    shape = shape_for(arch, features, outputs)
    return tuple(_cost(shape, bill) for bill in all_bills(shape))


def _cost(shape: Shape, bill: Bill) -> MethodCost:
    arch, scale, cores = shape.arch, Scale.of(shape.arch.technology), shape.arch.cores.count
    selectors = derived.selector_units(arch, shape.pattern)
    circuits_um2 = (
        sum(circuit.unit.area_um2 for circuit in bill.selector) * selectors
        + sum(circuit.unit.area_um2 for circuit in bill.requantiser) * arch.array.requantisers
        + sum(circuit.unit.area_um2 for circuit in bill.core)
    )
    tables_um2, _ = sram.part_of_a_bank(arch, bill.table_bytes)
    extra_um2 = cores * (circuits_um2 * scale.area / arch.technology.utilisation + tables_um2)
    groups = ceil(shape.features / shape.pattern.m)
    energy = scale.energy * _logic_pj(shape, bill, groups) + _memory_pj(shape, bill)
    multiply = scale.energy * shape.library.unit("dot_product", lanes=arch.array.lanes).energy_pj / arch.array.lanes
    product = shape.features * shape.outputs * shape.pattern.density * multiply
    multipliers = arch.array.rows * arch.array.cols * arch.array.lanes
    passes = bill.passes * groups / selectors
    return MethodCost(
        name=bill.name,
        kind=bill.kind,
        area_um2=extra_um2,
        overhead=extra_um2 / area(arch).total_um2,
        energy_pj_per_token=energy,
        energy_overhead=(energy + bill.macs * multiply) / product,
        macs_per_token=bill.macs,
        cycles_per_token=passes + bill.macs / multipliers,
        table_bytes=bill.table_bytes,
        weight_bytes=bill.weight_bytes,
        rule=bill.rule,
    )


def _logic_pj(shape: Shape, bill: Bill, groups: int) -> float:
    """Of one token."""
    return (
        sum(circuit.energy_pj for circuit in bill.selector) * groups
        + sum(circuit.energy_pj for circuit in bill.requantiser) * shape.outputs
        + sum(circuit.energy_pj for circuit in bill.core)
    )


def _memory_pj(shape: Shape, bill: Bill) -> float:
    """Of one token: further passes over its codes, and tables, whose entry serves the tokens of all rows at once."""
    buffer = sram.memories(shape.arch).activation
    bus = buffer.bank.bus_bytes
    tokens = 1 if operands.is_stationary(shape.arch) else shape.arch.array.rows
    tables = shape.features * bill.feature_bytes_read + shape.outputs * bill.output_bytes_read
    read = (shape.features * bill.passes + tables / tokens) * buffer.read_pj_per_byte(bus)
    return read + shape.features * bill.feature_bytes_written / tokens * buffer.write_pj_per_byte(bus)
