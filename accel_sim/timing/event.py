"""The discrete-event engine: the block diagram as SimPy processes. Slow, and meant to be read.

One process per stage and core, and one for the DRAM. Each double buffer is a container with two places: a stage takes a
place before it starts on an item, the stage that empties it gives the place back when it ends.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import simpy

from accel_sim.timing.pipeline import COMPUTE, LOAD, REQUANTISE, SELECT, STORE, Pipeline, Schedule, dram_order

Process = Generator[simpy.Event, Any, None]


class _Core:
    """One core's queues and buffers, and the three stages that work on them."""

    def __init__(self, environment: simpy.Environment, pipeline: Pipeline, number: int, schedule: Schedule) -> None:
        self.environment, self.pipeline = environment, pipeline
        self.durations = pipeline.durations[number]
        self.start, self.end = schedule.start[number], schedule.end[number]
        # Items on their way from stage s to stage s+1.
        self.queues = [simpy.Store(environment) for _ in range(4)]
        # Free places: SRAM halves (load … compute), then the buffers behind select, compute and requantise.
        self.sram = self._double_buffer()
        self.selected = self._double_buffer()
        self.accumulated = self._double_buffer()
        self.requantised = self._double_buffer()
        # What loads that must know a selection wait for.
        self.selection_done = [environment.event() for _ in range(pipeline.items)]

    def _double_buffer(self) -> simpy.Container:
        return simpy.Container(self.environment, capacity=2, init=2)

    def occupy(self, stage: int, item: int) -> Process:
        """Work on the item, then pass it on; the stage itself is free again before the item is ready."""
        self.start[item, stage] = self.environment.now
        yield self.environment.timeout(int(self.durations[item, stage]))
        self.end[item, stage] = self.environment.now
        if stage != STORE:
            self.environment.process(self._deliver(stage, item))

    def _deliver(self, stage: int, item: int) -> Process:
        yield self.environment.timeout(int(self.pipeline.latencies[stage]))
        if stage == SELECT:
            self.selection_done[item].succeed()
        yield self.queues[stage].put(item)

    def reserve(self, item: int) -> Process:
        """Take a place in SRAM for the item; an exclusive one waits until both halves are empty."""
        exclusive = bool(self.pipeline.exclusive[item])
        yield self.sram.get(2 if exclusive else 1)
        if exclusive:  # the item after may use the other half
            yield self.sram.put(1)

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


def _dram(pipeline: Pipeline, cores: list[_Core]) -> Process:
    """One server for both directions and all cores, in the fixed order."""
    for stage, item, number in dram_order(pipeline.items, len(cores)):
        core = cores[number]
        if stage == STORE:
            yield core.queues[REQUANTISE].get()
            yield from core.occupy(STORE, item)
            yield core.requantised.put(1)
            continue
        if pipeline.after_select[item] and item > 0:
            for other in cores:
                yield other.selection_done[item - 1]
        if not pipeline.shared[item]:
            yield from core.reserve(item)
        elif number == 0:
            for other in cores:
                yield from other.reserve(item)
        yield from core.occupy(LOAD, item)


def run(pipeline: Pipeline) -> Schedule:
    """Simulate the pipeline event by event."""
    environment = simpy.Environment()
    shape = pipeline.durations.shape
    schedule = Schedule(np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64))
    cores = [_Core(environment, pipeline, number, schedule) for number in range(pipeline.cores)]
    environment.process(_dram(pipeline, cores))
    for core in cores:
        for process in (core.select, core.compute, core.requantise):
            environment.process(process())
    environment.run()
    return schedule
