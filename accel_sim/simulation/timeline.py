"""The stages over time, in the trace format that Perfetto and chrome://tracing open."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from accel_sim.files import replacing
from accel_sim.simulation.simulate import Machine
from accel_sim.timing import LayerTiming
from accel_sim.timing.pipeline import STAGES
from accel_sim.workload import Gemm, Workload

ITEMS_DRAWN = 1000
"""Of a layer with more items than twice this, only the first and the last so many are drawn; the file says so."""


def write_timeline(machines: Iterable[Machine], workload: Workload, path: Path) -> None:
    """One process a machine, one track a stage, times in microseconds of the machine's own clock."""
    with replacing(path) as stream:
        stream.write('{"displayTimeUnit": "ns", "traceEvents": [\n')
        separator = ""
        for process, machine in enumerate(machines, start=1):
            for event in _machine_events(process, machine, workload):
                stream.write(separator + json.dumps(event))
                separator = ",\n"
        stream.write("\n]}\n")


def _machine_events(process: int, machine: Machine, workload: Workload) -> Iterator[dict[str, Any]]:
    yield _label("process_name", process, 0, f"{machine.arch.name} ({machine.pattern or 'dense'})")
    for track, name in enumerate(("layer", *STAGES)):
        yield _label("thread_name", process, track, name)
        yield {"ph": "M", "name": "thread_sort_index", "pid": process, "tid": track, "args": {"sort_index": track}}
    microseconds = 1e6 / machine.delays.clock_hz
    begin = 0
    for gemm in workload.gemms:
        timing = machine.time(gemm)
        yield from _layer_events(process, gemm, timing, begin, microseconds)
        begin += timing.cycles * gemm.repeat


def _layer_events(
    process: int, gemm: Gemm, timing: LayerTiming, begin: int, microseconds: float
) -> Iterator[dict[str, Any]]:
    items = timing.plan.pipeline.items
    skipped = range(ITEMS_DRAWN, items - ITEMS_DRAWN)
    about = {"shape": "×".join(map(str, gemm.shape)), "repeat": gemm.repeat, "tiling": str(timing.plan.tiling)}
    about |= {"items": items, "items_not_drawn": len(skipped), "cycles": timing.cycles, **timing.breakdown}
    yield _slice(process, 0, gemm.name, begin, timing.cycles * gemm.repeat, microseconds, about)
    for item in (item for item in range(items) if item not in skipped):
        for stage in range(len(STAGES)):
            start, end = int(timing.schedule.start[item, stage]), int(timing.schedule.end[item, stage])
            if end > start:
                details = {"start_cycle": begin + start, "cycles": end - start}
                yield _slice(process, stage + 1, f"item {item}", begin + start, end - start, microseconds, details)


def _slice(
    process: int, track: int, name: str, begin: int, cycles: int, microseconds: float, details: dict[str, Any]
) -> dict[str, Any]:
    times = {"ts": begin * microseconds, "dur": cycles * microseconds}
    return {"ph": "X", "name": name, "pid": process, "tid": track, **times, "args": details}


def _label(kind: str, process: int, track: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": process, "tid": track, "args": {"name": name}}
