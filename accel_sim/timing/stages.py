"""How long each stage works on each item, and what its compute time is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from accel_sim.arch.derived import (
    activation_bits_per_row_cycle,
    activation_port_bytes_per_cycle,
    selector_units,
    tile_row_cycles,
    weight_bytes_per_column_cycle,
    weight_port_bytes_per_cycle,
)
from accel_sim.arch.schema import Arch
from accel_sim.pattern import Pattern
from accel_sim.timing.pipeline import Pipeline
from accel_sim.timing.tiling import Formats, Integers, Items
from accel_sim.workload import Gemm


@dataclass(frozen=True)
class Latencies:
    """Cycles from the last operand in to the last result out of each unit, beyond the time it is occupied."""

    select: int
    compute: int
    requantise: int


@dataclass(frozen=True)
class ComputeTime:
    """Cycles of the compute stage by item and reason; they add up to the stage's duration."""

    array: Integers
    """Every lane fed every cycle."""
    weight_port: Integers
    """Waiting for weights, where the port is narrower than the demand."""
    sram: Integers
    """Waiting for activations, where their port is."""
    requantise: Integers
    """Waiting until the requantisers have taken the tile before."""
    fill: Integers
    """Operands on their way through the array, where the next tile may not follow at once."""
    drain: Integers
    """Emptying the accumulators, where that is not overlapped."""

    @property
    def total(self) -> Integers:
        return self.array + self.weight_port + self.sram + self.requantise + self.fill + self.drain


@dataclass(frozen=True)
class Traffic:
    """DRAM bytes by item."""

    read: Integers
    write: Integers


def compute_time(items: Items, arch: Arch, pattern: Pattern | None, latencies: Latencies) -> ComputeTime:
    """The compute stage: tiles of the item one behind the other, each as slow as its slowest supply.

    The last tile of an item may be narrower; it is counted as wide as the others.
    """
    array = arch.array
    tile = tile_row_cycles(array.lanes, items.features, pattern)
    weights = np.minimum(items.outputs, array.cols) * weight_bytes_per_column_cycle(arch, pattern)
    fed_by_weights = _slowed(tile, weights, weight_port_bytes_per_cycle(arch))
    activation_bits = np.minimum(items.tokens, array.rows) * activation_bits_per_row_cycle(arch, pattern)
    fed_by_activations = _slowed(tile, activation_bits, 8 * activation_port_bytes_per_cycle(arch))
    slowest = np.maximum(np.maximum(fed_by_weights, fed_by_activations), tile)
    weights_are_slower = fed_by_weights >= fed_by_activations
    waiting = (slowest - tile) * items.array_tiles
    gap = 0 if array.fold_overlap else skew(arch) or latencies.compute
    drain = _drain_cycles(items, arch)
    none = np.zeros_like(tile)
    serial = array.drain == "serial"
    return ComputeTime(
        array=tile * items.array_tiles,
        weight_port=np.where(weights_are_slower, waiting, 0),
        sram=np.where(weights_are_slower, 0, waiting),
        requantise=none if serial else _waits_for_requantisers(items, drain, slowest + gap),
        fill=items.array_tiles * gap,
        drain=items.array_tiles * drain if serial else none,
    )


