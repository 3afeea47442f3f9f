"""Decode steps against the size of the batch: where a machine gains, how much, and what ends the gain.

In a decode step every sequence of the batch has one token, and all weights come from DRAM for it. Pruned activations do
not make the weights smaller, so N:M at full rate gains only where the array limits; gathering fetches less, but only as
long as few tokens share a batch, since each needs other rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from accel_sim.arch import Arch
from accel_sim.pattern import Pattern
from accel_sim.simulation import Machine, Settings, Simulation, WorkloadStatistics
from accel_sim.study.needed import share_of_weights
from accel_sim.study.run import designs, label
from accel_sim.workload import Scope, Workload, decode_workload

WORTH_MENTIONING = 1.02
"""A ratio of cycles nearer to 1 than this is called none."""


@dataclass(frozen=True)
class DecodePoint:
    """One decode step of a batch on one machine."""

    machine: str
    pattern: str
    batch: int
    scope: str
    cycles: int
    """Of the step."""
    dense_cycles: int
    speedup: float
    """Over dense, by cycles."""
    speedup_time: float
    """By time, each machine at its own clock."""
    speedup_iso_area: float
    """By time, over a dense machine with an array enlarged to the same area."""
    tokens_per_s: float
    """The batch over the time of the step."""
    energy_per_token_pj: float
    dense_energy_per_token_pj: float
    weights_needed: float
    """Share of the linear projections' weights in rows (or columns) that some token needs; 1 where all are fetched."""
    dram_bytes: int
    """Of the step's matrix products."""
    dense_dram_bytes: int
    bottleneck: str


@dataclass(frozen=True)
class DecodeStudy:
    """Everything a study found."""

    source: str
    """Of the decode step of the largest batch."""
    scope: str
    points: tuple[DecodePoint, ...]

    @property
    def machines(self) -> list[str]:
        return list(dict.fromkeys(point.machine for point in self.points))

    def of(self, machine: str) -> list[DecodePoint]:
        """One machine's points, by batch."""
        return [point for point in self.points if point.machine == machine]


def run_decode_study(
    archs: Sequence[Arch],
    workload: Workload,
    batches: Sequence[int],
    context: int | None = None,
    scope: Scope = "linear",
    on_progress: Callable[[str], Any] = lambda what: None,
) -> DecodeStudy:
    """Every machine on a decode step of every batch. `on_progress` is called before each run.

    Raises AccelSimError for batches that the workload cannot make, and as `simulate` does.
    """
    points, source = [], ""
    for batch in sorted(batches):
        step = WorkloadStatistics(decode_workload(workload, batch, context))
        source = _source(step.workload, scope)
        for arch, pattern in designs(archs):
            on_progress(f"{label(arch, pattern)}, batch {batch}")
            points.append(_point(arch, pattern, step, batch, scope))
    order = [label(arch, pattern) for arch, pattern in designs(archs)]
    return DecodeStudy(source, scope, tuple(sorted(points, key=lambda point: order.index(point.machine))))


def _source(step: Workload, scope: Scope) -> str:
    return f"{step.source}; {step.model.source}" if scope == "model" and step.model else step.source


def _point(arch: Arch, pattern: Pattern | None, step: WorkloadStatistics, batch: int, scope: Scope) -> DecodePoint:
    settings = Settings(scope=scope, quality=False)
    simulation = Simulation(Machine(arch, arch.pattern(pattern)), step.workload, step, settings)
    result = simulation.result()
    return DecodePoint(
        machine=label(arch, pattern),
        pattern=result.pattern,
        batch=batch,
        scope=scope,
        cycles=result.cycles,
        dense_cycles=result.dense_cycles,
        speedup=result.speedup,
        speedup_time=result.speedup_time,
        speedup_iso_area=result.speedup_iso_area,
        tokens_per_s=batch / result.time_s,
        energy_per_token_pj=result.energy_pj["total"] / batch,
        dense_energy_per_token_pj=result.dense_energy_pj / batch,
        weights_needed=_weights_needed(simulation),
        dram_bytes=sum(layer.dram_bytes for layer in result.layers),
        dense_dram_bytes=sum(layer.dense_dram_bytes for layer in result.layers),
        bottleneck=result.bottleneck,
    )


def _weights_needed(simulation: Simulation) -> float:
    """Of the linear projections' weights, those that the machine fetches rows or columns of."""
    fetched = total = 0.0
    for gemm in simulation.workload.gemms:
        pattern = simulation.running(gemm).pattern
        needed = simulation.statistics.nonzeros(gemm, pattern, simulation.skipping)
        weights = gemm.features * gemm.outputs * gemm.repeat
        fetched += weights * share_of_weights(gemm, needed)
        total += weights
    return fetched / total


def verdict(points: Sequence[DecodePoint]) -> str:
    """Where one machine's gain begins and ends, and why, in words. `points` are in order of the batch."""
    best = max(points, key=lambda point: point.speedup)
    limits = f"{_slower(points)}limited by {_limits(points)}"
    if all(point.cycles == point.dense_cycles for point in points):
        return f"{best.machine}: as fast as dense at every batch; {limits}."
    if best.speedup < WORTH_MENTIONING:
        return f"{best.machine}: no gain over dense at any batch; {limits}."
    half = 1 + (best.speedup - 1) / 2
    said = f"{best.machine}: {best.speedup:.2f}× over dense at best (batch {best.batch})"
    lost = next((point for point in points if point.batch > best.batch and point.speedup < half), None)
    missing = [point for point in points if point.batch < best.batch and point.speedup < half]
    if missing:
        said += f", less than half of that gain up to batch {missing[-1].batch}{_why_not_yet(missing[-1])}"
    if lost:
        said += f", less than half of it from batch {lost.batch} on{_why_no_longer(best, lost)}"
    return f"{said}; {limits}."


def _why_not_yet(point: DecodePoint) -> str:
    if point.bottleneck == "dram" and point.weights_needed == 1:
        return " (DRAM limits, and the weights come whole whatever the pattern)"
    return ""


def _why_no_longer(best: DecodePoint, lost: DecodePoint) -> str:
    if lost.weights_needed > best.weights_needed:
        return f" (the batch needs {lost.weights_needed:.0%} of the weights; {best.weights_needed:.0%} at the best)"
    return f" ({lost.bottleneck} limits, no longer {best.bottleneck})" if lost.bottleneck != best.bottleneck else ""


def _slower(points: Sequence[DecodePoint]) -> str:
    slower = [point for point in points if point.speedup < 1 / WORTH_MENTIONING]
    if not slower:
        return ""
    worst = min(slower, key=lambda point: point.speedup)
    return f"slower than dense from batch {slower[0].batch} ({worst.speedup:.2f}× at batch {worst.batch}); "


def _limits(points: Sequence[DecodePoint]) -> str:
    """`dram up to batch 64, compute from 128`."""
    runs = [(cause, list(members)) for cause, members in groupby(points, key=lambda point: point.bottleneck)]
    if len(runs) == 1:
        return runs[0][0]
    first, *others = runs
    begins = [f"{cause} from {members[0].batch}" for cause, members in others]
    return ", ".join([f"{first[0]} up to batch {first[1][-1].batch}", *begins])
