"""The time of one matrix product on one machine, and what it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

import numpy as np

from accel_sim.arch.schema import Arch
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.timing import compiled, event
from accel_sim.timing.array_time import kept_products
from accel_sim.timing.critical_path import CriticalPath, critical_path
from accel_sim.timing.items import Items, cut, item_count
from accel_sim.timing.pipeline import COMPUTE, LOAD, REQUANTISE, SELECT, STORE, Pipeline, Schedule
from accel_sim.timing.product import Nonzeros, Product
from accel_sim.timing.stages import (
    ComputeTime,
    Latencies,
    Traffic,
    compute_time,
    enlarged_compute_time,
    load_cycles,
    pipeline,
    scanned_bytes,
    traffic,
)
from accel_sim.timing.tiling import Tiling, tilings
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

    product: Product
    tiling: Tiling
    items: Items
    compute: ComputeTime
    traffic: Traffic
    pipeline: Pipeline
    scanned_bytes: int
    """Activations read ahead of the items, to know which weights are needed."""

    @property
    def dram_read_bytes(self) -> int:
        return int(self.traffic.read.sum()) + self.scanned_bytes

    @property
    def item_durations(self) -> np.ndarray:
        """[cores, items, 5] without the item that goes ahead of the product's own."""
        return self.pipeline.durations[:, self.pipeline.items - self.items.tokens.shape[1] :]


@dataclass(frozen=True)
class LayerTiming:
    """One product on one machine: `cycles` is its launch and the schedule's makespan, and `breakdown` (cause → cycles)
    adds up to it."""

    plan: Plan
    schedule: Schedule
    cycles: int
    breakdown: dict[str, int]

    @property
    def launch_cycles(self) -> int:
        """Cycles before the schedule's first."""
        return self.cycles - self.schedule.makespan


def plan(product: Product, arch: Arch, pattern: Pattern | None, tiling: Tiling, latencies: Latencies) -> Plan:
    """Cut a product by a given tiling."""
    items = cut(product, arch, pattern, tiling)
    compute = compute_time(items, product, arch, pattern, latencies)
    moved = traffic(items, product, arch, pattern)
    stages = pipeline(items, compute, moved, product, arch, pattern, latencies)
    return Plan(product, tiling, items, compute, moved, stages, scanned_bytes(product, arch, pattern))


@dataclass(frozen=True)
class Candidate:
    """One tiling that was tried."""

    tiling: Tiling
    cycles: int
    array_cycles: int
    """Of the core that works longest; where both operands are dealt, of all cores on average. No panels can be
    faster."""
    dram_read_bytes: int


def candidates(product: Product, arch: Arch, pattern: Pattern | None, latencies: Latencies) -> list[Candidate]:
    """Tilings that fit the buffers, scheduled; the one that is taken first.

    It has the least DRAM traffic among those within `SLACK` of the fastest. Weight-stationary, smaller panels load the
    weights more often: they are tried as long as the array (in a grid, that of every core) does not already work almost
    all the time. What zeros are skipped is not known when a product is cut, so all groups count as full. Raises
    AccelSimError for a product that no tiling cuts into at most `MOST_ITEMS` items.
    """
    product = replace(product, windows=None)
    feasible = _feasible(product, arch, pattern)
    tried: list[Candidate] = []
    for _, with_panels in groupby(feasible, key=lambda tiling: tiling.panel_tokens):
        tried += [_try(plan(product, arch, pattern, tiling, latencies), arch) for tiling in with_panels]
        fastest = min(tried, key=lambda one: one.cycles)
        if fastest.cycles <= fastest.array_cycles * (1 + SLACK):
            break
    limit = fastest.cycles * (1 + SLACK)
    return sorted(tried, key=lambda one: (one.cycles > limit, one.dram_read_bytes, one.cycles))


def _feasible(product: Product, arch: Arch, pattern: Pattern | None) -> list[Tiling]:
    fitting = tilings(product, arch, pattern)
    feasible = [tiling for tiling in fitting if item_count(product, arch, tiling) <= MOST_ITEMS]
    if not feasible:
        fewest = min(item_count(product, arch, tiling) for tiling in fitting)
        raise AccelSimError(
            f"arch {arch.name}, layer {product.name}: {fewest:,} pipeline items, at most {MOST_ITEMS:,} are simulated;"
            " use fewer tokens or larger buffers"
        )
    return feasible


def _try(plan: Plan, arch: Arch) -> Candidate:
    by_core = plan.compute.total.sum(axis=1)
    # Where both operands are dealt, smaller panels give idle cores something to do: a busy one says nothing of others.
    working = by_core.mean() if arch.cores.split in ("grid", "tiles") else by_core.max()
    return Candidate(plan.tiling, compiled.run(plan.pipeline).makespan, int(working), plan.dram_read_bytes)


