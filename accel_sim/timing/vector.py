"""The time of one vector operation: chunks of whole rows go through the same five stages as the array's tiles.

load → (nothing) → lanes → selectors → store. A chunk is whole rows, because norms, softmax and per-token quantisation
reduce over a row before they can give its first element. Loads, lanes and stores of neighbouring chunks overlap through
double buffers: inputs wait in the activation SRAM, results in the output SRAM. Where the operation produces a site that
machines select at write-back, its rows pass the selectors before they are stored, and go to DRAM compressed.

The vector unit and the array take turns: no operation starts before the one in front of it has ended.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from accel_sim.arch.derived import selector_units, selects
from accel_sim.arch.schema import Arch
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.timing.activity import Activity
from accel_sim.timing.critical_path import critical_path
from accel_sim.timing.formats import metadata_bytes
from accel_sim.timing.layer import CAUSES, ENGINES, Engine
from accel_sim.timing.pipeline import COMPUTE, LOAD, REQUANTISE, STORE, Pipeline, Schedule
from accel_sim.timing.stages import Latencies
from accel_sim.workload.vector import VectorOperation

Integers = npt.NDArray[np.int64]

CHUNKS = 32
"""Chunks that an operation is cut into at least, where it has the rows: enough for loads, lanes and stores to overlap,
all but about 1/32 of the shorter ones."""


@dataclass(frozen=True)
class VectorWork:
    """An operation as one machine runs it; quantities by chunk are int64 [cores, chunks]."""

    operation: VectorOperation
    lanes: int
    """Of one core."""
    lane_operations: Integers
    read_bytes: Integers
    """From DRAM, whole bursts."""
    written_bytes: Integers
    """To DRAM, whole bursts; compressed where the rows were selected."""
    groups: Integers
    """Groups that pass the selectors."""


@dataclass(frozen=True)
class VectorTiming:
    """One repeat of an operation on one machine: `breakdown` (cause → cycles) adds up to `cycles`."""

    work: VectorWork
    pipeline: Pipeline
    schedule: Schedule
    cycles: int
    breakdown: dict[str, int]


def time_vector(
    operation: VectorOperation,
    arch: Arch,
    pattern: Pattern | None,
    latencies: Latencies,
    engine: Engine = "compiled",
) -> VectorTiming:
    """Schedule one repeat of `operation` with either engine.

    `pattern` is what the projections that read the operation's site run (None: dense); it matters at
    `placement: write_back` alone. Raises AccelSimError for a row that does not fit half of a buffer.
    """
    work = _cut(operation, arch, pattern)
    pipeline = _pipeline(work, arch, pattern, latencies)
    schedule = ENGINES[engine](pipeline)
    return VectorTiming(work, pipeline, schedule, schedule.makespan, _breakdown(work, pipeline, schedule))


def vector_activity(timing: VectorTiming) -> Activity:
    """What one repeat made the machine do, for energy: lanes, selectors, SRAM and DRAM; nothing of the array."""
    work = timing.work
    read, written = int(work.read_bytes.sum()), int(work.written_bytes.sum())
    none = {field.name: 0 for field in fields(Activity)}
    return Activity(
        **none
        | {
            "cycles": timing.cycles,
            "vector_operations": int(work.lane_operations.sum()),
            "selected_groups": int(work.groups.sum()),
            "activation_sram_write_bytes": read,
            "activation_sram_read_bytes": work.operation.read_bytes,
            "output_sram_write_bytes": work.operation.written_bytes,
            "output_sram_read_bytes": written,
            "dram_read_bytes": read,
            "dram_write_bytes": written,
        }
    )


def selects_at_write_back(arch: Arch, pattern: Pattern | None) -> bool:
    """Whether a site's rows pass a selector in the unit that produces them."""
    return selects(arch, pattern) and arch.sparsity.selector.placement == "write_back"


