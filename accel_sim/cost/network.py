"""How the lanes of one machine get the operands of one pattern: multiplexers, select lines, and what drives them.

Area, clock, latency, energy and tracks all read this one description, so no option can be charged in one and free in
another. The *edge* is the array's rows where activations are pruned, its columns where weights are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import ceil

from accel_sim.arch import derived
from accel_sim.arch.schema import Arch
from accel_sim.cost import circuits, hierarchy, skipping
from accel_sim.cost.circuits import TABLE_BITS, LineActivity
from accel_sim.cost.units import Library, UnitCost, library_of
from accel_sim.pattern import Pattern


@dataclass(frozen=True)
class Placed:
    """So many instances of a circuit."""

    unit: UnitCost
    count: float

    @property
    def energy_pj(self) -> float:
        """All of them, once."""
        return self.unit.energy_pj * self.count


@dataclass(frozen=True)
class Skipping:
    """What a row needs besides to skip zeros (`elastic`, `unstructured`)."""

    window_bytes: int
    """Weights of a synchronisation window."""
    groups_held: int
    """Groups whose kept values and positions wait at the row's edge while they are worked on."""
    group_values: int
    """Values of one of them."""
    value_bits: int
    """A value, its position unless all are kept, and a flag that it is not zero."""
    window_multiplexers: tuple[Placed, ...]
    """In one processing element: which group of the window a slice works on."""
    zero_detectors: int
    """In one row: a value of every group that arrives in a cycle."""
    finders: tuple[Placed, ...]
    """In one row: the next non-zeros."""
    rounds_per_group: float
    """How often a row's finders work for one group, at most."""
    selects: tuple[Placed, ...]
    """In one row: multiplexers for the values found and their positions."""
    counter_bits: int
    """In one row: which group of the window each slice works on."""


@dataclass(frozen=True)
class Network:
    """What serves one pattern."""

    multiplexers: tuple[Placed, ...]
    """In one processing element, in the order an operand passes them."""
    slots: int
    """Lanes of a processing element that can hold a slot."""
    select_lines: int
    """Into one processing element."""
    activity: LineActivity
    """On the lines of one group when it comes."""
    decoder: UnitCost | None
    """From one group's metadata to its select lines, or to the positions of its values."""
    decoders: int
    """Side by side at one place of the edge."""
    skipping: Skipping | None = None

    @property
    def in_series(self) -> list[UnitCost]:
        """From weight (or activation) register to multiplier."""
        before = self.skipping.window_multiplexers if self.skipping else ()
        return [placed.unit for placed in (*before, *self.multiplexers)]

    @property
    def delay_ns(self) -> float:
        return sum(unit.delay_ns for unit in self.in_series)

    @property
    def slot_pj(self) -> float:
        """The multiplexers of one slot, once."""
        return sum(placed.energy_pj for placed in self.multiplexers) / self.slots


def networks(arch: Arch) -> tuple[Network, ...]:
    """Of every pattern that the array has multiplexers for."""
    return tuple(network(arch, pattern) for pattern in derived.array_patterns(arch))


@cache
def network(arch: Arch, pattern: Pattern) -> Network:
    """The network of one of `derived.array_patterns`."""
    build = {"elastic": _elastic, "unstructured": _unstructured}
    return build.get(arch.sparsity.skipping, _fixed)(arch, pattern)


def _fixed(arch: Arch, pattern: Pattern) -> Network:
    """Every group takes its N slots, of one or two levels."""
    library, sparsity, lanes = library_of(arch), arch.sparsity, arch.array.lanes
    groups = derived.groups_per_cycle(lanes, pattern)
    slots = min(lanes, groups * pattern.n)  # whole groups side by side, or all lanes on a part of one
    return Network(
        multiplexers=(Placed(hierarchy.multiplexer(library, sparsity.operand_mux, pattern), slots / pattern.n),),
        slots=slots,
        select_lines=groups * hierarchy.select_bits(sparsity.operand_mux, pattern),
        activity=hierarchy.line_activity(sparsity.operand_mux, pattern),
        decoder=hierarchy.decoder(library, sparsity.operand_mux, sparsity.metadata, pattern),
        decoders=groups,
    )


