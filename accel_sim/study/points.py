"""One design on one workload, as a point of the trade-off: what a study compares, tabulates and draws."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from accel_sim.errors import AccelSimError

if TYPE_CHECKING:
    from accel_sim.simulation import Result

UNKNOWN = "unknown"
"""The `quality_kind` of a point whose quality the simulator cannot tell."""
ALL_WORKLOADS = "all"
"""Name of the work that consists of every workload of a study, one after the other."""


@dataclass(frozen=True)
class Point:
    """The figures of one machine, running one pattern, on one workload."""

    label: str
    """Name of the machine, with the pattern where the machine has several."""
    arch: str
    pattern: str
    """N:M, or `dense`."""
    workload: str
    cycles: int
    dense_cycles: int
    time_s: float
    dense_time_s: float
    speedup: float
    """By cycles, over the dense machine with the same multipliers."""
    speedup_time: float
    """By time, each machine at its own clock."""
    speedup_iso_area: float
    """By time, over a dense machine whose array is enlarged until both have the same area."""
    area_um2: float
    area_overhead: float
    """Area over that of the dense machine, SRAM included, less one."""
    energy_pj: float
    dense_energy_pj: float
    edp_joule_seconds: float
    """Energy-delay product."""
    gops_per_mm2: float
    """Dense-equivalent operations per second and area."""
    quality_loss: float | None
    """Less is better; what it measures stands in `quality_kind`. None where the simulator cannot tell it."""
    quality_kind: str
    quality_standard_error: float | None
    """Where `quality_loss` comes from a sample of token rows."""
    bottleneck: str
    scope: str = "linear"
    """`linear`: the linear projections. `model`: everything the decoder computes."""
    policy: str | None = None
    """The file that says which projection runs pruned; None: all of them do."""
    area_overhead_low: float | None = None
    """Ends of `area_overhead` over the tables of all shipped libraries; None where nobody worked them out."""
    area_overhead_high: float | None = None

    @property
    def break_even(self) -> float:
        """The speed-up by time at which this design's area would only just pay for itself."""
        return self.speedup_time / self.speedup_iso_area


def point_from_result(result: Result, several_patterns: bool = False) -> Point:
    """The point of one result; `several_patterns` puts the pattern into the label, for a flexible machine."""
    quality = result.quality_loss
    return Point(
        label=f"{result.arch} {result.pattern}" if several_patterns else result.arch,
        arch=result.arch,
        pattern=result.pattern,
        workload=result.trace,
        cycles=result.cycles,
        dense_cycles=result.dense_cycles,
        time_s=result.time_s,
        dense_time_s=result.dense_time_s,
        speedup=result.speedup,
        speedup_time=result.speedup_time,
        speedup_iso_area=result.speedup_iso_area,
        area_um2=result.area.total_um2,
        area_overhead=result.area.overhead,
        energy_pj=result.energy_pj["total"],
        dense_energy_pj=result.dense_energy_pj,
        edp_joule_seconds=result.edp,
        gops_per_mm2=result.performance_per_mm2,
        quality_loss=quality.value if quality else None,
        quality_kind=quality.kind if quality else UNKNOWN,
        quality_standard_error=quality.standard_error if quality else None,
        bottleneck=result.bottleneck,
        scope=result.scope,
        policy=result.policy,
        area_overhead_low=result.area.band.low,
        area_overhead_high=result.area.band.high,
    )


def combine(points: Sequence[Point]) -> Point:
    """One design's points on several workloads as one: the workloads run one after the other.

    Cycles, times and energies add up, and so do those of the (enlarged) dense machines; the quality loss is the
    unweighted mean. Raises AccelSimError when the points are of different designs, or when their quality is measured
    in different ways.
    """
    first = points[0]
    if len({(point.label, point.area_um2) for point in points}) > 1:
        raise AccelSimError(f"design {first.label}: cannot be combined with {points[-1].label}")
    kinds = {point.quality_kind for point in points}
    if len(kinds) > 1:
        raise AccelSimError(
            f"design {first.label}: quality is measured as {' and as '.join(sorted(kinds))}; such workloads "
            "cannot be averaged, give perplexities with --quality or study them one by one"
        )

    def total(quantity: str) -> float:
        return sum(getattr(point, quantity) for point in points)

    def mean_over_time(quantity: str) -> float:
        return sum(getattr(point, quantity) * point.time_s for point in points) / total("time_s")

    errors = [point.quality_standard_error for point in points]
    return replace(
        first,
        workload=ALL_WORKLOADS,
        cycles=total("cycles"),
        dense_cycles=total("dense_cycles"),
        time_s=total("time_s"),
        dense_time_s=total("dense_time_s"),
        speedup=total("dense_cycles") / total("cycles"),
        speedup_time=total("dense_time_s") / total("time_s"),
        speedup_iso_area=mean_over_time("speedup_iso_area"),
        energy_pj=total("energy_pj"),
        dense_energy_pj=total("dense_energy_pj"),
        edp_joule_seconds=total("energy_pj") * 1e-12 * total("time_s"),
        gops_per_mm2=mean_over_time("gops_per_mm2"),
        quality_loss=None if first.quality_loss is None else total("quality_loss") / len(points),
        quality_standard_error=None if None in errors else math.hypot(*errors) / len(points),
        bottleneck=max(points, key=lambda point: point.time_s).bottleneck,
    )


def by_design(points: Iterable[Point]) -> dict[str, list[Point]]:
    """Points grouped by label, in order of first appearance."""
    designs: dict[str, list[Point]] = {}
    for point in points:
        designs.setdefault(point.label, []).append(point)
    return designs
