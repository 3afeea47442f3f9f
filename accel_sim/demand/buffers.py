"""What an operation asks of the buffers of every core: SRAM for activations, weights, outputs, and partial sums.

A line is one panel of an operand with the features of its item: read once for every array tile that uses it, spread
evenly over the item's time in the array. What a load brings, and what an item's tiles leave, is a line an item. The
ports move it over the cycles that follow; a line for every port width and cycle would say no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accel_sim.arch.derived import array_pattern
from accel_sim.arch.schema import Arch
from accel_sim.demand.operands import Operand, Walk
from accel_sim.demand.requests import (
    ACCUMULATOR_SRAM,
    ACTIVATION_SRAM,
    OUTPUT_SRAM,
    WEIGHT_SRAM,
    Integers,
    Requests,
)
from accel_sim.pattern import Pattern
from accel_sim.timing.formats import formats
from accel_sim.timing.layer import LayerTiming
from accel_sim.timing.pipeline import COMPUTE, LOAD, REQUANTISE, SELECT, STORE
from accel_sim.timing.product import Product
from accel_sim.timing.stages import selects_at_load
from accel_sim.timing.tiling import ACCUMULATOR_BYTES, chunk_step
from accel_sim.timing.vector import VectorTiming


@dataclass(frozen=True)
class _Buffer:
    """One operand's SRAM, the same in every core."""

    level: int
    capacity: int
    row_written: int
    """Bytes of a row as it stands here."""
    row_read: int
    """The same as it goes to the array: the operand that is not pruned, with what pads its last group."""

    def place(self, operand: Operand, run: Integers) -> Integers:
        """Where the items' runs start, [items]: the halves take turns, block by block or item by item."""
        if operand.replacement in ("double", "chunks"):
            return _half(run if operand.whole else np.arange(len(run)), self.capacity)
        return run * operand.panel_units * self.row_written * (operand.replacement == "resident")


