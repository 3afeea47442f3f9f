"""The five stages a tile goes through, and the rules that tie their start times together.

Items (tiles with their operands) flow load → select → compute → requantise → store. Between neighbouring stages stands
a double buffer, loads and stores share one DRAM, and every stage takes its items in order:

    start(s, i) = max(ready(s−1, i), end(s, i−1), end(s+1, i−2))        ready(s, i) = end(s, i) + latency(s)

with two refinements. An item's place in SRAM is taken when its load starts and freed when its compute ends, so
start(load, i) ≥ end(compute, i−2); where an operand fills its SRAM alone, so that there is no second half to load
into, the bound is end(compute, i−1) (`exclusive`). And the DRAM serves load 0, 1, 2, store 0, load 3, store 1, … in
that order.

Two engines compute the same schedule: `event` (SimPy, reads like the block diagram) and `compiled` (Numba).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel_sim.errors import AccelSimError

STAGES = ("load", "select", "compute", "requantise", "store")
LOAD, SELECT, COMPUTE, REQUANTISE, STORE = range(5)


@dataclass(frozen=True)
class Pipeline:
    """Items and their stage times, in cycles (or any fixed fraction of a cycle)."""

    durations: npt.NDArray[np.int64]
    """[items, 5]: how long each stage is occupied by each item."""
    latencies: npt.NDArray[np.int64]
    """[5]: from the end of a stage's occupation until the next stage may use the item."""
    exclusive: npt.NDArray[np.bool_]
    """[items]: the load must wait until the item before has left the array."""

    def __post_init__(self) -> None:
        items = len(self.durations)
        if items == 0 or self.durations.shape != (items, 5) or self.exclusive.shape != (items,):
            raise AccelSimError("pipeline: expected durations [items, 5] and exclusive [items], with at least one item")
        if self.latencies.shape != (5,) or self.durations.min() < 0 or self.latencies.min() < 0:
            raise AccelSimError("pipeline: expected 5 latencies; durations and latencies must not be negative")

    @property
    def items(self) -> int:
        return len(self.durations)


@dataclass(frozen=True)
class Schedule:
    """When each stage starts and ends on each item: int64 [items, 5] each, in the pipeline's unit."""

    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]

    @property
    def makespan(self) -> int:
        """End of the last store, which everything else precedes."""
        return int(self.end[-1, STORE])


def dram_order(items: int) -> Iterator[tuple[int, int]]:
    """The DRAM's fixed service order as (stage, item): load 0, 1, 2, store 0, load 3, store 1, …"""
    for item in range(items + 2):
        if item < items:
            yield LOAD, item
        if item >= 2:
            yield STORE, item - 2
