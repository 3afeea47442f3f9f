"""Which stages and items the makespan is made of: a walk backwards along the critical path.

Every start time equals the end (plus latency) of one of its predecessors, so the occupations and latencies met on the
way from the last store back to cycle 0 add up to the makespan exactly. Ties go to the later stage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from accel_sim.timing.pipeline import COMPUTE, LOAD, REQUANTISE, STORE, Pipeline, Schedule


@dataclass(frozen=True)
class CriticalPath:
    """`occupied` bool [items, 5]: this stage's work on this item is on the path. `waits` int64 [5]: how often the
    path crosses from a stage to the next one on the same item, each time through the stage's latency."""

    occupied: npt.NDArray[np.bool_]
    waits: npt.NDArray[np.int64]


def critical_path(pipeline: Pipeline, schedule: Schedule) -> CriticalPath:
    """Trace the schedule of either engine backwards from its last store."""
    return CriticalPath(*_trace(schedule.start, schedule.end, pipeline.latencies, pipeline.exclusive))


@numba.njit(cache=True)
def _trace(start, end, latencies, exclusive):
    items = start.shape[0]
    occupied = np.zeros((items, 5), np.bool_)
    waits = np.zeros(5, np.int64)
    i, s = items - 1, STORE
    while True:
        occupied[i, s] = True
        now = start[i, s]
        if s == STORE and i >= 1 and end[i - 1, STORE] == now:
            i -= 1
        elif s == STORE and end[i, REQUANTISE] + latencies[REQUANTISE] == now:
            waits[REQUANTISE] += 1
            s = REQUANTISE
        elif s == STORE:  # the load before it in the DRAM's order
            i, s = min(i + 2, items - 1), LOAD
        elif s == LOAD and i >= 3 and end[i - 3, STORE] == now:
            i, s = i - 3, STORE
        elif s == LOAD and i >= (1 if exclusive[i] else 2) and end[i - (1 if exclusive[i] else 2), COMPUTE] == now:
            i, s = i - (1 if exclusive[i] else 2), COMPUTE
        elif s == LOAD and i == 0:
            break
        elif s == LOAD:
            i -= 1
        elif i >= 2 and end[i - 2, s + 1] == now:
            i, s = i - 2, s + 1
        elif i >= 1 and end[i - 1, s] == now:
            i -= 1
        else:
            waits[s - 1] += 1
            s -= 1
    return occupied, waits
