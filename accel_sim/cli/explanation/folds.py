"""What a weight-stationary array does with one product: its folds, and what loading their weights costs."""

from __future__ import annotations

import numpy as np

from accel_sim.arch.derived import cycles_per_group, groups_per_cycle
from accel_sim.cli.explanation.passing import gap, padding
from accel_sim.cli.screen import count, span
from accel_sim.pattern import Pattern
from accel_sim.simulation import Machine
from accel_sim.timing import LayerTiming
from accel_sim.timing.tiling import accumulated_tokens, chunk_step, panel_tokens


def fold_lines(timing: LayerTiming, machine: Machine, pattern: Pattern | None) -> list[str]:
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
    how = "asked for by mapping.panel_tokens" if arch.mapping.panel_tokens else f"tried: {', '.join(map(str, fits))}"
    return [
        f"a fold: {array.rows} rows × {held} = {spanned} features of {array.cols} outputs;"
        f" {count(-(-product.features // spanned), 'fold')} over {product.features} features"
        f"{padding(product.features, spanned, 'fold')}; {int(folds.sum()):,} in all",
        f"each streams {span(int(streams.min()), int(streams.max()))} cycles ({each} a token) and preloads its"
        f" weights in {_preload(timing, machine, folds)}; {_preload_cost(timing, machine)}",
        f"panel: {timing.plan.tiling.panel_tokens} tokens, {how}; sums of"
        f" {accumulated_tokens(arch)} fit {'half of ' * (array.drain == 'overlapped')}sram.accumulator_bytes",
    ]


def _preload(timing: LayerTiming, machine: Machine, folds: np.ndarray) -> str:
    """Cycles of a preload, as the model counted them: the first one is seen whole, or every one without overlap."""
    array, fill = machine.arch.array, timing.plan.compute.fill
    if array.fold_overlap:
        cycles = int(fill[:, 0].max())
    else:
        first = np.unravel_index(np.argmax(folds > 0), folds.shape)
        cycles = int(fill[first] // folds[first]) - gap(machine)
    port = "" if cycles <= array.rows else f", {cycles / array.rows:g} a row"
    return f"{cycles} cycles ({array.rows} rows{port})"


def _preload_cost(timing: LayerTiming, machine: Machine) -> str:
    compute = timing.plan.compute
    if not machine.arch.array.fold_overlap:
        empty = f" and {gap(machine)} to run empty" if gap(machine) else ""
        return f"nothing overlaps: preloading{empty} costs {int(compute.fill.sum()):,} cycles in all"
    longer = int(compute.weight_port.sum())
    seen = f"{int(compute.fill.sum()):,} for the first fold, {longer:,} where one takes longer than the tokens stream"
    return f"behind the fold before, so what is seen of it: {seen}"
