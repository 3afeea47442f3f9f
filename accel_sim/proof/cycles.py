"""Cycles of the unit as hardware beside those that the timing model predicts, and its output codes beside the
functional model's."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from accel_sim.proof.job import Job, Operands, job
from accel_sim.proof.player import Player
from accel_sim.rtl.shape import UnitShape
from accel_sim.rtl.simulation import run
from accel_sim.rtl.unit import Unit
from accel_sim.timing import compiled
from accel_sim.timing.pipeline import COMPUTE, LOAD, REQUANTISE, SELECT, STAGES, STORE, Pipeline
from accel_sim.timing.stages import Latencies

FIRST_CYCLE = 1
"""The first command is taken in cycle 0, so the first load can start in cycle 1: cycle 0 of the timing model."""
MARGIN = 64
"""Cycles simulated beyond the predicted end, before a unit counts as stuck."""


@dataclass(frozen=True)
class Stalls:
    """When the load stream is held back."""

    period: int = 1
    """Cycles after which the pattern repeats; 1: never held back."""
    held: int = 0
    """Cycles of each period in which nothing comes."""
    random: bool = False
    """Each cycle by itself, with the same share, instead of a pattern that repeats."""

    @property
    def duty(self) -> float:
        """Share of the cycles in which something may come."""
        return 1 - self.held / self.period

    def of(self, cycles: int, seed: int) -> NDArray[np.int64]:
        """1 in every cycle that is held back."""
        if self.random:
            return (np.random.default_rng(seed).random(cycles) >= self.duty).astype(np.int64)
        return (np.arange(cycles) % self.period >= self.period - self.held).astype(np.int64)

    def __str__(self) -> str:
        if not self.held:
            return "none"
        return f"{self.held} of {self.period}{' at random' if self.random else ''}"


@dataclass(frozen=True)
class Configuration:
    """One unit with one product on it."""

    shape: UnitShape
    tokens: int
    features: int
    outputs: int
    held: str = "weights"
    """The operand whose panels stay while the other one streams past."""
    stalls: Stalls = Stalls()


@dataclass(frozen=True)
class Outcome:
    """What came out of one configuration. Cycles are the timing model's: 0 is when the first load may start."""

    configuration: Configuration
    bottleneck: str
    """The stage that is occupied longest."""
    predicted: NDArray[np.int64]
    """[items]: when the last code of each tile leaves the unit."""
    measured: NDArray[np.int64]
    core_predicted: NDArray[np.int64]
    """[items, 4]: ends of select (−1 where there is nothing to select), compute, requantise and store, the model being
    told when each load ended."""
    core_measured: NDArray[np.int64]
    values: int
    """Output codes compared with the functional model's."""
    divergences: int

    @property
    def core_errors(self) -> int:
        """Stage ends inside the unit that differ at all."""
        return int((self.core_predicted != self.core_measured).sum())

    @property
    def error(self) -> float:
        """Of the cycle at which the last code leaves the unit, as a fraction of it."""
        return float(self.predicted[-1] / self.measured[-1] - 1)

    @property
    def worst_tile(self) -> int:
        """Largest error of a tile's cycle, in cycles."""
        return int(np.abs(self.predicted - self.measured).max())


def prove(configuration: Configuration, operands: Operands, simulator: str = "amaranth") -> Outcome:
    """Run one configuration on a simulator and compare. Raises AccelSimError for a product that the unit cannot be
    commanded to do, and where it gives fewer codes than it should within the predicted time and a margin."""
    unit = Unit(configuration.shape)
    latencies = Latencies(unit.latency_select, unit.latency_compute, unit.latency_requantise)
    work = job(configuration.shape, operands, latencies, configuration.held, configuration.stalls.duty)
    schedule = work.schedule()
    cycles = int(schedule.makespan * (1.05 if configuration.stalls.random else 1)) + MARGIN
    seen = run(
        Player(unit, work.commands(), work.beats()),
        {**work.settings(), "stall": configuration.stalls.of(cycles, seed=work.items)},
        simulator,
    )
    codes = seen["codes"][seen["stored"] == 1]
    measured = _ends(seen["ended"], work.plan.pipeline)
    reference = operands.reference(configuration.shape.pattern)
    got = work.outputs(codes)
    occupied = work.plan.pipeline.durations[0].sum(axis=0)
    return Outcome(
        configuration=configuration,
        bottleneck=STAGES[int(occupied.argmax())],
        predicted=schedule.end[0, :, STORE],
        measured=measured[:, STORE],
        core_predicted=_told_loads(work, measured),
        core_measured=measured[:, SELECT:],
        values=reference.size,
        divergences=int((got != reference).sum()),
    )


def _ends(flags: NDArray[np.int64], pipeline: Pipeline) -> NDArray[np.int64]:
    """[items, 5] ends of each stage; −1 where an item had nothing to do in it."""
    durations = pipeline.durations[0]
    ends = np.full(durations.shape, -1, dtype=np.int64)
    for stage in range(len(STAGES)):
        (at,) = np.nonzero(flags >> stage & 1)
        worked = durations[:, stage] > 0
        ends[worked, stage] = at[: worked.sum()] + 1 - FIRST_CYCLE
    return ends


def _told_loads(work: Job, measured: NDArray[np.int64]) -> NDArray[np.int64]:
    """[items, 4] predicted ends behind the loads, the loads taking as long as they did."""
    pipeline = work.plan.pipeline
    durations = pipeline.durations.copy()
    for item in np.flatnonzero(durations[0, :, LOAD]):  # each start depends on what was before, never on what follows
        started = compiled.run(replace(pipeline, durations=durations)).start[0, item, LOAD]
        durations[0, item, LOAD] = measured[item, LOAD] - started
    ends = compiled.run(replace(pipeline, durations=durations)).end[0, :, SELECT:].copy()
    ends[durations[0, :, SELECT:] == 0] = -1
    return ends
