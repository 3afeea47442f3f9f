"""The compiled engine: the same schedule as a recurrence over the items, in Numba."""

from __future__ import annotations

import numba
import numpy as np

from accel_sim.timing.pipeline import COMPUTE, LOAD, REQUANTISE, SELECT, STORE, Pipeline, Schedule


def run(pipeline: Pipeline) -> Schedule:
    """Evaluate the recurrence of `accel_sim.timing.pipeline` for every item and stage."""
    start, end = _recurrence(pipeline.durations, pipeline.latencies, pipeline.exclusive)
    return Schedule(start, end)


@numba.njit(cache=True)
def _recurrence(durations, latencies, exclusive):
    items = durations.shape[0]
    start = np.zeros((items, 5), np.int64)
    end = np.zeros((items, 5), np.int64)
    for i in range(items + 2):
        if i < items:
            load = end[i - 1, LOAD] if i >= 1 else 0
            if i >= 3:  # the store before it in the DRAM's order
                load = max(load, end[i - 3, STORE])
            lag = 1 if exclusive[i] else 2
            if i >= lag:
                load = max(load, end[i - lag, COMPUTE])
            start[i, LOAD] = load
            end[i, LOAD] = load + durations[i, LOAD]
        if i >= 2:
            j = i - 2
            store = max(end[j, REQUANTISE] + latencies[REQUANTISE], end[min(i, items - 1), LOAD])
            if j >= 1:
                store = max(store, end[j - 1, STORE])
            start[j, STORE] = store
            end[j, STORE] = store + durations[j, STORE]
        if i < items:
            for s in (SELECT, COMPUTE, REQUANTISE):
                begin = end[i, s - 1] + latencies[s - 1]
                if i >= 1:
                    begin = max(begin, end[i - 1, s])
                if i >= 2:
                    begin = max(begin, end[i - 2, s + 1])
                start[i, s] = begin
                end[i, s] = begin + durations[i, s]
    return start, end
