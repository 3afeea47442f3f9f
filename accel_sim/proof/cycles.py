"""Cycles of the unit as hardware beside those that the timing model predicts, and its output codes beside the
functional model's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accel_sim.pattern import Pattern
from accel_sim.proof.job import Operands, job
from accel_sim.proof.player import Player
from accel_sim.rtl.shape import UnitShape
from accel_sim.rtl.simulation import run
from accel_sim.rtl.unit import Unit
from accel_sim.timing.pipeline import SELECT, STAGES, STORE, Pipeline
from accel_sim.timing.stages import Latencies

FIRST_CYCLE = 1
"""The first command is taken in cycle 0, so the first load can start in cycle 1: cycle 0 of the timing model."""
MARGIN = 64
"""Cycles simulated beyond the predicted end; a unit that is not done by then counts as stuck."""


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
    mode: int = 0
    """Which of the unit's patterns runs."""

    @property
    def pattern(self) -> Pattern | None:
        return self.shape.modes[self.mode]


@dataclass(frozen=True)
class Outcome:
    """What came out of one configuration. Cycles are the timing model's: 0 is when the first load may start."""

    configuration: Configuration
    bottleneck: str
    """The stage that is occupied longest."""
    predicted: NDArray[np.int64]
    """[items, 5]: when each stage ends its work on each item; −1 where it has none."""
    measured: NDArray[np.int64]
    values: int
    """Output codes compared with the functional model's."""
    divergences: int

    @property
    def core_errors(self) -> int:
        """Ends of select, compute and requantise that differ at all."""
        inside = slice(SELECT, STORE)
        return int((self.predicted[:, inside] != self.measured[:, inside]).sum())

    @property
    def unit_error(self) -> float:
        """Largest error of the cycle at which a tile has left the unit, as a fraction of that cycle."""
        predicted, measured = self.predicted[:, STORE], self.measured[:, STORE]
        return float((np.abs(predicted - measured) / measured).max())


def prove(configuration: Configuration, operands: Operands, simulator: str = "amaranth") -> Outcome:
    """Run one configuration on a simulator and compare. Raises AccelSimError for a product that the unit cannot be
    commanded to do, and where it gives fewer codes than it should within the predicted time and a margin."""
    unit = Unit(configuration.shape)
    latencies = Latencies(unit.latency_select, unit.latency_compute, unit.latency_requantise)
    work = job(configuration.shape, operands, latencies, configuration.held, configuration.mode)
    stalls = configuration.stalls.of(4 * work.beats_total, seed=work.items)
    schedule = work.schedule(stalls)
    cycles = schedule.makespan + MARGIN
    stalled = np.concatenate([np.zeros(FIRST_CYCLE, np.int64), stalls, np.zeros(cycles, np.int64)])[:cycles]
    seen = run(Player(unit, work.commands(), work.beats()), {**work.settings(), "stall": stalled}, simulator)
    reference = operands.reference(configuration.pattern)
    got = work.outputs(seen["codes"][seen["stored"] == 1])
    return Outcome(
        configuration=configuration,
        bottleneck=work.bottleneck,
        predicted=_worked(schedule.end[0], work.plan.pipeline),
        measured=_ends(seen["ended"], work.plan.pipeline),
        values=reference.size,
        divergences=int((got != reference).sum()),
    )


def _ends(flags: NDArray[np.int64], pipeline: Pipeline) -> NDArray[np.int64]:
    """[items, 5] ends of each stage; −1 where an item had nothing to do in it."""
    durations = pipeline.durations[0]
    ends = np.full(durations.shape, -1, dtype=np.int64)
    for stage in range(len(STAGES)):
        (at,) = np.nonzero(flags >> stage & 1)
        worked = np.flatnonzero(durations[:, stage])[: len(at)]
        ends[worked, stage] = at[: len(worked)] + 1 - FIRST_CYCLE
    return ends


def _worked(ends: NDArray[np.int64], pipeline: Pipeline) -> NDArray[np.int64]:
    """Ends with −1 where an item had nothing to do in a stage."""
    return np.where(pipeline.durations[0] > 0, ends, -1)
