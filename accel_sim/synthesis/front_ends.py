"""Front ends of arrays that skip: what their circuits are fed with and must return.

Both are measured as the shipped machines use them: elastic slices of 4 of 16 lanes that wait for each other every 32
groups, and two levels of which the outer one is 1:2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from accel_sim.encoding import encode
from accel_sim.pattern import HierarchicalPattern, Pattern
from accel_sim.rtl.skipping import ElasticFrontEnd, HierarchicalSelector
from accel_sim.synthesis import reference
from accel_sim.synthesis.operands import Operands
from accel_sim.synthesis.power import STREAMS
from accel_sim.synthesis.unit import Ports, Unit, is_half

LANES, ELASTIC_LANES, SYNC_WINDOW = 16, 4, 32
OUTER = "1:2"
_LARGEST_HIERARCHY = 32
"""Features of an outer group, beyond which nothing is measured elsewhere either."""


def front_ends(patterns: tuple[Pattern, ...]) -> Iterator[Unit]:
    """An elastic front end and a two-level selector for each pattern that keeps half."""
    halves = [pattern for pattern in patterns if is_half(pattern) and pattern.n <= LANES]
    for pattern in halves:
        build = lambda p=pattern: ElasticFrontEnd(p, LANES, ELASTIC_LANES, SYNC_WINDOW)  # noqa: E731
        yield Unit("elastic_front_end", build, _dealing(pattern), n=pattern.n, m=pattern.m, lanes=LANES)
    for inner in halves:
        if 2 * inner.m <= _LARGEST_HIERARCHY:
            pattern = HierarchicalPattern(f"{OUTER} of {inner}")
            build = lambda p=pattern: HierarchicalSelector(p)  # noqa: E731
            yield Unit("hierarchical_selector", build, _two_levels(pattern), n=pattern.n, m=pattern.m)


def _two_levels(pattern: HierarchicalPattern) -> Callable[[Operands, int], tuple[Ports, Ports]]:
    def drive(operands: Operands, cycles: int) -> tuple[Ports, Ports]:
        tiles = operands.groups(cycles, pattern)
        values, positions = tiles.values[:, :, 0], tiles.positions[:, :, 0]
        fields = encode(positions.reshape(-1, 1, pattern.n), pattern, "bitmap").astype(np.int64)
        weights = np.int64(1) << 8 * np.arange(fields.shape[1])
        made = {
            "kept": np.take_along_axis(values, positions, axis=-1),
            "metadata": (fields * weights).sum(axis=1).reshape(cycles, STREAMS),
            "bitmap": reference.bitmap(positions),
        }
        return {"values": values, "valid_count": np.full((cycles, STREAMS), pattern.m)}, made

    return drive


def _dealing(pattern: Pattern) -> Callable[[Operands, int], tuple[Ports, Ports]]:
    def drive(operands: Operands, cycles: int) -> tuple[Ports, Ports]:
        # A group is handed out in at least one cycle, so no slice takes more groups than there are cycles.
        tiles = operands.groups(cycles * LANES // ELASTIC_LANES + SYNC_WINDOW, pattern)
        kept = np.take_along_axis(tiles.values[:, :, 0], tiles.positions[:, :, 0], axis=-1)
        return _deal(kept, tiles.positions[:, :, 0], cycles, pattern)

    return drive


def _deal(kept: np.ndarray, positions: np.ndarray, cycles: int, pattern: Pattern) -> tuple[Ports, Ports]:
    """One row, whose windows follow each other at once: kept and positions [groups, 64, N] → ports over the cycles."""
    slices, picks = LANES // ELASTIC_LANES, min(ELASTIC_LANES, pattern.n)
    dealt = -(-SYNC_WINDOW // slices)
    number, rows = np.arange(slices), np.arange(STREAMS)[:, None]
    held, places = np.zeros((2, STREAMS, slices, pattern.n), np.int64)
    pending = np.zeros((STREAMS, slices, pattern.n), bool)
    taken, first = np.zeros((STREAMS, slices), np.int64), np.zeros(STREAMS, np.int64)
    window = np.zeros(STREAMS, np.int64)
    inputs: dict[str, list[np.ndarray]] = {}
    outputs: dict[str, list[np.ndarray]] = {}
    for _ in range(cycles):
        order = np.argsort(~pending, axis=2, kind="stable")[..., :picks]
        active = np.take_along_axis(pending, order, axis=2)
        left_slots = pending.copy()
        np.put_along_axis(left_slots, order, False, axis=2)
        free = ~left_slots.any(axis=2)
        done = (free & ~(number + slices * taken < window[:, None])).all(axis=1)
        first = first + np.where(done, window, 0)
        ready = free & (
            number + slices * np.where(done[:, None], 0, taken) < np.where(done, SYNC_WINDOW, window)[:, None]
        )
        group = first[:, None] + number + slices * np.where(done[:, None], 0, taken)
        given, given_places = kept[group, rows], positions[group, rows]
        cycle_inputs = {
            "kept": given.reshape(STREAMS, -1),
            "metadata": reference.bitmap(given_places),
            "valid": np.full(STREAMS, 2**slices - 1),
            "release": done.astype(np.int64),
            "window_groups": np.full(STREAMS, SYNC_WINDOW),
        }
        cycle_outputs = {
            "ready": (ready << number).sum(axis=1),
            "done": done.astype(np.int64),
            "values": np.where(active, np.take_along_axis(held, order, axis=2), 0).reshape(STREAMS, -1),
            "positions": np.where(active, np.take_along_axis(places, order, axis=2), 0).reshape(STREAMS, -1),
            "active": (active.reshape(STREAMS, -1) << np.arange(slices * picks)).sum(axis=1),
            "groups": (taken - 1) % (1 << (dealt - 1).bit_length()),
        }
        for made, ports in ((inputs, cycle_inputs), (outputs, cycle_outputs)):
            for name, values in ports.items():
                made.setdefault(name, []).append(values)
        pending = np.where(ready[..., None], given != 0, left_slots)
        held = np.where(ready[..., None], given, held)
        places = np.where(ready[..., None], given_places, places)
        taken = np.where(done[:, None], 0, taken) + ready
        window = np.where(done, SYNC_WINDOW, window)
    return tuple({name: np.stack(rows) for name, rows in ports.items()} for ports in (inputs, outputs))
