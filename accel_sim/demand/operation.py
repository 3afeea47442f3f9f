"""What an operation asks of the memories: of the DRAM transfer by transfer, of the buffers on chip line by line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Protocol

import numpy as np

from accel_sim.arch.schema import Arch
from accel_sim.demand.buffers import vector_buffers
from accel_sim.demand.requests import Extents, Requests, Transfer
from accel_sim.timing.pipeline import LOAD, STORE, dram_order
from accel_sim.timing.site_selection import SiteSelection
from accel_sim.timing.vector import VectorTiming


class Demand(Protocol):
    """One repeat of an operation, from its first cycle, its operands each in a region of its own."""

    @property
    def cycles(self) -> int: ...

    @property
    def launch_cycles(self) -> int:
        """Of `cycles`, those before the first one that requests are counted from."""
        ...

    @property
    def regions(self) -> Mapping[str, int]:
        """Bytes of each operand in DRAM."""
        ...

    def transfers(self) -> Iterator[Transfer]:
        """In the order in which the DRAM serves them; those without a byte are left out."""
        ...

    def on_chip(self, bases: Mapping[str, int]) -> Requests:
        """What happens in the buffers, by cycle. `bases` are the addresses of the regions."""
        ...


@dataclass(frozen=True)
class SelectionDemand:
    """A site selected by software: launch, read it dense, wait for the last of it, write it compressed."""

    selection: SiteSelection
    arch: Arch
    launch_cycles: int = 0
    """The kernel's own launch is part of its requests' cycles."""

    @property
    def cycles(self) -> int:
        return self.selection.cycles

    @property
    def regions(self) -> Mapping[str, int]:
        return {
            "dense activations": self.selection.dram_read_bytes,
            "compressed activations": self.selection.dram_write_bytes,
        }

    def transfers(self) -> Iterator[Transfer]:
        dram, (read, written) = self.arch.dram, self.regions.values()
        storing = self.cycles - ceil(written * dram.turnaround / dram.bytes_per_cycle)
        loaded = storing - dram.latency_cycles
        loading = loaded - ceil(read / dram.bytes_per_cycle)
        yield Transfer(loading, loaded, 0, False, (("dense activations", Extents.of(0, read)),))
        yield Transfer(storing, self.cycles, 0, True, (("compressed activations", Extents.of(0, written)),))

    def on_chip(self, bases: Mapping[str, int]) -> Requests:
        """The kernel's own buffers are not modelled."""
        return Requests.joined([])


@dataclass(frozen=True)
class VectorDemand:
    """One operation of the vector unit, from its first cycle: chunks of rows, one behind the other."""

    timing: VectorTiming
    arch: Arch
    launch_cycles: int = 0

    @property
    def cycles(self) -> int:
        return self.timing.cycles

    @cached_property
    def regions(self) -> Mapping[str, int]:
        sizes = {"inputs": int(self.timing.work.read_bytes.sum()), "results": int(self.timing.work.written_bytes.sum())}
        return {operand: size for operand, size in sizes.items() if size}

    def on_chip(self, bases: Mapping[str, int]) -> Requests:
        """The vector units read and write DRAM past the buffer that cores share."""
        return vector_buffers(self.timing, self.arch)

    def transfers(self) -> Iterator[Transfer]:
        work, schedule = self.timing.work, self.timing.schedule
        moved = {LOAD: ("inputs", work.read_bytes), STORE: ("results", work.written_bytes)}
        starts = {stage: np.cumsum(amount).reshape(amount.shape) - amount for stage, (_, amount) in moved.items()}
        cores, chunks = work.read_bytes.shape
        for stage, chunk, core in dram_order(chunks, cores):
            operand, amount = moved[stage]
            if amount[core, chunk]:
                start, end = (int(times[core, chunk, stage]) for times in (schedule.start, schedule.end))
                extents = Extents.of(int(starts[stage][core, chunk]), int(amount[core, chunk]))
                yield Transfer(start, end, core, stage == STORE, ((operand, extents),))