@dataclass(frozen=True)
class _Tiles:
    """Array tiles of all items in execution order; arrays over [tiles]."""

    core: Integers
    item: Integers
    panel: Integers
    """Of the item's block: every tile takes the next one, and the same panel of the other operand."""
    cycle: Integers

    @classmethod
    def of(cls, timing: LayerTiming) -> _Tiles:
        """Evenly over each item's time in the array."""
        tiles = timing.plan.items.tiles
        core, item = (np.repeat(axis.ravel(), tiles.ravel()) for axis in np.indices(tiles.shape))
        panel = np.arange(len(item)) - np.repeat(np.cumsum(tiles) - tiles.ravel(), tiles.ravel())
        start, end = (
            _own(timing, times)[core, item, COMPUTE] for times in (timing.schedule.start, timing.schedule.end)
        )
        return cls(core, item, panel, start + panel * (end - start) // tiles[core, item])

    def rows(self, operand: Operand) -> Integers:
        """Rows of the operand in each tile."""
        units = operand.runs.units[self.core, operand.run[self.item]]
        return np.minimum(operand.panel_units, units - self.panel * operand.panel_units) if operand.held else units


def product_buffers(timing: LayerTiming, arch: Arch, pattern: Pattern | None, walked: Walk) -> Requests:
    """Every access of one product, by cycle."""
    items, product = timing.plan.items, timing.plan.product
    activations, weights = _operand_buffers(product, arch, pattern)
    activations_arrive, weights_arrive = _arrivals(timing, arch, pattern, walked)
    tiles = _Tiles.of(timing)
    lines = [
        _arriving(activations, walked.activations, items.loaded_activations, product, _own(timing, activations_arrive)),
        _arriving(weights, walked.weights, items.loaded_weights, product, _own(timing, weights_arrive)),
        _reading(activations, walked.activations, tiles, timing),
        _reading(weights, walked.weights, tiles, timing),
        *_outputs(timing, arch),
    ]
    if product.gathers_features and not items.loaded_activations.any():
        # What was read ahead of the items has stayed: in each core its own tokens, or those that all need.
        cores = np.arange(arch.cores.count)
        tokens, cycle = walked.activations.runs.units.sum(axis=1), activations_arrive[:, 0]
        brought = tokens * activations.row_written
        lines.append(Requests.of(cycle, activations.level, cores, 0, brought, True))
    if arch.array.dataflow == "weight_stationary":
        lines += _partial_sums(timing, arch, pattern, walked, tiles)
    return Requests.joined(lines).in_order()


def _operand_buffers(product: Product, arch: Arch, pattern: Pattern | None) -> tuple[_Buffer, _Buffer]:
    """Those of activations and of weights."""
    stored, used = formats(product, arch, pattern), array_pattern(arch, pattern)
    padded = product.features if used is None else used.groups(product.features) * used.m
    activations, weights = stored.activation_sram_bytes, stored.weight_sram_bytes
    taken = (padded, weights) if arch.sparsity.operand == "weights" else (activations, padded)
    return (
        _Buffer(ACTIVATION_SRAM, arch.sram.activation_bytes, activations, taken[0]),
        _Buffer(WEIGHT_SRAM, arch.sram.weight_bytes, weights, taken[1]),
    )


def _arrivals(timing: LayerTiming, arch: Arch, pattern: Pattern | None, walked: Walk) -> tuple[Integers, Integers]:
    """Cycles in which activations and weights start to come out of the DRAM, or of the selectors; [cores, items]."""
    start, latencies = timing.schedule.start, timing.plan.pipeline.latencies
    loaded = start[..., LOAD] + latencies[LOAD]
    activations, weights = (loaded[operand.runs.fetcher] for operand in (walked.activations, walked.weights))
    if selects_at_load(arch, pattern):
        activations = start[..., SELECT] + latencies[SELECT]
    return activations, weights


def vector_buffers(timing: VectorTiming, arch: Arch) -> Requests:
    """Every access of one vector operation, a line for each chunk of rows, by cycle."""
    work, start, operation = timing.work, timing.schedule.start, timing.work.operation
    cores, chunks = np.indices(work.groups.shape)
    inputs, results = (_half(chunks, size) for size in (arch.sram.activation_bytes, arch.sram.output_bytes))
    lanes = work.lane_operations // max(1, int(np.gcd.reduce(work.lane_operations, axis=None)))
    taken, made = (_shares(total, lanes) for total in (operation.read_bytes, operation.written_bytes))
    arrives = start[..., LOAD] + timing.pipeline.latencies[LOAD]
    lines = [
        Requests.of(arrives, ACTIVATION_SRAM, cores, inputs, work.read_bytes, True),
        Requests.of(start[..., COMPUTE], ACTIVATION_SRAM, cores, inputs, taken, False),
        Requests.of(start[..., REQUANTISE], OUTPUT_SRAM, cores, results, made, True),
        Requests.of(start[..., STORE], OUTPUT_SRAM, cores, results, work.written_bytes, False),
    ]
    return Requests.joined(lines).in_order()


def _arriving(buffer: _Buffer, operand: Operand, loaded: Integers, product: Product, cycle: Integers) -> Requests:
    """What the items' loads write; `loaded` elements and `cycle` are [cores, items]."""
    ends = np.cumsum(loaded) * buffer.row_written // product.features
    brought = np.diff(ends, prepend=0).reshape(loaded.shape)
    address = buffer.place(operand, operand.fetched) + operand.brought_before(brought)
    return Requests.of(cycle, buffer.level, np.arange(len(loaded))[:, None], address, brought, True)


def _reading(buffer: _Buffer, operand: Operand, tiles: _Tiles, timing: LayerTiming) -> Requests:
    """What the array takes: a panel for every tile, in the features of the tile's item."""
    items, features = timing.plan.items, timing.plan.product.features
    begin = items.first_feature[tiles.core, tiles.item]
    end = begin + items.features[tiles.core, tiles.item]
    row = buffer.row_read * end // features - buffer.row_read * begin // features
    address = buffer.place(operand, operand.run)[tiles.item]
    if operand.held:
        address = address + tiles.panel * operand.panel_units * buffer.row_written
    if operand.whole:
        address = address + buffer.row_written * begin // features
    return Requests.of(tiles.cycle, buffer.level, tiles.core, address, tiles.rows(operand) * row, False)


def _partial_sums(
    timing: LayerTiming, arch: Arch, pattern: Pattern | None, walked: Walk, tiles: _Tiles
) -> list[Requests]:
    """INT32 sums that every fold of a tile reads and writes, all folds of the tile in one line each."""
    halves = 2 if arch.array.drain == "overlapped" else 1
    address = np.arange(len(tiles.item)) % halves * (arch.sram.accumulator_bytes // 2)
    folds = -(-timing.plan.items.features[tiles.core, tiles.item] // chunk_step(arch, array_pattern(arch, pattern)))
    moved = ACCUMULATOR_BYTES * folds * tiles.rows(walked.activations) * tiles.rows(walked.weights)
    common = (tiles.cycle, ACCUMULATOR_SRAM, tiles.core, address, moved)
    return [Requests.of(*common, False), Requests.of(*common, True)]


def _outputs(timing: LayerTiming, arch: Arch) -> list[Requests]:
    """Requantised outputs of each item, on their way in and out: the halves take turns."""
    items, start = timing.plan.items, _own(timing, timing.schedule.start)
    cores, index = np.indices(items.tokens.shape)
    address = _half(index, arch.sram.output_bytes)
    made = items.tokens * items.outputs * items.completes
    return [
        Requests.of(start[..., REQUANTISE], OUTPUT_SRAM, cores, address, made, True),
        Requests.of(
            start[..., STORE],
            OUTPUT_SRAM,
            cores,
            address,
            timing.plan.traffic.write // arch.array.stored_output_bytes,
            False,
        ),
    ]


def _shares(total: int, parts: Integers) -> Integers:
    """`total` in proportion to `parts`, rounded so that the shares add up to it."""
    ends = np.cumsum(parts)
    return np.diff(ends * total // max(1, int(ends[-1])), prepend=0).reshape(parts.shape)


def _half(turn: Integers, capacity: int) -> Integers:
    """Where the half of a buffer starts that is used in turn."""
    return turn % 2 * (capacity // 2)


def _own(timing: LayerTiming, times: Integers) -> Integers:
    """`times` [cores, items, …] of the product's own items, without the one that reads ahead for them."""
    return times[:, times.shape[1] - timing.plan.items.tokens.shape[1] :]
