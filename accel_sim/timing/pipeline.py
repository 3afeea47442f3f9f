"""The five stages a tile goes through, and the rules that tie their start times together.

Items (tiles with their operands) flow load → select → compute → requantise → store, on each core through stages of its
own. Between neighbouring stages stands a double buffer, loads and stores of all cores share one DRAM, and every stage
takes its items in order:

    start(s, i) = max(ready(s−1, i), end(s, i−1), end(s+1, i−2))        ready(s, i) = end(s, i) + latency(s)

with these refinements:

* An item's place in SRAM is taken when its load starts and freed when its compute ends, so start(load, i) ≥
  end(compute, i−2); where an operand fills its SRAM alone, so that there is no second half to load into, the bound is
  end(compute, i−1) (`exclusive`).
* What all cores need comes in one transfer, the first core's load, which waits for a place in every core (`shared`).
* A load that fetches only what selection left over waits for the selection of the item before (`after_select`).
* The DRAM serves load 0, 1, 2, store 0, load 3, store 1, … in that order, each of them core by core.

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
    """[cores, items, 5]: how long each stage is occupied by each item."""
    latencies: npt.NDArray[np.int64]
    """[5]: from the end of a stage's occupation until the next stage may use the item."""
    exclusive: npt.NDArray[np.bool_]
    """[items]: the load must wait until the item before has left the array."""
    shared: npt.NDArray[np.bool_]
    """[items]: the first core's load brings what all cores need."""
    after_select: npt.NDArray[np.bool_]
    """[items]: the load must wait until every core has selected the item before."""

    def __post_init__(self) -> None:
        cores, items = self.durations.shape[:2] if self.durations.ndim == 3 else (0, 0)
        flags = (self.exclusive, self.shared, self.after_select)
        if not cores or not items or self.durations.shape[2] != 5 or any(flag.shape != (items,) for flag in flags):
            raise AccelSimError(
                "pipeline: expected durations [cores, items, 5] and a flag an item, with at least one item"
            )
        if self.latencies.shape != (5,) or self.durations.min() < 0 or self.latencies.min() < 0:
            raise AccelSimError("pipeline: expected 5 latencies; durations and latencies must not be negative")

    @classmethod
    def of_one_core(
        cls,
        durations: npt.NDArray[np.int64],
        latencies: npt.NDArray[np.int64],
        exclusive: npt.NDArray[np.bool_] | None = None,
    ) -> Pipeline:
        """A pipeline of one core from `durations` [items, 5]."""
        no = np.zeros(len(durations), dtype=np.bool_)
        return cls(durations[None], latencies, no if exclusive is None else exclusive, no, no)

    @property
    def cores(self) -> int:
        return self.durations.shape[0]

    @property
    def items(self) -> int:
        return self.durations.shape[1]


@dataclass(frozen=True)
class Schedule:
    """When each stage starts and ends on each item: int64 [cores, items, 5] each, in the pipeline's unit."""

    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]

    @property
    def makespan(self) -> int:
        """End of the last core's last store, which everything else precedes."""
        return int(self.end[-1, -1, STORE])


def dram_order(items: int, cores: int = 1) -> Iterator[tuple[int, int, int]]:
    """The DRAM's fixed service order as (stage, item, core): load 0, 1, 2, store 0, load 3, store 1, …"""
    for item in range(items + 2):
        if item < items:
            yield from ((LOAD, item, core) for core in range(cores))
        if item >= 2:
            yield from ((STORE, item - 2, core) for core in range(cores))