def time_layer(
    gemm: Gemm,
    arch: Arch,
    pattern: Pattern | None,
    latencies: Latencies,
    engine: Engine = "compiled",
    nonzeros: Nonzeros | None = None,
) -> LayerTiming:
    """Schedule one product on one machine with either engine.

    `nonzeros` is what the machine's skipping finds in the activations; without it every group counts as full and every
    weight as needed. Raises AccelSimError when no tiling fits the buffers.
    """
    product = Product.of(gemm, nonzeros)
    product.need_panels(arch)
    feasible = _feasible(product, arch, pattern)
    tiling = feasible[0] if len(feasible) == 1 else candidates(product, arch, pattern, latencies)[0].tiling
    return time_plan(plan(product, arch, pattern, tiling, latencies), arch, pattern, engine)


def skipping_zeros(full: Plan, product: Product, arch: Arch, pattern: Pattern | None, latencies: Latencies) -> Plan:
    """The plan of `product`, which differs from that of `full` in the zeros that are skipped and nothing else."""
    compute = compute_time(full.items, product, arch, pattern, latencies)
    durations = full.pipeline.durations.copy()
    durations[..., COMPUTE] = compute.total
    return replace(full, product=product, compute=compute, pipeline=replace(full.pipeline, durations=durations))


def time_plan(chosen: Plan, arch: Arch, pattern: Pattern | None, engine: Engine = "compiled") -> LayerTiming:
    """The timing of a plan that is at hand."""
    schedule = ENGINES[engine](chosen.pipeline)
    cycles = arch.cores.launch_cycles + schedule.makespan
    return LayerTiming(chosen, schedule, cycles, _breakdown(chosen, schedule, arch, pattern))


def cycles_with_more_columns(timing: LayerTiming, arch: Arch, factor: float) -> float:
    """Cycles of the same schedule on `arch` with `factor` times the columns (a fraction): only the array is faster."""
    scale = 4096 if timing.cycles < 2**48 else 1  # fixed point, so that the integer recurrence keeps fractions
    chosen, original = timing.plan, timing.plan.pipeline
    durations = original.durations * scale
    durations[..., COMPUTE] = np.rint(enlarged_compute_time(chosen.compute, chosen.items, arch, factor) * scale)
    scaled = replace(original, durations=durations, latencies=original.latencies * scale)
    return arch.cores.launch_cycles + compiled.run(scaled).makespan / scale


def bottleneck(breakdown: dict[str, int]) -> str:
    """The largest cause; the array's own four count together as `compute`. Ties go to the earlier name."""
    summed = {"compute": sum(breakdown[cause] for cause in CAUSES[:4])}
    summed |= {cause: breakdown[cause] for cause in CAUSES[4:]}
    return max(summed, key=lambda cause: summed[cause])


def _breakdown(chosen: Plan, schedule: Schedule, arch: Arch, pattern: Pattern | None) -> dict[str, int]:
    path = critical_path(chosen.pipeline, schedule)
    occupied = np.where(path.occupied, chosen.pipeline.durations, 0).sum(axis=(0, 1))
    waited = path.waits * chosen.pipeline.latencies
    computing = _computing(chosen, path)
    compute = chosen.compute
    array = int(compute.array[computing].sum())
    products = kept_products(chosen.items, chosen.product, arch, pattern)[computing].sum()
    ideal = int(products) // (arch.array.rows * arch.array.cols * arch.array.lanes)
    held = _from_predictor_memory(chosen, path, arch)
    return {
        "ideal_compute": ideal,
        "array_underuse": array - ideal,
        "fill_drain": arch.cores.launch_cycles + int(waited[COMPUTE] + (compute.fill + compute.drain)[computing].sum()),
        "synchronisation": int(compute.synchronisation[computing].sum()),
        "weight_port": int(compute.weight_port[computing].sum()),
        "sram": int(compute.sram[computing].sum()) + held,
        "selector": int(occupied[SELECT] + waited[SELECT]),
        "dram": int(occupied[LOAD] + waited[LOAD]) - held,
        "requantise": int(occupied[REQUANTISE] + waited[REQUANTISE] + compute.requantise[computing].sum()),
        "write_back": int(occupied[STORE]),
    }


def _computing(chosen: Plan, path: CriticalPath) -> np.ndarray:
    """bool [cores, items]: the product's items whose time in the array is on the path."""
    return path.occupied[:, path.occupied.shape[1] - chosen.items.tokens.shape[1] :, COMPUTE]


def _from_predictor_memory(chosen: Plan, path: CriticalPath, arch: Arch) -> int:
    """Cycles of the loads on the path that a memory on chip takes beyond the DRAM's own."""
    if not chosen.product.weights_on_chip:
        return 0
    from_dram = load_cycles(replace(chosen.traffic, held=np.zeros_like(chosen.traffic.held)), arch)
    beyond = load_cycles(chosen.traffic, arch) - from_dram
    return int(beyond[path.occupied[:, -beyond.shape[1] :, LOAD]].sum())
