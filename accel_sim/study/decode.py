"""Decode steps against the size of the batch: where a machine gains, how much, and what ends the gain.

In a decode step every sequence of the batch has one token, and all weights come from DRAM for it. Pruned activations do
not make the weights smaller, so N:M at full rate gains only where the array limits; gathering fetches less, but only as
long as few tokens share a batch, since each needs other rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product
from typing import Any

from accel_sim.arch import Arch
from accel_sim.pattern import Pattern
from accel_sim.simulation import Machine, Result, Settings, Simulation, WorkloadStatistics
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
    context: int | None = None
    """Positions in each KV cache, where that was asked for."""
    mlp_cycles: int | None = None
    """Of the MLPs' matrix products with their predictor; these four are None where the machine runs none."""
    mlp_dense_cycles: int | None = None
    predictor_cycles: int | None = None
    """The part of `mlp_cycles` that predicts."""
    predictor_energy_per_token_pj: float | None = None

    @property
    def mlp_speedup(self) -> float | None:
        """Over dense, of the products that a predictor is about, itself included."""
        return self.mlp_dense_cycles / self.mlp_cycles if self.mlp_cycles else None


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
    context: int | Sequence[int | None] | None = None,
    scope: Scope = "linear",
    on_progress: Callable[[str], Any] = lambda what: None,
) -> DecodeStudy:
    """Every machine on a decode step of every batch; of several contexts each one, which then joins its name.

    `on_progress` is called before each run. Raises AccelSimError for batches that the workload cannot make, and as
    `simulate` does.
    """
    contexts = context if isinstance(context, Sequence) else (context,)
    series: dict[str, list[DecodePoint]] = {
        _name(arch, pattern, length, contexts): [] for (arch, pattern), length in product(designs(archs), contexts)
    }
    source = ""
    for batch, length in product(sorted(batches), contexts):
        step = WorkloadStatistics(decode_workload(workload, batch, length))
        source = _source(step.workload, scope)
        for arch, pattern in designs(archs):
            name = _name(arch, pattern, length, contexts)
            on_progress(f"{name}, batch {batch}")
            series[name].append(replace(_point(arch, pattern, step, batch, scope), machine=name, context=length))
    return DecodeStudy(source, scope, tuple(point for points in series.values() for point in points))


def _name(arch: Arch, pattern: Pattern | None, context: int | None, contexts: Sequence[int | None]) -> str:
    return label(arch, pattern) + (f", context {context}" if len(contexts) > 1 else "")


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
        **_mlp(result, batch),
    )


def _mlp(result: Result, batch: int) -> dict[str, Any]:
    """The MLPs of a machine that predicts: the predictor's own products, and those that it is about."""
    predictor = [layer for layer in result.layers if layer.kind == "predictor"]
    if not predictor:
        return {}
    blocks = {layer.name.partition(".predictor.")[0] for layer in predictor}
    about = [layer for layer in result.layers if layer.kind == "linear" and layer.name.rpartition(".")[0] in blocks]
    return {
        "mlp_cycles": sum(layer.cycles for layer in predictor + about),
        "mlp_dense_cycles": sum(layer.dense_cycles for layer in about),
        "predictor_cycles": sum(layer.cycles for layer in predictor),
        "predictor_energy_per_token_pj": sum(layer.energy_pj for layer in predictor) / batch,
    }


def mlp_lines(study: DecodeStudy) -> list[str]:
    """What MLPs gain by their predictor and what it takes itself, a line a machine that has one."""
    lines = []
    for machine in study.machines:
        points = [point for point in study.of(machine) if point.mlp_cycles]
        if not points:
            continue
        each = (
            f"{point.mlp_speedup:.2f}× at batch {point.batch}"
            f" (predictor {point.predictor_cycles / point.cycles:.1%} of the cycles)"
            for point in points
        )
        lines.append(f"{machine}: MLPs with their predictor {', '.join(each)}")
    return lines


def _weights_needed(simulation: Simulation) -> float:
    """Of the linear projections' weights, those that the machine fetches rows or columns of."""
    fetched = total = 0.0
    for gemm in simulation.workload.gemms:
        if gemm.kind != "linear":
            continue
        needed = simulation.nonzeros(gemm)
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
