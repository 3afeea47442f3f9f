"""What the array does with one product, in lines: its tiles or folds, the zeros it skips, its ports, and emptying."""

from __future__ import annotations

import numpy as np

from accel_sim.arch.derived import (
    activation_bits_per_row_cycle,
    activation_port_bytes_per_cycle,
    array_pattern,
    cycles_per_group,
    groups_per_cycle,
    slices,
    supplied_groups_per_cycle,
    tile_row_cycles,
    weight_bytes_per_column_cycle,
    weight_port_bytes_per_cycle,
)
from accel_sim.arch.sparsity import SKIPS_ZEROS
from accel_sim.cli.screen import count, span
from accel_sim.occupancy import WindowTimes
from accel_sim.pattern import Pattern
from accel_sim.simulation import Machine
from accel_sim.timing import LayerTiming
from accel_sim.timing.array_time import full_windows, skew
from accel_sim.timing.product import Product
from accel_sim.timing.stages import requantise_cycles
from accel_sim.timing.tiling import ACCUMULATOR_BYTES, chunk_step, panel_tokens


def array_lines(timing: LayerTiming, machine: Machine) -> list[str]:
    """How long the array takes for a tile, and why."""
    arch, pattern = machine.arch, array_pattern(machine.arch, machine.pattern)
    lines = [_panels(timing, machine)]
    if arch.array.dataflow == "weight_stationary":
        lines += _folds(timing, machine, pattern)
    elif pattern is not None and arch.sparsity.skipping in SKIPS_ZEROS:
        lines += _skipped_zeros(timing, machine, pattern)
    else:
        lines += [_fixed_rate(timing, machine, pattern)]
    return [*lines, _between_tiles(timing, machine), _ports(timing, machine), _emptying(timing, machine)]


def _panels(timing: LayerTiming, machine: Machine) -> str:
    product, array = timing.plan.product, machine.arch.array
    tokens = _cut(product.tokens, timing.plan.tiling.panel_tokens, "tokens")
    outputs = _cut(product.outputs, array.cols, "outputs")
    tiles = int(timing.plan.items.tiles.sum())
    return (
        f"array: {array.dataflow.replace('_', '-')}, {array.rows} × {array.cols} elements of {array.lanes} lanes;"
        f" {tokens} × {outputs}: {count(tiles, 'tile')}"
    )


