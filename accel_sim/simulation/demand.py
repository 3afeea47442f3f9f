"""Every request to the memories, in order: `simulate --demand-trace`.

Operations follow one another as the result counts them, each repeat written out, on one clock. Every operand of every
operation has a region of its own in one address space.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import lcm
from pathlib import Path
from typing import IO, Literal

import numpy as np
import numpy.typing as npt

from accel_sim.demand import DRAM, LEVELS, Demand, ProductDemand, Requests, SelectionDemand, VectorDemand, in_bursts
from accel_sim.errors import AccelSimError
from accel_sim.files import replacing
from accel_sim.occupancy import Masks, needed_features
from accel_sim.simulation.simulate import Simulation
from accel_sim.workload import Gemm, VectorOperation

DemandFormat = Literal["csv", "ramulator", "dramsim3"]
"""`csv`: all levels. `ramulator`: Ramulator 2's load/store trace. `dramsim3`: DRAMsim3's trace. Those two hold the DRAM
level alone."""

REGION_ALIGNMENT = 4096
"""Regions start at multiples of this many bytes, and of the burst."""


@dataclass(frozen=True)
class Region:
    """Where one operand of one operation lies in DRAM."""

    operation: str
    repeat: int
    operand: str
    address: int
    """Of the first byte."""
    bytes: int


def write_demand_trace(
    simulation: Simulation, path: Path, layer: str | None = None, format: DemandFormat = "csv"
) -> None:
    """Write every request of a simulation's machine, or of one `layer` from cycle 0; `.gz` compresses.

    Memory does not grow with the number of cycles or of layers. Raises AccelSimError for a layer or a format that
    there is not; nothing is left half written.
    """
    if format not in _FORMATS:
        raise AccelSimError(f"demand format {format}: expected one of {', '.join(_FORMATS)}")
    operations = _operations(simulation, layer)
    shape = _FORMATS[format](simulation.machine.arch.cores.count, simulation.machine.arch.dram.burst_bytes)
    with _text(path) as stream:
        stream.write(shape.header)
        for requests in _requests(operations, simulation, only_dram=format != "csv"):
            stream.write(shape.lines(requests))


def demand_regions(simulation: Simulation, layer: str | None = None) -> Iterator[Region]:
    """The address map of the same trace, in the order in which its regions are first used."""
    for placed in _placed(_operations(simulation, layer), simulation):
        yield from placed.regions


def demand_requests(simulation: Simulation, layer: str | None = None) -> Iterator[Requests]:
    """The same requests as arrays, in order of their cycles."""
    return _requests(_operations(simulation, layer), simulation, only_dram=False)


@dataclass(frozen=True)
class _Placed:
    """One repeat of an operation, placed in time and in memory."""

    demand: Demand
    begin: int
    """Cycle behind its launch."""
    regions: list[Region]

    @property
    def bases(self) -> dict[str, int]:
        return {region.operand: region.address for region in self.regions}


def _requests(
    operations: Iterator[tuple[str, int, Demand]], simulation: Simulation, only_dram: bool
) -> Iterator[Requests]:
    """One batch for every transfer of the DRAM, with what happens on chip until it ends."""
    burst = simulation.machine.arch.dram.burst_bytes
    for placed in _placed(operations, simulation):
        on_chip = Requests.joined([])
        if not only_dram:
            on_chip = placed.demand.on_chip(placed.bases)
        for transfer in placed.demand.transfers():
            requests = in_bursts(transfer, placed.bases, burst)
            until = np.searchsorted(on_chip.cycle, requests.cycle[-1], side="right")
            batch = Requests.joined([requests, on_chip[:until]]).in_order()
            on_chip = on_chip[until:]
            yield batch.delayed(placed.begin)
        yield on_chip.delayed(placed.begin)


def _placed(operations: Iterator[tuple[str, int, Demand]], simulation: Simulation) -> Iterator[_Placed]:
    alignment = lcm(REGION_ALIGNMENT, simulation.machine.arch.dram.burst_bytes)
    begin = address = 0
    for name, repeats, demand in operations:
        for repeat in range(repeats):
            regions = []
            for operand, size in demand.regions.items():
                regions.append(Region(name, repeat, operand, address, size))
                address += -(-size // alignment) * alignment
            yield _Placed(demand, begin + demand.launch_cycles, regions)
            begin += demand.cycles


def _operations(simulation: Simulation, layer: str | None) -> Iterator[tuple[str, int, Demand]]:
    """(name, repeats, what one repeat asks for) of the operations that are wanted, in execution order."""
    names = [operation.name for operation in simulation.operations]
    if layer is not None and layer not in names:
        some = ", ".join(names[:7]) + ", …" * (len(names) > 7)
        raise AccelSimError(f"demand trace, layer {layer}: no such layer; there are {some}")
    return _demands(simulation, layer)


def _demands(simulation: Simulation, layer: str | None) -> Iterator[tuple[str, int, Demand]]:
    """Where software selects, the first product that reads a site waits for that."""
    for operation, selection in simulation.selections():
        if layer not in (None, operation.name):
            continue
        if isinstance(operation, VectorOperation):
            timing = simulation.time_vector(operation)
            yield operation.name, operation.repeat, VectorDemand(timing, simulation.machine.arch)
            continue
        machine = simulation.running(operation)
        if selection.cycles:
            yield operation.name, 1, SelectionDemand(selection, machine.arch)
        for added in simulation.recipe.added(operation):
            timing = simulation.time(added.gemm)
            yield added.gemm.name, added.gemm.repeat, ProductDemand(timing, machine.arch, None, None)
        needed, timing = _needed(simulation, operation), simulation.time(operation)
        yield operation.name, operation.repeat, ProductDemand(timing, machine.arch, machine.pattern, needed)


def _needed(simulation: Simulation, gemm: Gemm) -> npt.NDArray[np.int64] | None:
    """Positions of the features, or outputs, that a gathering machine fetches; None where it fetches all."""
    settings, found = simulation.settings, simulation.nonzeros(gemm)
    if found is None or (found.features is None and found.outputs is None):
        return None
    site = gemm.site if found.outputs is None else simulation.skipping.outputs_site(gemm)
    codes = simulation.workload.sites[site].load()[0][: gemm.tokens]
    needed = needed_features(
        codes, simulation.pattern_that_decides(gemm), masks=Masks(settings.masks, site, settings.seed)
    )
    return np.flatnonzero(needed) if needed.any() else np.zeros(1, np.int64)


@dataclass(frozen=True)
class _Csv:
    """cycle, level, address, bytes, access, and the core where there are several."""

    cores: int
    burst: int

    @property
    def header(self) -> str:
        return "cycle,level,address,bytes,access" + (",core" if self.cores > 1 else "") + "\n"

    def lines(self, requests: Requests) -> str:
        columns = [requests.cycle, requests.level, requests.address, requests.bytes, requests.write]
        rows = zip(*(column.tolist() for column in columns), strict=True)
        written = [
            f"{cycle},{LEVELS[level]},{address:#x},{length},{'write' if write else 'read'}"
            for cycle, level, address, length, write in rows
        ]
        if self.cores > 1:
            written = [f"{line},{core}" for line, core in zip(written, requests.core.tolist(), strict=True)]
        return "".join(f"{line}\n" for line in written)


@dataclass(frozen=True)
class _DramTrace:
    """A line a burst, asked for once where one request ends inside it and the next one goes on."""

    cores: int
    burst: int
    line: Callable[[int, bool, int], str]
    """From address, write and cycle."""
    header = ""

    def lines(self, requests: Requests) -> str:
        requests = requests[requests.level == DRAM]
        burst = requests.address // self.burst * self.burst
        new = np.append(True, (np.diff(burst) != 0) | np.diff(requests.write))[: len(requests)]
        rows = zip(burst[new].tolist(), requests.write[new].tolist(), requests.cycle[new].tolist(), strict=True)
        return "".join(self.line(*row) for row in rows)


def _ramulator_line(address: int, write: bool, cycle: int) -> str:
    return f"{'ST' if write else 'LD'} {address:#x}\n"


def _dramsim3_line(address: int, write: bool, cycle: int) -> str:
    return f"{address:#x} {'WRITE' if write else 'READ'} {cycle}\n"


_FORMATS: dict[DemandFormat, Callable[[int, int], _Csv | _DramTrace]] = {
    "csv": _Csv,
    "ramulator": partial(_DramTrace, line=_ramulator_line),
    "dramsim3": partial(_DramTrace, line=_dramsim3_line),
}


@contextmanager
def _text(path: Path) -> Iterator[IO[str]]:
    """The file to write, compressed by its suffix; the same content gives the same bytes."""
    if path.suffix != ".gz":
        with replacing(path) as stream:
            yield stream
        return
    with (
        replacing(path, "wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as stream,
    ):
        yield stream
