"""The compiled engine: the same schedule as a recurrence over the items, in Numba."""

from __future__ import annotations

import numba
import numpy as np

from accel_sim.timing.pipeline import COMPUTE, LOAD, REQUANTISE, SELECT, STORE, Pipeline, Schedule


def run(pipeline: Pipeline) -> Schedule:
    """Evaluate the recurrence of `accel_sim.timing.pipeline` for every core, item and stage."""
    flags = (pipeline.exclusive, pipeline.shared, pipeline.after_select)
    return Schedule(*_recurrence(pipeline.durations, pipeline.latencies, *flags))


@numba.njit(cache=True)
def _recurrence(durations, latencies, exclusive, shared, after_select):
    cores, items = durations.shape[:2]
    start = np.zeros((cores, items, 5), np.int64)
    end = np.zeros((cores, items, 5), np.int64)
    dram = 0  # when the memory is free again
    for i in range(items + 2):
        if i < items:
            lag = 1 if exclusive[i] else 2
            for c in range(cores):
                first, last = (0, cores) if shared[i] else (c, c + 1)
                if i >= lag:
                    for k in range(first, last):
                        dram = max(dram, end[k, i - lag, COMPUTE])
                if after_select[i] and i >= 1:
                    for k in range(cores):
                        dram = max(dram, end[k, i - 1, SELECT] + latencies[SELECT])
                start[c, i, LOAD] = dram
                dram += durations[c, i, LOAD]
                end[c, i, LOAD] = dram
        if i >= 2:
            for c in range(cores):
                dram = max(dram, end[c, i - 2, REQUANTISE] + latencies[REQUANTISE])
                start[c, i - 2, STORE] = dram
                dram += durations[c, i - 2, STORE]
                end[c, i - 2, STORE] = dram
        if i < items:
            for c in range(cores):
                for s in (SELECT, COMPUTE, REQUANTISE):
                    begin = end[c, i, s - 1] + latencies[s - 1]
                    if i >= 1:
                        begin = max(begin, end[c, i - 1, s])
                    if i >= 2:
                        begin = max(begin, end[c, i - 2, s + 1])
                    start[c, i, s] = begin
                    end[c, i, s] = begin + durations[c, i, s]
    return start, end
