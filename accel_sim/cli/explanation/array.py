"""What the array does with one product, in lines: panels, what a tile takes, its ports, and emptying."""

from __future__ import annotations

from accel_sim.arch.derived import (
    activation_bits_per_row_cycle,
    activation_port_bytes_per_cycle,
    array_pattern,
    cycles_per_group,
    groups_per_cycle,
    tile_row_cycles,
    weight_bytes_per_column_cycle,
    weight_port_bytes_per_cycle,
)
from accel_sim.arch.sparsity import SKIPS_ZEROS
from accel_sim.cli.explanation.folds import fold_lines
from accel_sim.cli.explanation.passing import gap, padding
from accel_sim.cli.explanation.zeros import skipping_lines
from accel_sim.cli.screen import count
from accel_sim.pattern import Pattern
from accel_sim.simulation import Machine
from accel_sim.timing import LayerTiming
from accel_sim.timing.array_time import skew
from accel_sim.timing.stages import requantise_cycles


def array_lines(timing: LayerTiming, machine: Machine) -> list[str]:
    """How long the array takes for a tile, and why."""
    arch, pattern = machine.arch, array_pattern(machine.arch, machine.pattern)
    lines = [_panels(timing, machine)]
    if arch.array.dataflow == "weight_stationary":
        lines += fold_lines(timing, machine, pattern)
    elif pattern is not None and arch.sparsity.skipping in SKIPS_ZEROS:
        lines += skipping_lines(timing, machine, pattern)
    else:
        lines += [_fixed_rate(timing, machine, pattern)]
    return [*lines, _between_tiles(timing, machine), _ports(timing, machine), _emptying(timing, machine)]


def _panels(timing: LayerTiming, machine: Machine) -> str:
    product, array = timing.plan.product, machine.arch.array
    tokens = _cut(product.tokens, timing.plan.tiling.panel_tokens, "tokens")
    outputs = _cut(product.outputs, array.cols, "outputs")
    items = timing.plan.items
    tiles = int((items.tiles * items.completes).sum())
    pieces = int(items.tiles.sum()) // tiles
    return (
        f"array: {array.dataflow.replace('_', '-')}, {array.rows} × {array.cols} elements of {array.lanes} lanes;"
        f" {tokens} × {outputs}: {count(tiles, 'tile')}" + f", each in {pieces} pieces of the features" * (pieces > 1)
    )


def _cut(units: int, panel: int, what: str) -> str:
    panels, rest = -(-units // panel), units % panel
    last = f" (the last of {rest})" if rest and panels > 1 else ""
    return f"{count(panels, 'panel')} of {min(units, panel)} {what}{last}"


def _fixed_rate(timing: LayerTiming, machine: Machine, pattern: Pattern | None) -> str:
    array, features = machine.arch.array, timing.plan.product.features
    what, rest = f"{features} features at {array.lanes} a cycle", padding(features, array.lanes, "cycle")
    if pattern is not None:
        each = cycles_per_group(array.lanes, pattern)
        pace = f"{groups_per_cycle(array.lanes, pattern)} a cycle" if each == 1 else f"{each} cycles each"
        what = f"{pattern.groups(features)} groups of {pattern.m}, {pace}"
        rest = padding(features, pattern.m, "group")
    cycles = tile_row_cycles(array.lanes, features, pattern)
    dense = "" if pattern is None else f" (dense {tile_row_cycles(array.lanes, features, None)})"
    return f"array tile: {array.rows} tokens × {array.cols} outputs; {what}: {cycles} cycles{dense}{rest}"


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
    return f"{how}; {gap(machine)} cycles between any two tiles, {int(timing.plan.compute.fill.sum()):,} in all"


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
