"""How the cycles of one layer come about: `simulate --explain LAYER`."""

from __future__ import annotations

from itertools import groupby

from rich.table import Table

from accel_sim.arch.derived import (
    activation_bits_per_row_cycle,
    activation_port_bytes_per_cycle,
    cycles_per_group,
    groups_per_cycle,
    selector_units,
    tile_row_cycles,
    weight_bytes_per_column_cycle,
    weight_port_bytes_per_cycle,
)
from accel_sim.cli.report import console, table_of
from accel_sim.errors import AccelSimError
from accel_sim.simulation import Machine
from accel_sim.timing import CAUSES, LayerTiming
from accel_sim.timing.explain import segments
from accel_sim.timing.layer import SLACK, candidates
from accel_sim.timing.pipeline import STAGES
from accel_sim.workload import Gemm, Workload

_CANDIDATES_SHOWN = 8
_ITEMS_SHOWN = 3
_SEGMENTS_SHOWN = 12


def find_layer(workload: Workload, name: str) -> Gemm:
    """The layer called `name`, or the first one whose name ends with it.

    Raises AccelSimError listing some of the layers when there is none.
    """
    exact = [gemm for gemm in workload.gemms if gemm.name == name]
    ending = [gemm for gemm in workload.gemms if gemm.name.endswith(name)]
    if not exact + ending:
        some = ", ".join(gemm.name for gemm in workload.gemms[:7])
        raise AccelSimError(f"--explain {name}: no such layer; there are {some}{', …' * (len(workload.gemms) > 7)}")
    return (exact + ending)[0]


def print_explanation(machine: Machine, gemm: Gemm) -> None:
    """Tile, tilings that were tried, stages, first and last items, critical path, causes."""
    screen, timing = console(), machine.time(gemm)
    tokens, features, outputs = gemm.shape
    screen.print(
        f"{gemm.name} on {machine.arch.name} ({machine.pattern or 'dense'}): {tokens} tokens × {features} features ×"
        f" {outputs} outputs in {timing.cycles:,} cycles",
        markup=False,
    )
    for line in _tile(machine, gemm):
        screen.print(line, markup=False)
    screen.print(_tilings(machine, gemm))
    screen.print(_stages(timing))
    screen.print(_items(timing))
    screen.print(_critical_path(timing))
    shares = ((cause, timing.breakdown[cause]) for cause in CAUSES if timing.breakdown[cause])
    screen.print("causes: " + ", ".join(f"{cause} {cycles:,}" for cause, cycles in shares) + "\n", markup=False)


def _tile(machine: Machine, gemm: Gemm) -> list[str]:
    arch, pattern, array = machine.arch, machine.pattern, machine.arch.array
    weights = array.cols * weight_bytes_per_column_cycle(arch, pattern)
    activations = -(-array.rows * activation_bits_per_row_cycle(arch, pattern) // 8)
    what = f"{gemm.features} features at {array.lanes} a cycle"
    if pattern is not None:
        at_once, each = groups_per_cycle(array.lanes, pattern), cycles_per_group(array.lanes, pattern)
        pace = f"{at_once} a cycle" if each == 1 else f"{each} cycles each"
        what = f"{pattern.groups(gemm.features)} groups of {pattern.m}, {pace}"
    return [
        f"array tile: {array.rows} tokens × {array.cols} outputs; {what}:"
        f" {tile_row_cycles(array.lanes, gemm.features, pattern)} cycles",
        f"ports: weights {weights} B a cycle wanted, {weight_port_bytes_per_cycle(arch)} there; activations"
        f" {activations} wanted, {activation_port_bytes_per_cycle(arch)} there; DRAM {arch.dram.bytes_per_cycle:g} B a"
        f" cycle; {selector_units(arch, pattern)} selectors, {array.requantisers} requantisers",
    ]


def _tilings(machine: Machine, gemm: Gemm) -> Table:
    tried = candidates(gemm, machine.arch, machine.pattern, machine.latencies)
    table = table_of(f"{len(tried)} tilings fit; least DRAM traffic within {SLACK:.0%} of the fastest is taken")
    table.add_column("tiling")
    for column in ("cycles", "DRAM MB read"):
        table.add_column(column, justify="right", no_wrap=True)
    for index, one in enumerate(tried[:_CANDIDATES_SHOWN]):
        taken = "→ " if index == 0 else "  "
        table.add_row(f"{taken}{one.tiling}", f"{one.cycles:,}", f"{one.dram_read_bytes / 1e6:,.2f}")
    return table


def _stages(timing: LayerTiming) -> Table:
    pipeline = timing.plan.pipeline
    table = table_of(f"{pipeline.items:,} items through five stages")
    table.add_column("stage")
    for column in ("busy cycles", "of all", "an item", "latency"):
        table.add_column(column, justify="right")
    for stage, name in enumerate(STAGES):
        busy = pipeline.durations[:, stage]
        spread = f"{busy.min():,}–{busy.max():,}" if busy.min() < busy.max() else f"{busy.max():,}"
        latency = f"{pipeline.latencies[stage]}"
        table.add_row(name, f"{busy.sum():,}", f"{busy.sum() / timing.cycles:.1%}", spread, latency)
    return table


def _items(timing: LayerTiming) -> Table:
    count = timing.plan.pipeline.items
    shown = sorted({*range(min(count, _ITEMS_SHOWN)), *range(max(0, count - _ITEMS_SHOWN), count)})
    table = table_of("first and last items, start–end of each stage in cycles")
    table.add_column("item", justify="right")
    for name in ("tokens × outputs", *STAGES):
        table.add_column(name, justify="right", no_wrap=True)
    for before, item in zip([-1, *shown], shown, strict=False):
        if item > before + 1:
            table.add_row("…")
        spans = zip(timing.schedule.start[item], timing.schedule.end[item], strict=True)
        shape = f"{timing.plan.items.tokens[item]} × {timing.plan.items.outputs[item]}"
        table.add_row(str(item), shape, *(f"{start:,}–{end:,}" for start, end in spans))
    return table


def _critical_path(timing: LayerTiming) -> Table:
    path = segments(timing)
    totals = {stage: sum(one.end - one.start for one in path if one.stage == stage) for stage in range(len(STAGES))}
    critical = max(totals, key=lambda stage: totals[stage])
    table = table_of(f"critical path; the critical stage is {STAGES[critical]}, {totals[critical] / timing.cycles:.1%}")
    table.add_column("stage")
    for column in ("items", "from", "to", "cycles"):
        table.add_column(column, justify="right")
    half = _SEGMENTS_SHOWN // 2
    for skipped, group in groupby(enumerate(path), key=lambda pair: half <= pair[0] < len(path) - half):
        run = [segment for _, segment in group]
        if skipped:
            cycles = sum(segment.end - segment.start for segment in run)
            table.add_row(f"… {len(run)} more", "", f"{run[0].start:,}", f"{run[-1].end:,}", f"{cycles:,}")
            continue
        for one in run:
            items = f"{one.first_item}–{one.last_item}" if one.first_item != one.last_item else f"{one.first_item}"
            table.add_row(STAGES[one.stage], items, f"{one.start:,}", f"{one.end:,}", f"{one.end - one.start:,}")
    return table
