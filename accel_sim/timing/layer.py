"""The time of one matrix product on one machine, and what it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from accel_sim.arch.schema import Arch
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.timing import compiled, event
from accel_sim.timing.critical_path import critical_path
from accel_sim.timing.pipeline import COMPUTE, LOAD, REQUANTISE, SELECT, STORE, Pipeline, Schedule
from accel_sim.timing.stages import (
    ComputeTime,
    Latencies,
    Traffic,
    compute_time,
    enlarged_compute_time,
    pipeline,
    traffic,
)
from accel_sim.timing.tiling import Items, Tiling, cut, formats, item_count, tilings
from accel_sim.workload import Gemm

Engine = Literal["compiled", "event"]
ENGINES: dict[str, Callable[[Pipeline], Schedule]] = {"compiled": compiled.run, "event": event.run}

CAUSES = (
    "ideal_compute",
    "array_underuse",
    "fill_drain",
    "synchronisation",
    "weight_port",
    "sram",
    "selector",
    "dram",
    "requantise",
    "write_back",
)
"""Causes of cycles. The first four are the array at work, `compute` in the name of a bottleneck."""

SLACK = 0.01
"""Among tilings within this fraction of the fastest, the one with the least DRAM traffic is taken: a tiling that
fetches everything again may win a few cycles of start-up, and no architect would pay its energy for them."""


MOST_ITEMS = 4_000_000
"""Pipeline items of one product that are held in memory at a time (about 1 GB)."""


@dataclass(frozen=True)
class Plan:
    """A product cut by one tiling, with everything its schedule needs."""

    tiling: Tiling
    items: Items
    compute: ComputeTime
    traffic: Traffic
    pipeline: Pipeline


@dataclass(frozen=True)
class LayerTiming:
    """One product on one machine: `cycles` is the makespan and `breakdown` (cause → cycles) adds up to it."""

    plan: Plan
    schedule: Schedule
    cycles: int
    breakdown: dict[str, int]


def plan(gemm: Gemm, arch: Arch, pattern: Pattern | None, tiling: Tiling, latencies: Latencies) -> Plan:
    """Cut a product by a given tiling."""
    items = cut(gemm, arch, pattern, tiling)
    compute = compute_time(items, arch, pattern, latencies)
    moved = traffic(items, gemm, formats(gemm, arch, pattern))
    return Plan(tiling, items, compute, moved, pipeline(items, compute, moved, gemm, arch, pattern, latencies))


@dataclass(frozen=True)
class Candidate:
    """One tiling that was tried."""

    tiling: Tiling
    cycles: int
    dram_read_bytes: int


def candidates(gemm: Gemm, arch: Arch, pattern: Pattern | None, latencies: Latencies) -> list[Candidate]:
    """Every tiling that fits the buffers, scheduled; the one that is taken first.

    It has the least DRAM traffic among those within `SLACK` of the fastest. Raises AccelSimError for a product that no
    tiling cuts into at most `MOST_ITEMS` items.
    """
    fitting = tilings(gemm, arch, pattern)
    feasible = [tiling for tiling in fitting if item_count(gemm, arch, tiling) <= MOST_ITEMS]
    if not feasible:
        fewest = min(item_count(gemm, arch, tiling) for tiling in fitting)
        raise AccelSimError(
            f"arch {arch.name}, layer {gemm.name}: {fewest:,} pipeline items, at most {MOST_ITEMS:,} are simulated;"
            " use fewer tokens or larger buffers"
        )
    tried = [_try(plan(gemm, arch, pattern, tiling, latencies)) for tiling in feasible]
    limit = min(candidate.cycles for candidate in tried) * (1 + SLACK)
    return sorted(tried, key=lambda one: (one.cycles > limit, one.dram_read_bytes, one.cycles))


def _try(plan: Plan) -> Candidate:
    return Candidate(plan.tiling, compiled.run(plan.pipeline).makespan, int(plan.traffic.read.sum()))


def time_layer(
    gemm: Gemm, arch: Arch, pattern: Pattern | None, latencies: Latencies, engine: Engine = "compiled"
) -> LayerTiming:
    """Schedule one product on one machine with either engine.

    Raises AccelSimError when no tiling fits the buffers.
    """
    best = candidates(gemm, arch, pattern, latencies)[0]
    chosen = plan(gemm, arch, pattern, best.tiling, latencies)
    schedule = ENGINES[engine](chosen.pipeline)
    return LayerTiming(chosen, schedule, schedule.makespan, _breakdown(chosen, schedule, arch, pattern))


def cycles_with_more_columns(timing: LayerTiming, arch: Arch, factor: float) -> float:
    """Cycles of the same schedule on `arch` with `factor` times the columns (a fraction): only the array is faster."""
    scale = 4096 if timing.cycles < 2**48 else 1  # fixed point, so that the integer recurrence keeps fractions
    chosen, original = timing.plan, timing.plan.pipeline
    durations = original.durations * scale
    durations[:, COMPUTE] = np.rint(enlarged_compute_time(chosen.compute, chosen.items, arch, factor) * scale)
    scaled = Pipeline(durations, original.latencies * scale, original.exclusive)
    return compiled.run(scaled).makespan / scale


def bottleneck(breakdown: dict[str, int]) -> str:
    """The largest cause; the array's own four count together as `compute`. Ties go to the earlier name."""
    summed = {"compute": sum(breakdown[cause] for cause in CAUSES[:4])}
    summed |= {cause: breakdown[cause] for cause in CAUSES[4:]}
    return max(summed, key=lambda cause: summed[cause])


def _breakdown(chosen: Plan, schedule: Schedule, arch: Arch, pattern: Pattern | None) -> dict[str, int]:
    path = critical_path(chosen.pipeline, schedule)
    occupied = np.where(path.occupied, chosen.pipeline.durations, 0).sum(axis=0)
    waited = path.waits * chosen.pipeline.latencies
    computing = path.occupied[:, COMPUTE]
    array = int(chosen.compute.array[computing].sum())
    products = (chosen.items.tokens * chosen.items.outputs * _kept(chosen.items.features, pattern))[computing].sum()
    ideal = int(products) // (arch.array.rows * arch.array.cols * arch.array.lanes)
    return {
        "ideal_compute": ideal,
        "array_underuse": array - ideal,
        "fill_drain": int(waited[COMPUTE] + (chosen.compute.fill + chosen.compute.drain)[computing].sum()),
        "synchronisation": 0,
        "weight_port": int(chosen.compute.weight_port[computing].sum()),
        "sram": int(chosen.compute.sram[computing].sum()),
        "selector": int(occupied[SELECT] + waited[SELECT]),
        "dram": int(occupied[LOAD] + waited[LOAD]),
        "requantise": int(occupied[REQUANTISE] + waited[REQUANTISE] + chosen.compute.requantise[computing].sum()),
        "write_back": int(occupied[STORE]),
    }


def _kept(features: np.ndarray, pattern: Pattern | None) -> np.ndarray:
    """Slots that hold a real feature: N of every full group, and of the last one what it has."""
    if pattern is None:
        return features
    return features // pattern.m * pattern.n + np.minimum(features % pattern.m, pattern.n)
