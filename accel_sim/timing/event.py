"""The discrete-event engine: the block diagram as SimPy processes. Slow, and meant to be read.

One process per stage. Each double buffer is a container with two places: a stage takes a place before it starts on an
item, the stage that empties it gives the place back when it ends.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import simpy

from accel_sim.timing.pipeline import COMPUTE, LOAD, REQUANTISE, SELECT, STORE, Pipeline, Schedule, dram_order

Process = Generator[simpy.Event, Any, None]


class _Machine:
    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.environment = simpy.Environment()
        self.start = np.zeros((pipeline.items, 5), dtype=np.int64)
        self.end = np.zeros((pipeline.items, 5), dtype=np.int64)
        # Items on their way from stage s to stage s+1.
        self.queues = [simpy.Store(self.environment) for _ in range(4)]
        # Free places: SRAM halves (load … compute), then the buffers behind select, compute and requantise.
        self.sram = self._double_buffer()
        self.selected = self._double_buffer()
        self.accumulated = self._double_buffer()
        self.requantised = self._double_buffer()

    def _double_buffer(self) -> simpy.Container:
        return simpy.Container(self.environment, capacity=2, init=2)

    def occupy(self, stage: int, item: int) -> Process:
        """Work on the item, then pass it on; the stage itself is free again before the item is ready."""
        self.start[item, stage] = self.environment.now
        yield self.environment.timeout(int(self.pipeline.durations[item, stage]))
        self.end[item, stage] = self.environment.now
        if stage != STORE:
            self.environment.process(self._deliver(stage, item))

    def _deliver(self, stage: int, item: int) -> Process:
        yield self.environment.timeout(int(self.pipeline.latencies[stage]))
        yield self.queues[stage].put(item)

    def dram(self) -> Process:
        """One server for both directions, in the fixed order."""
        for stage, item in dram_order(self.pipeline.items):
            if stage == LOAD:
                exclusive = bool(self.pipeline.exclusive[item])
                yield self.sram.get(2 if exclusive else 1)
                if exclusive:  # both halves are empty now; the item after may use the other one
                    yield self.sram.put(1)
                yield from self.occupy(LOAD, item)
            else:
                yield self.queues[REQUANTISE].get()
                yield from self.occupy(STORE, item)
                yield self.requantised.put(1)

    def select(self) -> Process:
        for _ in range(self.pipeline.items):
            item = yield self.queues[LOAD].get()
            yield self.selected.get(1)
            yield from self.occupy(SELECT, item)

    def compute(self) -> Process:
        for _ in range(self.pipeline.items):
            item = yield self.queues[SELECT].get()
            yield self.accumulated.get(1)
            yield from self.occupy(COMPUTE, item)
            yield self.selected.put(1)
            yield self.sram.put(1)

    def requantise(self) -> Process:
        for _ in range(self.pipeline.items):
            item = yield self.queues[COMPUTE].get()
            yield self.requantised.get(1)
            yield from self.occupy(REQUANTISE, item)
            yield self.accumulated.put(1)


def run(pipeline: Pipeline) -> Schedule:
    """Simulate the pipeline event by event."""
    machine = _Machine(pipeline)
    for process in (machine.dram, machine.select, machine.compute, machine.requantise):
        machine.environment.process(process())
    machine.environment.run()
    return Schedule(machine.start, machine.end)
