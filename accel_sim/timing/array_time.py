"""How long the array works on each item, by dataflow and by what it skips.

Three ways to count, all [cores, items], summed over the item's tiles, and all as slow as the slowest supply:

* `fixed_rate`: output-stationary, every group takes its slots.
* `zero_skipping`: output-stationary, a panel of tokens takes what its non-zeros need, window by window.
* `weight_stationary`: tokens stream past the weights of one fold after the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accel_sim.arch.derived import (
    activation_bits_per_row_cycle,
    activation_port_bytes_per_cycle,
    array_pattern,
    cycles_per_group,
    groups_per_cycle,
    slices,
    tile_row_cycles,
    weight_bytes_per_column_cycle,
    weight_port_bytes_per_cycle,
)
from accel_sim.arch.schema import Arch
from accel_sim.arch.sparsity import SKIPS_ZEROS
from accel_sim.occupancy import WindowTimes
from accel_sim.pattern import Pattern
from accel_sim.timing.items import Integers, Items
from accel_sim.timing.product import Product


@dataclass(frozen=True)
class ArrayTime:
    """Cycles of the array by item and reason."""

    array: Integers
    """Lanes at work, or without work for lack of slots, rows or columns."""
    synchronisation: Integers
    """Rows and slices that wait for the slowest of them; part of the time that zero skipping takes."""
    weight_port: Integers
    """Waiting for weights, where the port is narrower than the demand."""
    sram: Integers
    """Waiting for activations, where their port is."""
    fill: Integers
    """Operands on their way through the array, where the next tile may not follow at once."""


def array_time(items: Items, product: Product, arch: Arch, pattern: Pattern | None, depth: int) -> ArrayTime:
    """`depth` is the array's latency in cycles, from operands to sums."""
    if arch.array.dataflow == "weight_stationary":
        return weight_stationary(items, arch, pattern, depth)
    if pattern is not None and arch.sparsity.skipping in SKIPS_ZEROS:
        return zero_skipping(items, product, arch, pattern, depth)
    return fixed_rate(items, arch, pattern, depth)


def skew(arch: Arch) -> int:
    """Cycles that the last processing element of a systolic array works behind the first; 0 with broadcast operands."""
    return arch.array.rows + arch.array.cols - 2 if arch.array.interconnect == "systolic" else 0


def _gap(arch: Arch, depth: int) -> int:
    """Cycles between two tiles of the array."""
    return 0 if arch.array.fold_overlap else skew(arch) or depth


def through_array(arch: Arch, depth: int) -> int:
    """Cycles from the end of an item's time in the array to its last sum: what no gap behind its last tile covers."""
    if arch.array.fold_overlap:
        return depth + skew(arch)
    return depth if skew(arch) else 0


def fixed_rate(items: Items, arch: Arch, pattern: Pattern | None, depth: int) -> ArrayTime:
    """The last tile of an item may be narrower; it is counted as wide as the others."""
    tile = tile_row_cycles(arch.array.lanes, items.features, array_pattern(arch, pattern))
    weights, activations = _fed(tile, items, arch, pattern, np.minimum(items.tokens, arch.array.rows))
    waiting = (np.maximum(np.maximum(weights, activations), tile) - tile) * items.tiles
    return ArrayTime(
        array=tile * items.tiles,
        synchronisation=np.zeros_like(waiting),
        weight_port=np.where(weights >= activations, waiting, 0),
        sram=np.where(weights >= activations, 0, waiting),
        fill=items.tiles * _gap(arch, depth),
    )