def _elastic(arch: Arch, pattern: Pattern) -> Network:
    """Slices of lanes, each on a group of its own: which of the slice's groups in the window, then any of its M."""
    library, sparsity, n, m = library_of(arch), arch.sparsity, pattern.n, pattern.m
    slices, picks = derived.slices(arch), min(sparsity.elastic_lanes, pattern.n)
    slots = slices * picks
    dealt = -(-sparsity.sync_window // slices)
    position, group = skipping.position_bits(m), skipping.position_bits(dealt)
    lines = slots * position + slices * group
    finder = skipping.finder(library, picks, n)
    return Network(
        multiplexers=tuple(_placed(circuits.tree(library, m), slots)),
        slots=slots,
        select_lines=lines,
        activity=LineActivity(n * position + group, 0.0),
        decoder=None if pattern.keeps_all else circuits.decoder(library, "full", sparsity.metadata, pattern),
        decoders=derived.supplied_groups_per_cycle(arch),
        skipping=Skipping(
            window_bytes=sparsity.sync_window * m,
            groups_held=slices,
            group_values=n,
            value_bits=_value_bits(pattern),
            window_multiplexers=tuple(_placed(circuits.tree(library, dealt), slices * m)),
            zero_detectors=derived.supplied_groups_per_cycle(arch) * n,
            finders=tuple(_placed(finder, slices)),
            rounds_per_group=-(-n // picks),
            selects=tuple(_placed(circuits.tree(library, n, _selected_bits(pattern, position)), slots)),
            counter_bits=slices * max(1, group),
        ),
    )


def _unstructured(arch: Arch, pattern: Pattern) -> Network:
    """Any `lanes` non-zeros of a window in a cycle: trees over the whole window, or over each bank and the banks."""
    library, sparsity, lanes = library_of(arch), arch.sparsity, arch.array.lanes
    positions, values = sparsity.sync_window * pattern.m, sparsity.sync_window * pattern.n
    banks = min(sparsity.window_banks or 1, positions)
    position = skipping.position_bits(positions)
    selected_bits = _selected_bits(pattern, position)
    if sparsity.window_banks is None:
        trees, finders = (
            _placed(circuits.tree(library, positions), lanes),
            _placed(skipping.finder(library, lanes, values), 1),
        )
        selects = _placed(circuits.tree(library, values, selected_bits), lanes)
        lines = lanes * position
    else:
        in_bank, values_in_bank = -(-positions // banks), -(-values // banks)
        trees = _banked(library, in_bank, banks, lanes, TABLE_BITS)
        finders = [
            *_placed(skipping.finder(library, 1, values_in_bank), banks),
            *_placed(skipping.finder(library, lanes, banks), 1),
        ]
        selects = _banked(library, values_in_bank, banks, lanes, selected_bits)
        lines = banks * skipping.position_bits(in_bank) + lanes * skipping.position_bits(banks)
    return Network(
        multiplexers=tuple(trees),
        slots=lanes,
        select_lines=lines,
        activity=LineActivity(pattern.n * lines / lanes, 0.0),
        decoder=None if pattern.keeps_all else circuits.decoder(library, "full", sparsity.metadata, pattern),
        decoders=derived.supplied_groups_per_cycle(arch),
        skipping=Skipping(
            window_bytes=positions,
            groups_held=sparsity.sync_window,
            group_values=pattern.n,
            value_bits=_value_bits(pattern),
            window_multiplexers=(),
            zero_detectors=derived.supplied_groups_per_cycle(arch) * pattern.n,
            finders=tuple(finders),
            rounds_per_group=ceil(values / lanes) / sparsity.sync_window,
            selects=tuple(selects),
            counter_bits=position,
        ),
    )


def _placed(unit: UnitCost | None, count: float) -> Iterator[Placed]:
    if unit is not None:
        yield Placed(unit, count)


def _value_bits(pattern: Pattern) -> int:
    return TABLE_BITS + (0 if pattern.keeps_all else skipping.position_bits(pattern.m)) + 1


def _selected_bits(pattern: Pattern, position: int) -> int:
    """What is selected at the row's edge for a lane: a value, with its position unless that is its place."""
    return TABLE_BITS + (0 if pattern.keeps_all else position)


def _banked(library: Library, places: int, banks: int, lanes: int, bits: int) -> list[Placed]:
    """One of its places from every bank, and a crossbar that gives any bank's to any lane."""
    return [*_placed(circuits.tree(library, places, bits), banks), *_placed(circuits.tree(library, banks, bits), lanes)]
