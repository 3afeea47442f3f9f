"""The tables that a product and a vector operation have in common: stages, first and last items, critical path."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np
from rich.table import Table

from accel_sim.cli.screen import count, span, table_of
from accel_sim.simulation import Machine
from accel_sim.timing import LayerTiming
from accel_sim.timing.explain import Segment
from accel_sim.timing.layer import SLACK, candidates
from accel_sim.timing.pipeline import LOAD, STAGES, STORE, Pipeline, Schedule

_ITEMS_SHOWN = 3
_CORES_SHOWN = 8
_SEGMENTS_SHOWN = 12


@dataclass(frozen=True)
class Scheduled:
    """What an operation is cut into, and when each piece is where."""

    pipeline: Pipeline
    schedule: Schedule
    stages: tuple[str, ...] = STAGES
    """What the five stages do."""
    pieces: str = "item"
    """What one of them is called."""
    size: str = "tokens × outputs"
    """What `sizes` says of a piece."""
    sizes: np.ndarray | None = None
    """Text [cores, pieces] of each."""


def tilings_table(timing: LayerTiming, machine: Machine) -> Table:
    """Every tiling that fits, the one that was taken first."""
    tried = candidates(timing.plan.product, machine.arch, machine.pattern, machine.latencies)
    full = "; every group counted as full" if timing.plan.product.windows is not None else ""
    table = table_of(f"{len(tried)} tilings fit; least DRAM traffic within {SLACK:.0%} of the fastest is taken{full}")
    table.add_column("tiling")
    for column in ("cycles", "DRAM MB read"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in tried:
        taken = "→ " if one.tiling == timing.plan.tiling else "  "
        table.add_row(f"{taken}{one.tiling}", f"{one.cycles:,}", f"{one.dram_read_bytes / 1e6:,.2f}")
    return table


def stages_table(scheduled: Scheduled) -> Table:
    """Loads and stores of all cores go through one memory; of the other stages the busiest core is shown."""
    pipeline, makespan = scheduled.pipeline, scheduled.schedule.makespan
    each_of = f" on each of {pipeline.cores} cores" if pipeline.cores > 1 else ""
    table = table_of(f"{count(pipeline.items, scheduled.pieces)}{each_of} through five stages")
    table.add_column("stage")
    for column in ("busy cycles", "of all", f"a{'n' * (scheduled.pieces[0] in 'aeiou')} {scheduled.pieces}", "latency"):
        table.add_column(column, justify="right")
    for stage, name in enumerate(scheduled.stages):
        each = pipeline.durations[:, :, stage]
        busy = int(each.sum() if stage in (LOAD, STORE) else each.sum(axis=1).max())
        spread = span(int(each.min()), int(each.max()))
        table.add_row(name, f"{busy:,}", f"{busy / makespan:.1%}", spread, f"{pipeline.latencies[stage]}")
    return table


def items_table(scheduled: Scheduled) -> Table:
    """The first and the last pieces of each core."""
    pipeline = scheduled.pipeline
    several = pipeline.cores > 1
    table = table_of(
        f"first and last {scheduled.pieces}s{' of each core' * several}, start–end of each stage in cycles"
    )
    if several:
        table.add_column("core", justify="right")
    table.add_column(scheduled.pieces, justify="right")
    for name in (scheduled.size, *scheduled.stages):
        table.add_column(name, justify="right", no_wrap=True)
    ends = 1 if several else _ITEMS_SHOWN
    for core in _first_and_last(pipeline.cores, _CORES_SHOWN // 2):
        if core is None:
            table.add_row("…")
            continue
        for item in _first_and_last(pipeline.items, ends):
            cells = ["…"] if item is None else _item_cells(scheduled, core, item)
            table.add_row(*([str(core)] if several else []), *cells)
    return table


def _item_cells(scheduled: Scheduled, core: int, item: int) -> list[str]:
    spans = zip(scheduled.schedule.start[core, item], scheduled.schedule.end[core, item], strict=True)
    return [str(item), str(scheduled.sizes[core, item]), *(f"{start:,}–{end:,}" for start, end in spans)]


def _first_and_last(number: int, ends: int) -> list[int | None]:
    """The first and the last `ends` of `number`, and None where some are left out between them."""
    if number <= 2 * ends:
        return list(range(number))
    return [*range(ends), None, *range(number - ends, number)]


def critical_path_table(path: list[Segment], scheduled: Scheduled) -> Table:
    """What the makespan is made of, from cycle 0 on."""
    stages, makespan = scheduled.stages, scheduled.schedule.makespan
    totals = {stage: sum(one.end - one.start for one in path if one.stage == stage) for stage in range(len(stages))}
    critical = max(totals, key=lambda stage: totals[stage])
    several = scheduled.pipeline.cores > 1
    table = table_of(f"critical path, {totals[critical] / makespan:.1%} of it {stages[critical]}")
    table.add_column("stage")
    for column in (*["core"] * several, f"{scheduled.pieces}s", "from", "to", "cycles"):
        table.add_column(column, justify="right")
    half = _SEGMENTS_SHOWN // 2
    for skipped, group in groupby(enumerate(path), key=lambda pair: half <= pair[0] < len(path) - half):
        run = [segment for _, segment in group]
        if skipped:
            blank = [""] * (1 + several)
            cycles = sum(segment.end - segment.start for segment in run)
            table.add_row(f"… {len(run)} more", *blank, f"{run[0].start:,}", f"{run[-1].end:,}", f"{cycles:,}")
            continue
        for one in run:
            where = [str(one.core)] * several + [span(one.first_item, one.last_item)]
            table.add_row(stages[one.stage], *where, f"{one.start:,}", f"{one.end:,}", f"{one.end - one.start:,}")
    return table
