"""What the methods of a recipe cost a machine that is built for them: area, leakage, energy, latency, passes.

A circuit that several methods need stands there once. Every figure comes by method, and they add up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from accel_sim.arch import derived
from accel_sim.arch.schema import Arch
from accel_sim.cost import operands, sram
from accel_sim.cost.area import METHOD_CIRCUITS, Area, area
from accel_sim.cost.delays import pipeline_cycles
from accel_sim.cost.method_bills import Bill, Shape, bills_of, shape_for
from accel_sim.cost.scaling import Scale
from accel_sim.cost.tables import dram
from accel_sim.cost.units import UnitCost
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern

if TYPE_CHECKING:  # counts only: no need to load the timing engines
    from accel_sim.timing.activity import Activity

METHOD_TABLES = "method_tables"


@dataclass(frozen=True)
class Methods:
    """The methods that a machine is built for, and what their tables hold."""

    table_bytes: tuple[tuple[str, float], ...] = ()
    """By method's name, of the product that needs most."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.table_bytes)


PLAIN = Methods()
"""Selection by magnitude, and nothing else."""


@dataclass(frozen=True)
class MethodArea:
    """What one method adds to all cores; circuits that it shares with an earlier one are that one's."""

    circuits_um2: float
    tables_um2: float
    leakage_nw: float


@dataclass(frozen=True)
class MethodDelays:
    """What the methods of one product add to the pipeline."""

    select_cycles: int = 0
    requantise_cycles: int = 0
    passes: int = 0
    """Over a token's codes, before the one that selects."""


def methods_of(arch: Arch, products: Iterable[tuple[tuple[str, ...], int, int]]) -> Methods:
    """What a machine must be built for to run products, each with (names of methods, features, outputs).

    Raises AccelSimError for a machine that selects nothing by a circuit and a method that needs one.
    """
    tables: dict[str, float] = {}
    for names, features, outputs in products:
        for bill in _bills(arch, names, features, outputs):
            tables[bill.name] = max(tables.get(bill.name, 0.0), bill.table_bytes)
    return Methods(tuple(tables.items()))


def areas(arch: Arch, methods: Methods) -> dict[str, MethodArea]:
    """By method, in order."""
    if not methods.table_bytes:
        return {}
    scale, cores = Scale.of(arch.technology), arch.cores.count
    found: dict[str, MethodArea] = {}
    built: Counter[UnitCost] = Counter()
    tables = dict(methods.table_bytes)
    for bill in _bills(arch, methods.names, 1, 1):
        needed = _placed(arch, bill)
        more = needed - built
        built |= needed
        circuits_um2 = sum(unit.area_um2 * count for unit, count in more.items())
        leakage = sum(unit.leakage_nw * count for unit, count in more.items())
        tables_um2, tables_nw = sram.part_of_a_bank(arch, tables[bill.name])
        found[bill.name] = MethodArea(
            cores * circuits_um2 * scale.area / arch.technology.utilisation,
            cores * tables_um2,
            cores * (leakage * scale.leakage + tables_nw),
        )
    return found


@cache
def area_with(arch: Arch, methods: Methods = PLAIN) -> Area:
    """The machine's area with the circuits and tables of `methods`, as components of their own."""
    plain, added = area(arch), areas(arch, methods).values()
    more = {
        METHOD_CIRCUITS: sum(one.circuits_um2 for one in added),
        METHOD_TABLES: sum(one.tables_um2 for one in added),
    }
    return replace(plain, components_um2=plain.components_um2 | more)


@cache
def delays_with(arch: Arch, names: tuple[str, ...]) -> MethodDelays:
    """Of a product with these methods: circuits in the selector's and the requantiser's path are pipelined to the
    machine's clock, one behind the other."""
    bills = _bills(arch, names, 1, 1)
    selecting = {circuit.unit for bill in bills for circuit in bill.selector}
    behind = {circuit.unit for bill in bills for circuit in bill.requantiser}
    return MethodDelays(
        sum(pipeline_cycles(arch, unit) for unit in selecting),
        sum(pipeline_cycles(arch, unit) for unit in behind),
        round(sum(bill.passes for bill in bills)),
    )


@dataclass(frozen=True)
class Treated:
    """What `repeat` equal products under a recipe made the machine do."""

    names: tuple[str, ...]
    """Of their methods."""
    pattern: Pattern
    features: int
    outputs: int
    repeat: int
    activity: Activity
    """Of all repeats."""


def energies(arch: Arch, work: Treated) -> dict[str, float]:
    """pJ by method: its circuits by the groups selected and the outputs requantised, passes and tables by the tokens
    selected, and each table once from DRAM for every product."""
    bills = _bills(arch, work.names, work.features, work.outputs)
    return {bill.name: _energy(arch, shape_for(arch, work.features, work.outputs), bill, work) for bill in bills}


def _energy(arch: Arch, shape: Shape, bill: Bill, work: Treated) -> float:
    activity, selected = work.activity, work.activity.selected_groups
    # The circuits are the largest pattern's; a smaller group takes its share of one.
    groups, tokens = selected * work.pattern.m / shape.pattern.m, selected / work.pattern.groups(shape.features)
    logic = (
        sum(circuit.energy_pj for circuit in bill.selector) * groups
        + sum(circuit.energy_pj for circuit in bill.requantiser) * activity.requantised
        + sum(circuit.energy_pj for circuit in bill.core) * tokens
    )
    buffer = sram.memories(arch).activation
    bus = buffer.bank.bus_bytes
    together = 1 if operands.is_stationary(arch) else arch.array.rows
    read = shape.features * tokens * (bill.passes + bill.feature_bytes_read / together)
    read += activity.requantised * bill.output_bytes_read / together
    written = shape.features * tokens * bill.feature_bytes_written / together
    memory = read * buffer.read_pj_per_byte(bus) + written * buffer.write_pj_per_byte(bus)
    return Scale.of(arch.technology).energy * logic + memory + work.repeat * bill.table_bytes * dram_pj_per_byte(arch)


def dram_pj_per_byte(arch: Arch) -> float:
    return 8 * dram(arch.dram.kind).value


def _placed(arch: Arch, bill: Bill) -> Counter[UnitCost]:
    """How often each of its circuits stands in one core."""
    selectors = derived.selector_units(arch, shape_for(arch, 1, 1).pattern)
    placed: Counter[UnitCost] = Counter()
    for part, count in ((bill.selector, selectors), (bill.requantiser, arch.array.requantisers), (bill.core, 1)):
        for circuit in part:
            placed[circuit.unit] += count
    return placed


def _bills(arch: Arch, names: tuple[str, ...], features: int, outputs: int) -> list[Bill]:
    """Raises AccelSimError where no circuit selects that a method could stand in."""
    if not names:
        return []
    try:
        shape = shape_for(arch, features, outputs)
    except AccelSimError as problem:
        raise AccelSimError(f"{problem}: {', '.join(names)}") from None
    return bills_of(shape, names)


def by_name(arch: Arch, names: tuple[str, ...]) -> Mapping[str, Bill]:
    """What each method is and what it is built of."""
    return {bill.name: bill for bill in _bills(arch, names, 1, 1)}