def _cut(operation: VectorOperation, arch: Arch, pattern: Pattern | None) -> VectorWork:
    """Rows dealt to the cores, and in each core to chunks of equal size, give or take a row."""
    cores, rows = arch.cores.count, operation.rows
    rows_of_core = -(-rows // cores)
    chunks = max(-(-rows_of_core // _rows_that_fit(operation, arch)), min(rows_of_core, CHUNKS))
    parts = np.diff(np.arange(cores * chunks + 1, dtype=np.int64) * rows // (cores * chunks))
    parts = parts.reshape(cores, chunks)
    width = operation.elements // rows
    written, groups = _share(operation.dram_written_bytes, parts, rows), np.zeros_like(parts)
    if operation.site is not None and selects_at_write_back(arch, pattern):
        groups = parts * pattern.groups(width)
        stored = pattern.groups(width) * pattern.n + metadata_bytes(width, arch, pattern)
        if not operation.outputs_on_chip:
            written = written + parts * (stored - width)
    return VectorWork(
        operation=operation,
        lanes=arch.vector.lanes_beside(arch.array),
        lane_operations=parts * (width * operation.operations_per_element + operation.operations_per_row),
        read_bytes=_bursts(_share(operation.dram_read_bytes, parts, rows), arch),
        written_bytes=_bursts(written, arch),
        groups=groups,
    )


def _rows_that_fit(operation: VectorOperation, arch: Arch) -> int:
    """Rows whose inputs and results fit half of their buffers."""
    fitting = operation.rows
    for key, moved in (("activation", operation.dram_read_bytes), ("output", operation.dram_written_bytes)):
        row = -(-moved // operation.rows)
        capacity = getattr(arch.sram, f"{key}_bytes")
        if 2 * row > capacity:
            raise AccelSimError(
                f"arch {arch.name}, operation {operation.name}: sram.{key}_bytes is {2 * row - capacity} bytes too"
                f" small for two rows of {row} bytes"
            )
        if row:
            fitting = min(fitting, capacity // (2 * row))
    return fitting


def _share(total: int, parts: Integers, rows: int) -> Integers:
    """`total` in proportion to the rows of each part, rounded so that the parts add up to it."""
    ends = np.cumsum(parts.ravel()) * total // rows
    return np.diff(ends, prepend=0).reshape(parts.shape)


def _bursts(moved: Integers, arch: Arch) -> Integers:
    return -(-moved // arch.dram.burst_bytes) * arch.dram.burst_bytes


def _pipeline(work: VectorWork, arch: Arch, pattern: Pattern | None, latencies: Latencies) -> Pipeline:
    """The stages' occupation by every chunk; selecting takes the place of requantising."""
    units = selector_units(arch, pattern) if work.groups.any() else 1
    durations = np.zeros((*work.groups.shape, 5), dtype=np.int64)
    durations[..., LOAD] = np.ceil(work.read_bytes / arch.dram.bytes_per_cycle)
    durations[..., COMPUTE] = -(-work.lane_operations // work.lanes)
    durations[..., REQUANTISE] = -(-work.groups // units) * (1 + latencies.passes)
    durations[..., STORE] = np.ceil(work.written_bytes * arch.dram.turnaround / arch.dram.bytes_per_cycle)
    waits = np.zeros(5, dtype=np.int64)
    waits[LOAD] = arch.dram.latency_cycles if work.operation.dram_read_bytes else 0
    waits[REQUANTISE] = latencies.select if work.groups.any() else 0
    no = np.zeros(work.groups.shape[1], dtype=np.bool_)
    return Pipeline(durations, waits, exclusive=no, shared=no, after_select=no)


def _breakdown(work: VectorWork, pipeline: Pipeline, schedule: Schedule) -> dict[str, int]:
    """Cycles by cause along the critical path: full lanes are ideal, those idle at the end of a chunk underuse."""
    path = critical_path(pipeline, schedule)
    occupied = np.where(path.occupied, pipeline.durations, 0).sum(axis=(0, 1))
    waited = path.waits * pipeline.latencies
    ideal = int(work.lane_operations[path.occupied[..., COMPUTE]].sum()) // work.lanes
    return dict.fromkeys(CAUSES, 0) | {
        "ideal_compute": ideal,
        "array_underuse": int(occupied[COMPUTE]) - ideal,
        "selector": int(occupied[REQUANTISE] + waited[REQUANTISE]),
        "dram": int(occupied[LOAD] + waited[LOAD]),
        "write_back": int(occupied[STORE]),
    }
