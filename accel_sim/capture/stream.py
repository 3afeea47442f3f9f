"""Captured rows flow to the trace's files behind the model's back: a thread writes while the next block computes.

At most `limit` bytes are on the way at a time. Where the disk cannot keep up the model has to wait for it, and how long
it did is counted.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from accel_sim.capture.encode import Encoded, arrays
from accel_sim.capture.host_copy import HostCopy
from accel_sim.trace.format import Site
from accel_sim.trace.writer import TraceWriter


@dataclass(frozen=True)
class SiteRows:
    """Rows of one site, still on the device."""

    site: Site
    encoded: Encoded
    positions: np.ndarray
    """int [T]."""


@dataclass(frozen=True)
class Streamed:
    """What went through a stream."""

    bytes: int
    """Of rows and scales."""
    waited_seconds: float
    """How long the model stood still because `limit` bytes were on their way, and at its end for the last of them."""
    most_bytes: int
    """On their way at one time."""


class TraceStream:
    """Appends rows to `writer` in order, in a thread of its own; a context manager that ends when all are written.

    That is so where the capture fails or is interrupted too, so that it can go on from its last checkpoint. Nothing
    else may use the writer meanwhile. What the thread cannot do (a full disk, a value that is not finite) is
    raised by the next call, or at the end; nothing that came after it is written.
    """

    def __init__(self, writer: TraceWriter, limit: int) -> None:
        self._writer, self._limit = writer, limit
        self._jobs: deque[tuple[int, Callable[[], None]]] = deque()
        self._changed = threading.Condition()
        self._on_the_way = self._most = self._bytes = 0
        self._waited = 0.0
        self._error: BaseException | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="trace-writer", daemon=True)

    def __enter__(self) -> TraceStream:
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        begin = time.perf_counter()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join()
        self._waited += time.perf_counter() - begin
        if value is None:
            self._raise()

    @property
    def streamed(self) -> Streamed:
        return Streamed(self._bytes, self._waited, self._most)

    def append(self, rows: Sequence[SiteRows], sequence: int) -> None:
        """Write these rows after all others; returns before they are."""
        size = sum(each.nbytes for row in rows for each in row.encoded.tensors)
        self._make_room(size)
        copy = HostCopy([each for row in rows for each in row.encoded.tensors])
        facts = [(row.site, row.positions) for row in rows]  # not the tensors: the device may have their memory back
        self._put(size, lambda: self._write(copy, facts, sequence))

    def checkpoint(self, progress: dict[str, Any]) -> None:
        """Remember `progress` once everything before is written; see :meth:`TraceWriter.checkpoint`."""
        self._put(0, lambda: self._writer.checkpoint(progress))

    def _make_room(self, size: int) -> None:
        begin = time.perf_counter()
        with self._changed:
            while self._on_the_way and self._on_the_way + size > self._limit and self._error is None:
                self._changed.wait()
        self._waited += time.perf_counter() - begin

    def _put(self, size: int, job: Callable[[], None]) -> None:
        self._raise()
        with self._changed:
            self._on_the_way += size
            self._bytes += size
            self._most = max(self._most, self._on_the_way)
            self._jobs.append((size, job))
            self._changed.notify_all()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._ended:
                    self._changed.wait()
                if not self._jobs:
                    return
                size, job = self._jobs.popleft()
            try:
                job()
            except BaseException as error:  # whatever it is, the thread that captures raises it
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            del job  # with it goes the host's memory of these rows
            with self._changed:
                self._on_the_way -= size
                self._changed.notify_all()

    def _write(self, copy: HostCopy, facts: list[tuple[Site, np.ndarray]], sequence: int) -> None:
        there = iter(copy.wait())
        for site, positions in facts:
            encoded = Encoded(next(there), next(there) if site.dtype == "int8" else None)
            stored, scales = arrays(encoded, site.dtype, site.projections[0].name, positions)
            self._writer.append(site, stored, scales, positions, sequence)
