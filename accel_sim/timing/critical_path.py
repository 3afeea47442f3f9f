"""Which stages and items the makespan is made of: a walk backwards along the critical path.

Every start time equals the end (plus latency) of one of its predecessors, so the occupations and latencies met on the
way from the last store back to cycle 0 add up to the makespan exactly. Ties go to the later stage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from accel_sim.timing.pipeline import COMPUTE, LOAD, REQUANTISE, SELECT, STORE, Pipeline, Schedule


@dataclass(frozen=True)
class CriticalPath:
    """`occupied` bool [cores, items, 5]: this stage's work on this item is on the path. `waits` int64 [5]: how often
    the path crosses from a stage to what waits for its result, each time through the stage's latency."""

    occupied: npt.NDArray[np.bool_]
    waits: npt.NDArray[np.int64]


def critical_path(pipeline: Pipeline, schedule: Schedule) -> CriticalPath:
    """Trace the schedule of either engine backwards from its last store."""
    flags = (pipeline.exclusive, pipeline.shared, pipeline.after_select)
    return CriticalPath(*_trace(schedule.start, schedule.end, pipeline.latencies, *flags))


@numba.njit(cache=True)
def _trace(start, end, latencies, exclusive, shared, after_select):
    cores, items = start.shape[:2]
    occupied = np.zeros((cores, items, 5), np.bool_)
    waits = np.zeros(5, np.int64)
    c, i, s = cores - 1, items - 1, STORE
    while True:
        occupied[c, i, s] = True
        now = start[c, i, s]
        if s == LOAD:
            c, i, s, waited = _before_load(end, now, c, i, latencies, exclusive, shared, after_select)
            if i < 0:
                return occupied, waits
        elif s == STORE:
            c, i, s, waited = _before_store(end, now, c, i, latencies)
        elif i >= 2 and end[c, i - 2, s + 1] == now:
            i, s, waited = i - 2, s + 1, False
        elif i >= 1 and end[c, i - 1, s] == now:
            i, waited = i - 1, False
        else:
            s, waited = s - 1, True
        if waited:
            waits[s] += 1


@numba.njit(cache=True)
def _before_load(end, now, c, i, latencies, exclusive, shared, after_select):
    """(core, item, stage, through its latency) that a load has waited for; item −1 at the beginning of time."""
    cores = end.shape[0]
    lag = 1 if exclusive[i] else 2
    first, last = (0, cores) if shared[i] else (c, c + 1)
    if c == 0 and i >= 3 and end[cores - 1, i - 3, STORE] == now:
        return cores - 1, i - 3, STORE, False
    if i >= lag:
        for k in range(first, last):
            if end[k, i - lag, COMPUTE] == now:
                return k, i - lag, COMPUTE, False
    if after_select[i] and i >= 1:
        for k in range(cores):
            if end[k, i - 1, SELECT] + latencies[SELECT] == now:
                return k, i - 1, SELECT, True
    if c > 0:
        return c - 1, i, LOAD, False
    return cores - 1, i - 1, LOAD, False


@numba.njit(cache=True)
def _before_store(end, now, c, i, latencies):
    """The same for a store, which always has something before it."""
    cores, items = end.shape[:2]
    if c > 0 and end[c - 1, i, STORE] == now:
        return c - 1, i, STORE, False
    if c == 0 and i >= 1 and end[cores - 1, i - 1, STORE] == now:
        return cores - 1, i - 1, STORE, False
    if end[c, i, REQUANTISE] + latencies[REQUANTISE] == now:
        return c, i, REQUANTISE, True
    return cores - 1, min(i + 2, items - 1), LOAD, False  # the loads before it in the DRAM's order
