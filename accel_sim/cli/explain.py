"""How the cycles of one layer come about: `simulate --explain LAYER`."""

from __future__ import annotations

import numpy as np

from accel_sim.cli.explanation.array import array_lines
from accel_sim.cli.explanation.cores import core_lines, core_table
from accel_sim.cli.explanation.operands import operand_lines
from accel_sim.cli.explanation.tables import (
    Scheduled,
    critical_path_table,
    items_table,
    stages_table,
    tilings_table,
)
from accel_sim.cli.explanation.vector import STAGES as VECTOR_STAGES
from accel_sim.cli.explanation.vector import vector_lines
from accel_sim.cli.screen import console
from accel_sim.errors import AccelSimError
from accel_sim.simulation import Machine, Result, Simulation
from accel_sim.simulation.result import LayerResult, OperationResult
from accel_sim.timing import CAUSES, LayerTiming
from accel_sim.timing.explain import path_segments
from accel_sim.timing.vector import VectorTiming
from accel_sim.workload.gemm import Gemm, Operation
from accel_sim.workload.vector import VectorOperation

_NAMES_SHOWN = 7


def find_operation(simulation: Simulation, name: str, option: str) -> Operation:
    """The operation called `name`, or the first one whose name ends with it; `option` is what asked for it.

    Raises AccelSimError listing some of the layers when there is none, or saying that a wider scope has it.
    """
    found = _named(simulation.operations, name)
    if found is not None:
        return found
    model = simulation.workload.model
    if model is not None and _named(model.operations, name) is not None:
        raise AccelSimError(f"{option} {name}: not a linear projection; --scope model counts it")
    names = [operation.name for operation in simulation.operations]
    some = ", ".join(names[:_NAMES_SHOWN]) + ", …" * (len(names) > _NAMES_SHOWN)
    raise AccelSimError(f"{option} {name}: no such layer; there are {some}")


def _named(operations: tuple[Operation, ...], name: str) -> Operation | None:
    exact = (operation for operation in operations if operation.name == name)
    ending = (operation for operation in operations if operation.name.endswith(name))
    return next(exact, None) or next(ending, None)


def print_explanation(simulation: Simulation, result: Result, operation: Operation) -> None:
    """What the unit does, tilings that were tried, stages, first and last items, critical path, causes.

    `result` is the simulation's, so that what is explained are the figures of the report. A machine that leaves the
    operation out (a predictor's product) says so.
    """
    if _named(simulation.operations, operation.name) is None:
        console().print(f"{operation.name}: {result.arch} has no predictor and leaves it out\n", markup=False)
        return
    if isinstance(operation, VectorOperation):
        _print_vector(simulation, result, operation)
    else:
        _print_product(simulation, result, operation)


def _print_product(simulation: Simulation, result: Result, gemm: Gemm) -> None:
    screen, timing, machine = console(), simulation.time(gemm), simulation.running(gemm)
    reported = next(layer for layer in result.layers if layer.name == gemm.name)
    selecting = reported.cycles - timing.cycles * gemm.repeat
    tokens, features, outputs = gemm.shape
    title = f"{gemm.name} on {machine.arch.name} ({machine.pattern or 'dense'})"
    lines = [
        f"{title}: {tokens} tokens × {features} features × {outputs} outputs in {timing.cycles:,} cycles",
        *_in_the_report(reported, timing.cycles, selecting),
        *operand_lines(simulation, gemm, timing, selecting),
        *array_lines(timing, machine),
    ]
    cores = machine.arch.cores.count > 1
    lines += core_lines(timing, machine) if cores else []
    for line in lines:
        screen.print(line, markup=False)
    if cores:
        screen.print(core_table(timing, machine))
    screen.print(tilings_table(timing, machine))
    _print_schedule(Scheduled(timing.plan.pipeline, timing.schedule, sizes=_tile_sizes(timing)), timing.breakdown)


def _print_vector(simulation: Simulation, result: Result, operation: VectorOperation) -> None:
    screen, timing = console(), simulation.time_vector(operation)
    reported = next(one for one in result.operations if one.name == operation.name)
    title = f"{operation.name} ({operation.kind}) on the vector unit of {result.arch}"
    lines = [
        f"{title}: {operation.elements:,} elements in {timing.cycles:,} cycles",
        *_in_the_report(reported, timing.cycles, 0),
        *vector_lines(timing, _reader(simulation, operation)),
    ]
    for line in lines:
        screen.print(line, markup=False)
    words = {"stages": VECTOR_STAGES, "pieces": "chunk", "size": "operations"}
    scheduled = Scheduled(timing.pipeline, timing.schedule, **words, sizes=_chunk_sizes(timing))
    _print_schedule(scheduled, timing.breakdown)


def _reader(simulation: Simulation, operation: VectorOperation) -> Machine:
    """The machine with the pattern of the projections that read what the operation makes, pruned if one of them is."""
    readers = simulation.workload.readers(operation.site) if operation.site else ()
    machines = [simulation.running(gemm) for gemm in readers]
    pruned = (machine for machine in machines if machine.pattern is not None)
    return next(pruned, simulation.machine.running(None))


def _in_the_report(reported: LayerResult | OperationResult, cycles: int, selecting: int) -> list[str]:
    """What the report says where that is more than one operation, and the dense machine beside it."""
    lines = []
    if reported.cycles != cycles:
        passes = f" and {selecting:,} of selection by software" if selecting else ""
        lines.append(f"in the report: {reported.cycles:,} cycles, {reported.repeat} × {cycles:,}{passes}")
    if not reported.dense_cycles:
        return [*lines, "dense machine: leaves it out"]
    tiling = f" with {reported.dense_tiling}" if isinstance(reported, LayerResult) else ""
    dense = reported.dense_cycles // reported.repeat
    speedup = reported.dense_cycles / reported.cycles
    return [*lines, f"dense machine: {dense:,} cycles{tiling}; speed-up {speedup:.3f}"]


def _tile_sizes(timing: LayerTiming) -> np.ndarray:
    """`32 × 512` for every item of every core; `scan` for the one that goes ahead of them."""
    items, count = timing.plan.items, timing.plan.pipeline.items
    sizes = np.full((timing.plan.pipeline.cores, count), "scan", dtype=object)
    ahead = count - items.tokens.shape[1]
    sizes[:, ahead:] = np.vectorize(lambda tokens, outputs: f"{tokens} × {outputs}", otypes=[object])(
        items.tokens, items.outputs
    )
    return sizes


def _chunk_sizes(timing: VectorTiming) -> np.ndarray:
    return np.vectorize(lambda operations: f"{operations:,}", otypes=[object])(timing.work.lane_operations)


def _print_schedule(scheduled: Scheduled, breakdown: dict[str, int]) -> None:
    screen = console()
    screen.print(stages_table(scheduled))
    screen.print(items_table(scheduled))
    screen.print(critical_path_table(path_segments(scheduled.pipeline, scheduled.schedule), scheduled))
    causes = ", ".join(f"{cause} {breakdown[cause]:,}" for cause in CAUSES if breakdown[cause])
    screen.print(f"causes: {causes}\n", markup=False)
