"""The critical path as a person follows it: which stage held things up, over which items, from when to when."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np

from accel_sim.timing.critical_path import critical_path
from accel_sim.timing.layer import LayerTiming
from accel_sim.timing.pipeline import Pipeline, Schedule


@dataclass(frozen=True)
class Segment:
    """A stretch of the critical path that one stage makes, its latency included."""

    stage: int
    """Index into `pipeline.STAGES`."""
    core: int
    first_item: int
    last_item: int
    start: int
    end: int


def segments(timing: LayerTiming) -> list[Segment]:
    """The critical path from cycle 0 to the last store; each segment starts where the one before ends."""
    return path_segments(timing.plan.pipeline, timing.schedule)


def path_segments(pipeline: Pipeline, schedule: Schedule) -> list[Segment]:
    """The same of any pipeline, a vector operation's included."""
    path = critical_path(pipeline, schedule)
    cores, items, stages = np.nonzero(path.occupied & (pipeline.durations > 0))
    starts = schedule.start[cores, items, stages]
    order = np.lexsort((stages, items, starts))
    steps = list(zip(*(column[order].tolist() for column in (stages, cores, items, starts)), strict=True))
    runs = [list(run) for _, run in groupby(steps, key=lambda step: step[:2])]
    ends = [run[0][3] for run in runs[1:]] + [schedule.makespan]
    return [
        Segment(run[0][0], run[0][1], run[0][2], run[-1][2], 0 if index == 0 else run[0][3], end)
        for index, (run, end) in enumerate(zip(runs, ends, strict=True))
    ]
