"""The stages over time, in the trace format that Perfetto and chrome://tracing open."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from accel_sim.files import replacing
from accel_sim.simulation.simulate import Simulation
from accel_sim.timing import LayerTiming
from accel_sim.timing.pipeline import STAGES
from accel_sim.timing.vector import VectorTiming
from accel_sim.workload import Operation, VectorOperation

ITEMS_DRAWN = 1000
"""Of a layer with more items than twice this, only the first and the last so many are drawn; the file says so."""


def write_timeline(simulations: Iterable[Simulation], path: Path) -> None:
    """One process a machine, a track for layers and one a core and stage; microseconds of the machine's own clock."""
    with replacing(path) as stream:
        stream.write('{"displayTimeUnit": "ns", "traceEvents": [\n')
        separator = ""
        for process, simulation in enumerate(simulations, start=1):
            for event in _machine_events(process, simulation):
                stream.write(separator + json.dumps(event))
                separator = ",\n"
        stream.write("\n]}\n")


def _machine_events(process: int, simulation: Simulation) -> Iterator[dict[str, Any]]:
    machine = simulation.machine
    yield _label("process_name", process, 0, f"{machine.arch.name} ({machine.pattern or 'dense'})")
    cores = machine.arch.cores.count
    stages = STAGES if cores == 1 else [f"core {core} {stage}" for core in range(cores) for stage in STAGES]
    for track, name in enumerate(("layer", *stages)):
        yield _label("thread_name", process, track, name)
        yield {"ph": "M", "name": "thread_sort_index", "pid": process, "tid": track, "args": {"sort_index": track}}
    microseconds = 1e6 / machine.delays.clock_hz
    begin = 0
    for operation, selection in simulation.selections():
        if selection.cycles:
            about = {"cycles": selection.cycles}
            yield _slice(process, 0, f"selecting for {operation.name}", begin, selection.cycles, microseconds, about)
            begin += selection.cycles
        for one in _with_added(simulation, operation):
            if isinstance(one, VectorOperation):
                timing = simulation.time_vector(one)
                about = {"elements": one.elements}
            else:
                timing = simulation.time(one)
                about = {"shape": "×".join(map(str, one.shape)), "tiling": str(timing.plan.tiling)}
            yield from _operation_events(process, one, timing, begin, microseconds, about)
            begin += timing.cycles * one.repeat


def _with_added(simulation: Simulation, operation: Operation) -> Iterator[Operation]:
    """The operation behind the products that a recipe's methods need for it."""
    if not isinstance(operation, VectorOperation):
        yield from (added.gemm for added in simulation.recipe.added(operation))
    yield operation


def _operation_events(
    process: int,
    operation: Operation,
    timing: LayerTiming | VectorTiming,
    begin: int,
    microseconds: float,
    about: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    cores, items, stages = timing.schedule.start.shape
    skipped = range(ITEMS_DRAWN, items - ITEMS_DRAWN)
    about = about | {"repeat": operation.repeat, "items": items, "items_not_drawn": len(skipped)}
    about |= {"cycles": timing.cycles, **timing.breakdown}
    yield _slice(process, 0, operation.name, begin, timing.cycles * operation.repeat, microseconds, about)
    begin += timing.cycles - timing.schedule.makespan  # what launching takes
    for core, item in ((core, item) for core in range(cores) for item in range(items) if item not in skipped):
        for stage in range(stages):
            start, end = (int(times[core, item, stage]) for times in (timing.schedule.start, timing.schedule.end))
            if end > start:
                details = {"start_cycle": begin + start, "cycles": end - start}
                track = 1 + core * stages + stage
                yield _slice(process, track, f"item {item}", begin + start, end - start, microseconds, details)


def _slice(
    process: int, track: int, name: str, begin: int, cycles: int, microseconds: float, details: dict[str, Any]
) -> dict[str, Any]:
    times = {"ts": begin * microseconds, "dur": cycles * microseconds}
    return {"ph": "X", "name": name, "pid": process, "tid": track, **times, "args": details}


def _label(kind: str, process: int, track: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": process, "tid": track, "args": {"name": name}}
