"""Where the operands of a product lie in DRAM.

The timing model counts every run of consecutive bytes that is fetched as whole bursts. So every such run starts at a
multiple of the burst here; otherwise the trace would move more than what is timed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from accel_sim.demand.operands import Runs
from accel_sim.demand.requests import Extents, Integers


class Layout(Protocol):
    """One operand's region."""

    bytes: int
    """Of the region."""

    def extents(self, core: int, run: int, chunk: int | None) -> Extents:
        """What fetching a run moves, of all features or of one chunk, in whole bursts."""
        ...


def whole_bursts(length: Integers, burst: int) -> Integers:
    return -(-length // burst) * burst


@dataclass(frozen=True)
class RowMajor:
    """Rows one behind the other: tokens with their features, or outputs with their weights; each with its scale."""

    runs: Runs
    pieces: Integers
    """Bytes of each chunk of a row, [chunks]."""
    address: Integers
    """Of every row."""
    burst: int
    bytes: int

    @classmethod
    def of(
        cls, runs: Runs, row_bytes: int, chunk_features: Integers, burst: int, stored: Integers | None, rows: int
    ) -> RowMajor:
        """Rows of `row_bytes`. Fetched in chunks of features, every chunk of a row starts at a burst; fetched whole, a
        run does, and its rows touch. `stored` are the positions of rows that were picked among `rows`; they touch too.
        """
        pieces = np.array([row_bytes], dtype=np.int64)
        if len(chunk_features) > 1:
            pieces = whole_bursts(-(-row_bytes * chunk_features // chunk_features.sum()), burst)
        stride = int(pieces.sum())
        sizes = whole_bursts(runs.units * stride, burst)
        units = runs.distinct(runs.units)
        starts = runs.distinct(runs.behind_each_other(sizes) - runs.first * stride)
        address = np.repeat(starts, units) + np.arange(units.sum()) * stride
        end = int(runs.distinct(sizes).sum())
        if stored is not None:
            address, end = stored * stride, rows * stride
        # Where rows were picked, or are read in other runs, filling up the last burst may reach behind the last row.
        return cls(runs, pieces, address, burst, int(whole_bursts(end, burst)) + burst)

    def extents(self, core: int, run: int, chunk: int | None) -> Extents:
        first, units = self.runs.first[core, run], self.runs.units[core, run]
        offset, length = (0, self.pieces.sum()) if chunk is None else (self.pieces[:chunk].sum(), self.pieces[chunk])
        rows = self.address[first : first + units] + offset
        return Extents(rows, np.full(units, length)).joined().padded(int(whole_bursts(units * length, self.burst)))

    def everything(self, row_bytes: int) -> Extents:
        """The first `row_bytes` of all rows."""
        return Extents(self.address, np.full(len(self.address), row_bytes)).joined()


@dataclass(frozen=True)
class FeatureMajor:
    """Weights of one feature side by side, run by run, so that only the features that are needed are fetched.

    Behind them the scales of all outputs. Every run starts at a burst, in every feature.
    """

    runs: Runs
    rows: Integers
    """Address of each needed feature's weights."""
    column: Integers
    """Where each run's weights start in such a row, [cores, runs]."""
    scales: Integers
    """Address of each run's scales, [cores, runs]."""
    scale_bytes: int
    """Of one output."""
    chunk_starts: Integers
    """First needed feature of each chunk, and the end, [chunks + 1]."""
    burst: int
    bytes: int

    @classmethod
    def of(
        cls, runs: Runs, scale_bytes: int, chunk_features: Integers, burst: int, stored: Integers, features: int
    ) -> FeatureMajor:
        """`stored` are the positions of the needed features among all `features`."""
        widths = whole_bursts(runs.units, burst)
        stride = int(runs.distinct(widths).sum())
        scales = whole_bursts(runs.units * scale_bytes, burst)
        return cls(
            runs=runs,
            rows=stored * stride,
            column=runs.behind_each_other(widths),
            scales=features * stride + runs.behind_each_other(scales),
            scale_bytes=scale_bytes,
            chunk_starts=np.append(0, np.cumsum(chunk_features)),
            burst=burst,
            bytes=features * stride + int(runs.distinct(scales).sum()),
        )

    def extents(self, core: int, run: int, chunk: int | None) -> Extents:
        """The first chunk brings the scales."""
        units = self.runs.units[core, run]
        begin, end = self.chunk_starts[[0, -1] if chunk is None else [chunk, chunk + 1]]
        address = self.rows[begin:end] + self.column[core, run]
        length = np.full(end - begin, whole_bursts(units, self.burst))
        if not chunk:
            address = np.append(self.scales[core, run], address)
            length = np.append(whole_bursts(units * self.scale_bytes, self.burst), length)
        return Extents(address, length).joined()