def _cut(units: int, panel: int, what: str) -> str:
    panels, rest = -(-units // panel), units % panel
    last = f" (the last of {rest})" if rest and panels > 1 else ""
    return f"{count(panels, 'panel')} of {min(units, panel)} {what}{last}"


def _padding(features: int, step: int, what: str) -> str:
    rest = features % step
    return f"; the last {what} holds {rest} of {step} features" if rest else ""


def _fixed_rate(timing: LayerTiming, machine: Machine, pattern: Pattern | None) -> str:
    array, features = machine.arch.array, timing.plan.product.features
    what, padding = f"{features} features at {array.lanes} a cycle", _padding(features, array.lanes, "cycle")
    if pattern is not None:
        each = cycles_per_group(array.lanes, pattern)
        pace = f"{groups_per_cycle(array.lanes, pattern)} a cycle" if each == 1 else f"{each} cycles each"
        what = f"{pattern.groups(features)} groups of {pattern.m}, {pace}"
        padding = _padding(features, pattern.m, "group")
    cycles = tile_row_cycles(array.lanes, features, pattern)
    dense = "" if pattern is None else f" (dense {tile_row_cycles(array.lanes, features, None)})"
    return f"array tile: {array.rows} tokens × {array.cols} outputs; {what}: {cycles} cycles{dense}{padding}"


def _folds(timing: LayerTiming, machine: Machine, pattern: Pattern | None) -> list[str]:
    """Weight-stationary: what a fold holds, how long tokens stream past it, and what loading its weights costs."""
    arch, items, compute = machine.arch, timing.plan.items, timing.plan.compute
    product, array = timing.plan.product, machine.arch.array
    spanned = chunk_step(arch, machine.pattern)
    chunks = -(-items.features // spanned)
    folds = chunks * items.tiles
    streams = (compute.array // np.maximum(folds, 1))[folds > 0]
    each = 1 if pattern is None else cycles_per_group(array.lanes, pattern)
    held = f"{array.lanes} features" if pattern is None else f"{groups_per_cycle(array.lanes, pattern)} groups"
    fits = panel_tokens(product, arch)
    halves = 2 if array.drain == "overlapped" else 1
    most = arch.sram.accumulator_bytes // (halves * ACCUMULATOR_BYTES * array.cols)
    how = "asked for by mapping.panel_tokens" if arch.mapping.panel_tokens else f"tried: {', '.join(map(str, fits))}"
    return [
        f"a fold: {array.rows} rows × {held} = {spanned} features of {array.cols} outputs;"
        f" {count(-(-product.features // spanned), 'fold')} over {product.features} features"
        f"{_padding(product.features, spanned, 'fold')}; {int(folds.sum()):,} in all",
        f"each streams {span(int(streams.min()), int(streams.max()))} cycles ({each} a token) and preloads its"
        f" weights in {_preload(timing, machine, folds)}; {_preload_cost(timing, machine)}",
        f"panel: {timing.plan.tiling.panel_tokens} tokens, {how}; sums of {most} fit"
        f" {'half of ' if halves == 2 else ''}sram.accumulator_bytes",
    ]


def _preload(timing: LayerTiming, machine: Machine, folds: np.ndarray) -> str:
    """Cycles of a preload, as the model counted them: the first one is seen whole, or every one without overlap."""
    array, fill = machine.arch.array, timing.plan.compute.fill
    if array.fold_overlap:
        cycles = int(fill[:, 0].max())
    else:
        first = np.unravel_index(np.argmax(folds > 0), folds.shape)
        cycles = int(fill[first] // folds[first]) - _gap(machine)
    port = "" if cycles <= array.rows else f", {cycles / array.rows:g} a row"
    return f"{cycles} cycles ({array.rows} rows{port})"


def _preload_cost(timing: LayerTiming, machine: Machine) -> str:
    compute = timing.plan.compute
    if not machine.arch.array.fold_overlap:
        gap = f" and {_gap(machine)} to run empty" if _gap(machine) else ""
        return f"nothing overlaps: preloading{gap} costs {int(compute.fill.sum()):,} cycles in all"
    longer = int(compute.weight_port.sum())
    seen = f"{int(compute.fill.sum()):,} for the first fold, {longer:,} where one takes longer than the tokens stream"
    return f"behind the fold before, so what is seen of it: {seen}"


def _skipped_zeros(timing: LayerTiming, machine: Machine, pattern: Pattern) -> list[str]:
    """Elastic and unstructured skipping: what a tile takes of what full groups would, and who waits for whom."""
    product, sparsity, lanes = timing.plan.product, machine.arch.sparsity, machine.arch.array.lanes
    full = full_windows(product, machine.arch, pattern)
    windows = product.windows or full
    panels, most = windows.cycles.sum(axis=1), int(full.cycles.sum(axis=1).max())
    known = "" if product.windows else " (its activations are not known: every group counts as full)"
    slots = product.tokens * pattern.groups(product.features) * pattern.n
    return [
        f"array tile: {machine.arch.array.rows} tokens × {machine.arch.array.cols} outputs; "
        f"{span(int(panels.min()), int(panels.max()))} cycles, mean {panels.mean():.1f} over {count(len(panels), 'panel')} of"
        f" tokens{known}; every group full: {most}; fixed skipping {tile_row_cycles(lanes, product.features, pattern)},"
        f" dense {tile_row_cycles(lanes, product.features, None)}",
        f"{windows.nonzeros.sum() / slots:.1%} of the kept slots hold no zero;"
        f" {_waiting(timing):.1%} of the array's time is synchronisation: rows{_and_slices(machine)} wait for the"
        f" slowest of them every {sparsity.sync_window} groups",
        _dealing(product, machine, pattern, windows),
        f"the weight port supplies {count(supplied_groups_per_cycle(machine.arch), 'group')} a cycle, so a window of"
        f" {min(sparsity.sync_window, pattern.groups(product.features))} takes"
        f" {_supply(product, machine, pattern)} cycles at least",
    ]


def _waiting(timing: LayerTiming) -> float:
    compute = timing.plan.compute
    waiting = compute.synchronisation.sum()
    return float(waiting / (waiting + compute.array.sum()))


def _and_slices(machine: Machine) -> str:
    return " and slices" if machine.arch.sparsity.skipping == "elastic" else ""


def _supply(product: Product, machine: Machine, pattern: Pattern) -> int:
    groups = min(machine.arch.sparsity.sync_window, pattern.groups(product.features))
    cols = min(machine.arch.array.cols, product.outputs)
    return -(-groups * pattern.m * cols // weight_port_bytes_per_cycle(machine.arch))


def _dealing(product: Product, machine: Machine, pattern: Pattern, windows: WindowTimes) -> str:
    """How groups come to slices (or lanes), and the rounds lost where they do not come out even."""
    arch, groups = machine.arch, pattern.groups(product.features)
    sizes = [min(arch.sparsity.sync_window, groups - at) for at in range(0, groups, arch.sparsity.sync_window)]
    if arch.sparsity.skipping == "unstructured":
        banks = arch.sparsity.window_banks
        through = "" if banks is None else f", or its fullest of {banks} banks if that takes longer"
        return (
            f"a row takes max(1, ceil(non-zeros / {arch.array.lanes})) cycles a window{through};"
            f" {len(sizes)} windows of {span(min(sizes), max(sizes))} groups, each rounded up"
        )
    count, each = slices(arch), arch.sparsity.elastic_lanes
    rounds = sum(-(-size // count) for size in sizes)
    rule = f"a group takes max(1, ceil(non-zeros / {each})) cycles of one of {count} slices"
    if rounds * count == groups:
        return f"{rule}; {groups} groups deal evenly, {rounds} rounds"
    cut = f" (windows of {' + '.join(map(str, sizes))})" if 1 < len(sizes) <= 4 else ""
    return (
        f"{rule}; {groups} groups do not deal evenly over {count} slices: {rounds} rounds{cut} where"
        f" {groups / count:.2f} would do"
    )


def _gap(machine: Machine) -> int:
    """Cycles between tiles where the next one may not follow at once."""
    return 0 if machine.arch.array.fold_overlap else skew(machine.arch) or machine.latencies.compute


def _between_tiles(timing: LayerTiming, machine: Machine) -> str:
    """The way through the array: a latency, or a gap between any two tiles."""
    array, behind = machine.arch.array, skew(machine.arch)
    how = f"{array.interconnect} operands"
    if behind:
        how += f": the last element works {behind} cycles behind the first"
    if array.fold_overlap:
        return f"{how}; tiles follow at once, the way through the array is a latency"
    if array.dataflow == "weight_stationary":
        return f"{how}; folds do not overlap"
    return f"{how}; {_gap(machine)} cycles between any two tiles, {int(timing.plan.compute.fill.sum()):,} in all"


def _ports(timing: LayerTiming, machine: Machine) -> str:
    arch, pattern, compute = machine.arch, machine.pattern, timing.plan.compute
    weights = arch.array.cols * weight_bytes_per_column_cycle(arch, pattern)
    activations = -(-arch.array.rows * activation_bits_per_row_cycle(arch, pattern) // 8)
    folds = arch.array.dataflow == "weight_stationary"
    waits = "" if folds else f", {int(compute.weight_port.sum()):,} cycles of waiting"
    return (
        f"ports: weights {weights} B a cycle wanted, {weight_port_bytes_per_cycle(arch)} there{waits}; activations"
        f" {activations} wanted, {activation_port_bytes_per_cycle(arch)} there, {int(compute.sram.sum()):,} cycles of"
        f" waiting; DRAM {arch.dram.bytes_per_cycle:g} B a cycle"
    )


def _emptying(timing: LayerTiming, machine: Machine) -> str:
    """What becomes of a tile's sums."""
    array, compute = machine.arch.array, timing.plan.compute
    cycles = int(requantise_cycles(timing.plan.items, machine.arch).max())
    tile = f"emptying a tile takes {count(cycles, 'cycle')} through {array.requantisers} requantisers"
    if array.drain == "none":
        return f"{tile}; it is not counted (drain: none)"
    if array.drain == "serial":
        return f"{tile}, and the array waits for it: {int(compute.drain.sum()):,} cycles in all"
    waits = int(compute.requantise.sum())
    late = f"; where that takes longer than the next tile, the array waits: {waits:,} cycles in all" if waits else ""
    return f"{tile}, behind the next tile{late}"