def _waits_for_requantisers(items: Items, drain: Integers, tile: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Cycles until the second accumulators are free, where emptying them takes longer than the next tile.

    Every tile waits for the one before it, and the first tile of an item for the last one of the item before, as if it
    followed at once (at most one drain too long where it does not). Items of one tile wait in the requantise stage.
    """
    before = np.concatenate([[0], drain[:-1]])
    first = np.where(items.array_tiles > 1, np.maximum(before - tile, 0), 0)
    return first + (items.array_tiles - 1) * np.maximum(drain - tile, 0)


def enlarged_compute_time(compute: ComputeTime, items: Items, arch: Arch, factor: float) -> npt.NDArray[np.float64]:
    """Cycles by item on an array with `factor` times the columns (a fraction), its requantisers unchanged.

    A wider tile is fed as fast and does `factor` times the work, but has as many more accumulators to requantise.
    """
    fed = (compute.array + compute.weight_port + compute.sram + compute.fill) / factor
    if arch.array.drain == "serial":
        return fed + compute.drain
    return fed + _waits_for_requantisers(items, _drain_cycles(items, arch), fed / items.array_tiles)


def skew(arch: Arch) -> int:
    """Cycles that the last processing element of a systolic array works behind the first; 0 with broadcast operands."""
    return arch.array.rows + arch.array.cols - 2 if arch.array.interconnect == "systolic" else 0


def _slowed(tile: Integers, demand: Integers, supply: int) -> Integers:
    return -(-tile * demand // supply)


def _drain_cycles(items: Items, arch: Arch) -> Integers:
    """Cycles that emptying one array tile of each item takes."""
    return np.where(items.completes & (arch.array.drain != "none"), requantise_cycles(items, arch), 0)


def requantise_cycles(items: Items, arch: Arch) -> Integers:
    """Cycles to take one array tile's accumulators to INT8 (the last tile of an item may be smaller; counted full)."""
    accumulators = np.minimum(items.tokens, arch.array.rows) * np.minimum(items.outputs, arch.array.cols)
    return -(-accumulators // arch.array.requantisers)


def traffic(items: Items, gemm: Gemm, stored: Formats) -> Traffic:
    """DRAM bytes of each item's load and store. Shares of a row are rounded so that the totals stay exact."""
    read = _share_of_rows(items.loaded_activations, gemm.features, stored.activation_dram_bytes)
    read = read + _share_of_rows(items.loaded_weights, gemm.features, stored.weight_dram_bytes)
    return Traffic(read, np.where(items.completes, items.tokens * items.outputs, 0))


def _share_of_rows(elements: Integers, features: int, row_bytes: int) -> Integers:
    """Elements of a dense matrix → bytes (or groups) by whole rows, carrying fractions of a row to the next item."""
    rows, rest = np.divmod(np.cumsum(elements), features)
    return np.diff(rows * row_bytes + rest * row_bytes // features, prepend=0)


def pipeline(
    items: Items,
    compute: ComputeTime,
    moved: Traffic,
    gemm: Gemm,
    arch: Arch,
    pattern: Pattern | None,
    latencies: Latencies,
) -> Pipeline:
    """The five stages' occupation by every item."""
    overlapped = arch.array.drain == "overlapped"
    requantise = _drain_cycles(items, arch) * overlapped
    select = select_cycles(items, gemm, arch, pattern)
    load, store = _dram_cycles(moved.read, arch), _dram_cycles(moved.write, arch)
    selecting = latencies.select if _selects(arch, pattern) else 0
    through = latencies.compute + (skew(arch) if arch.array.fold_overlap else 0)
    waits = [arch.dram.latency_cycles, selecting, through, latencies.requantise, 0]
    return Pipeline(
        durations=np.stack([load, select, compute.total, requantise, store], axis=1),
        latencies=np.array(waits, dtype=np.int64),
        exclusive=items.exclusive,
    )


def select_cycles(items: Items, gemm: Gemm, arch: Arch, pattern: Pattern | None) -> Integers:
    """Cycles to select what each item fetched; none on a dense machine, or where the producer has done it."""
    if not _selects(arch, pattern):
        return np.zeros_like(items.tokens)
    groups = _share_of_rows(items.loaded_activations, gemm.features, pattern.groups(gemm.features))
    return -(-groups // selector_units(arch, pattern))


def _selects(arch: Arch, pattern: Pattern | None) -> bool:
    return pattern is not None and arch.sparsity.selector.placement == "load"


def _dram_cycles(moved: Integers, arch: Arch) -> Integers:
    return np.ceil(moved / arch.dram.bytes_per_cycle).astype(np.int64)