def _fed(
    cycles: Integers, items: Items, arch: Arch, pattern: Pattern | None, rows: Integers
) -> tuple[Integers, Integers]:
    """Cycles that the weight and the activation port take for what the array consumes in `cycles` at full rate."""
    weights = np.minimum(items.outputs, arch.array.cols) * weight_bytes_per_column_cycle(arch, pattern)
    activation_bits = rows * activation_bits_per_row_cycle(arch, pattern)
    return (
        -(-cycles * weights // weight_port_bytes_per_cycle(arch)),
        -(-cycles * activation_bits // (8 * activation_port_bytes_per_cycle(arch))),
    )


def zero_skipping(items: Items, product: Product, arch: Arch, pattern: Pattern, depth: int) -> ArrayTime:
    """Every panel takes the cycles of its windows; all columns wait for the slowest row and slice of each window."""
    windows = product.windows or full_windows(product, arch, pattern)
    rows = np.minimum(arch.array.rows, product.tokens - np.arange(len(windows.cycles)) * arch.array.rows)
    parts = slices(arch) if arch.sparsity.skipping == "elastic" else 1
    useful = -(-windows.busy // (rows[:, None] * parts))
    sums = np.zeros((4, *items.tokens.shape), dtype=np.int64)
    widths = np.minimum(items.outputs, arch.array.cols)
    for cols in np.unique(widths[widths > 0]):
        weights, activations = _window_supply(product, arch, pattern, int(cols), rows)
        waiting = np.maximum(np.maximum(weights, activations) - windows.cycles, 0)
        for_weights = np.where(weights >= activations, waiting, 0)
        reasons = np.stack([useful, windows.cycles - useful, for_weights, waiting - for_weights])
        sums += np.where(widths == cols, items.weight_panels, 0) * _over_windows(reasons, items, arch, pattern)
    return ArrayTime(*sums, fill=items.tiles * _gap(arch, depth))


def kept_products(items: Items, product: Product, arch: Arch, pattern: Pattern | None) -> Integers:
    """Multiplications that each item cannot do without: slots that hold a real feature, or only kept non-zeros."""
    used = array_pattern(arch, pattern)
    if used is None:
        return items.tokens * items.outputs * items.features
    if arch.sparsity.skipping in SKIPS_ZEROS:
        windows = product.windows or full_windows(product, arch, used)
        return items.outputs * _over_windows(windows.nonzeros, items, arch, used)
    kept = items.features // used.m * used.n + np.minimum(items.features % used.m, used.n)
    return items.tokens * items.outputs * kept


def _over_windows(table: Integers, items: Items, arch: Arch, pattern: Pattern) -> Integers:
    """Sums of a table [..., panels, windows] over the panels and the windows of every item."""
    features = arch.sparsity.sync_window * pattern.m
    corner = np.zeros((*table.shape[:-2], table.shape[-2] + 1, table.shape[-1] + 1), dtype=np.int64)
    corner[..., 1:, 1:] = table.cumsum(axis=-2).cumsum(axis=-1)
    first, last = items.first_panel, items.first_panel + items.activation_panels
    begin = items.first_feature // features
    end = -(-(items.first_feature + items.features) // features)
    above, below = (
        corner[..., first, begin] - corner[..., first, end],
        corner[..., last, end] - corner[..., last, begin],
    )
    return above + below


def _window_supply(
    product: Product, arch: Arch, pattern: Pattern, cols: int, rows: Integers
) -> tuple[Integers, Integers]:
    """Cycles that the ports take for each window's weights [windows] and activations [panels, windows]."""
    groups = _window_groups(product, arch, pattern)
    metadata = 0 if pattern.keeps_all else pattern.metadata_bits(arch.sparsity.metadata)
    weights = -(-groups * pattern.m * cols // weight_port_bytes_per_cycle(arch))
    bits = rows[:, None] * groups * (8 * pattern.n + metadata)
    return weights, -(-bits // (8 * activation_port_bytes_per_cycle(arch)))


def _window_groups(product: Product, arch: Arch, pattern: Pattern) -> Integers:
    groups, window = pattern.groups(product.features), arch.sparsity.sync_window
    return np.minimum(window, groups - np.arange(0, groups, window, dtype=np.int64))


def full_windows(product: Product, arch: Arch, pattern: Pattern) -> WindowTimes:
    """Windows whose groups all keep N non-zeros: what a tiling is chosen for, before any activation is known."""
    panels = -(-product.tokens // arch.array.rows)
    groups = _window_groups(product, arch, pattern)
    rows = np.minimum(arch.array.rows, product.tokens - np.arange(panels) * arch.array.rows)[:, None]
    if arch.sparsity.skipping == "elastic":
        each = -(-pattern.n // arch.sparsity.elastic_lanes)
        cycles, busy = -(-groups // slices(arch)) * each, rows * groups * each
    else:
        cycles = -(-groups * pattern.n // min(arch.array.lanes, arch.sparsity.window_banks or arch.array.lanes))
        busy = rows * cycles
    cycles = np.broadcast_to(cycles, (panels, len(groups)))
    return WindowTimes(cycles=cycles, busy=busy, nonzeros=rows * groups * pattern.n)


def weight_stationary(items: Items, arch: Arch, pattern: Pattern | None, depth: int) -> ArrayTime:
    """Folds: the rows hold g groups each of one chunk of features, the columns one output each, and a panel of tokens
    streams past, ceil(N / lanes) cycles a token.

    Loading a fold's weights takes a cycle a row, more where the weight port is narrow. With `fold_overlap` it hides
    behind the fold before; only what it takes longer than that, and the very first load, are seen. All panels of an
    item count as having its mean number of tokens.
    """
    array, used = arch.array, array_pattern(arch, pattern)
    each, spanned = 1, array.rows * array.lanes
    if used is not None:
        each = cycles_per_group(array.lanes, used)
        spanned = array.rows * groups_per_cycle(array.lanes, used) * used.m
    chunks = -(-items.features // spanned)
    folds = chunks * items.tiles
    stream = items.tokens * each // np.maximum(items.activation_panels, 1)
    full_rows = np.full_like(stream, array.rows)
    _, fed = _fed(stream, items, arch, pattern, full_rows)
    demand = np.minimum(items.outputs, array.cols) * weight_bytes_per_column_cycle(arch, pattern)
    preload = -(-array.rows * each * demand // weight_port_bytes_per_cycle(arch))
    preload = np.maximum(preload, array.rows * each)
    slowest = np.maximum(stream, fed)
    waits = np.zeros_like(folds)
    if array.fold_overlap:
        waits = folds * np.maximum(preload - slowest, 0)
        fill = np.zeros_like(folds)
        fill[:, 0] = preload[:, 0] * (folds[:, 0] > 0)
    else:
        fill = folds * (preload + _gap(arch, depth))
    return ArrayTime(
        array=chunks * items.weight_panels * items.tokens * each,
        synchronisation=np.zeros_like(folds),
        weight_port=waits,
        sram=folds * (slowest - stream),
        fill=fill,
    )
