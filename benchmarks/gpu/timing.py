"""How long work takes on a device: as Python launches it, and as a CUDA graph replays it.

Kernels of a few microseconds are shorter than their launch from Python, so both are told. All keys take turns in every
round and the fastest round counts. A key is a list of calls that run one behind another, each on data of its own, and
its time is that of one call.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Protocol

import torch

Calls = Sequence[Callable[[], object]]
_SLEEP_CYCLES = 2_000_000
"""About a millisecond, in which the host queues what is timed."""


class NotCaptured(Exception):
    """Why there is no CUDA graph of some calls, in one line."""


class Clock(Protocol):
    """Seconds of one call for each key."""

    def launched(self, works: Mapping[Hashable, Calls]) -> dict[Hashable, float]:
        """As Python launches them; each call has run before."""

    def replayed(self, works: Mapping[Hashable, Calls]) -> dict[Hashable, float | NotCaptured]:
        """As CUDA graphs of all calls of a key; one that cannot be captured says why."""


def clock_of(device: torch.device, rounds: int) -> Clock:
    """The clock of a device; on a CPU it has no graphs, and is there for tests."""
    return CudaClock(rounds) if device.type == "cuda" else CpuClock(rounds)


class CudaClock:
    """Events on the current device."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

    def launched(self, works: Mapping[Hashable, Calls]) -> dict[Hashable, float]:
        return self._fastest({key: (calls, len(calls)) for key, calls in works.items()}, ahead=False)

    def replayed(self, works: Mapping[Hashable, Calls]) -> dict[Hashable, float | NotCaptured]:
        answers: dict[Hashable, float | NotCaptured] = {}
        graphs = {}
        for key, calls in works.items():
            try:
                graphs[key] = ((captured(calls).replay,), len(calls))
            except NotCaptured as why:
                answers[key] = why
        return answers | self._fastest(graphs, ahead=True)

    def _fastest(self, works: Mapping[Hashable, tuple[Calls, int]], ahead: bool) -> dict[Hashable, float]:
        """Of calls and how many units of work they are; `ahead`: the host has queued all before the first begins."""
        taken: dict[Hashable, list[float]] = {key: [] for key in works}
        for _ in range(self.rounds + 1):
            for key, (calls, units) in works.items():
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                torch.cuda.synchronize()
                if ahead:
                    torch.cuda._sleep(_SLEEP_CYCLES)
                begin.record()
                for call in calls:
                    call()
                end.record()
                torch.cuda.synchronize()
                taken[key].append(begin.elapsed_time(end) / 1e3 / units)
        return {key: min(times[1:]) for key, times in taken.items()}


class CpuClock:
    """Wall time; a CPU has no graphs."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

    def launched(self, works: Mapping[Hashable, Calls]) -> dict[Hashable, float]:
        taken: dict[Hashable, list[float]] = {key: [] for key in works}
        for _ in range(self.rounds):
            for key, calls in works.items():
                begin = time.perf_counter()
                for call in calls:
                    call()
                taken[key].append((time.perf_counter() - begin) / len(calls))
        return {key: min(times) for key, times in taken.items()}

    def replayed(self, works: Mapping[Hashable, Calls]) -> dict[Hashable, float | NotCaptured]:
        return dict.fromkeys(works, NotCaptured("no CUDA graphs on a CPU"))


def captured(calls: Calls) -> torch.cuda.CUDAGraph:
    """A graph of all calls, which run once before. Raises NotCaptured with the first line of what CUDA says."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # where the graph's own stream finds compiled kernels and libraries set up
        for call in calls:
            call()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    gc.collect()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            for call in calls:
                call()
    except RuntimeError as error:
        torch.cuda.synchronize()
        raise NotCaptured(str(error).strip().splitlines()[0]) from error
    return graph
