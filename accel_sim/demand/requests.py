"""Accesses to memories: which bytes a transfer moves, and in which cycle each piece of it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

LEVELS = ("dram", "shared_buffer", "activation_sram", "weight_sram", "accumulator_sram", "output_sram")
DRAM, SHARED_BUFFER, ACTIVATION_SRAM, WEIGHT_SRAM, ACCUMULATOR_SRAM, OUTPUT_SRAM = range(len(LEVELS))


@dataclass(frozen=True)
class Extents:
    """Stretches of consecutive bytes, in the order in which they are moved; int64 [n] each."""

    address: Integers
    """Of the first byte, from the start of the operand's region."""
    bytes: Integers

    @classmethod
    def of(cls, address: int, length: int) -> Extents:
        """One stretch."""
        return cls(np.array([address], dtype=np.int64), np.array([length], dtype=np.int64))

    @property
    def total(self) -> int:
        return int(self.bytes.sum())

    def part(self, first: int, count: int) -> Extents:
        """`count` of the bytes, from the byte moved as number `first` on."""
        ends = np.cumsum(self.bytes)
        starts = ends - self.bytes
        begin, end = np.maximum(starts, first), np.minimum(ends, first + count)
        kept = end > begin
        return Extents((self.address + begin - starts)[kept], (end - begin)[kept])

    def joined(self) -> Extents:
        """The same with neighbours that touch made one."""
        if not len(self.address):
            return self
        opens = np.append(True, self.address[1:] != (self.address + self.bytes)[:-1])
        return Extents(self.address[opens], np.add.reduceat(self.bytes, np.flatnonzero(opens)))

    def padded(self, total: int) -> Extents:
        """The same with the last stretch lengthened, so that they move `total` bytes."""
        if not len(self.bytes):
            return self
        lengths = self.bytes.copy()
        lengths[-1] += total - lengths.sum()
        return Extents(self.address, lengths)


@dataclass(frozen=True)
class Transfer:
    """One occupation of the DRAM, from cycle `start` to cycle `end`."""

    start: int
    end: int
    core: int
    write: bool
    parts: tuple[tuple[str, Extents], ...]
    """(operand, its bytes), in the order in which they are moved."""


@dataclass(frozen=True)
class Requests:
    """Accesses, a row each; arrays over [requests]."""

    cycle: Integers
    level: Integers
    """Index into LEVELS."""
    core: Integers
    address: Integers
    bytes: Integers
    write: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.cycle)

    @classmethod
    def of(cls, cycle: Any, level: int, core: Any, address: Any, length: Any, write: bool) -> Requests:
        """One request for every element of `length`; the others are broadcast to its shape. Empty ones are left out."""
        length = np.asarray(length, dtype=np.int64)
        used = length > 0
        columns = (np.broadcast_to(column, length.shape)[used] for column in (cycle, level, core, address))
        return cls(*columns, length[used], np.full(np.count_nonzero(used), write))

    @classmethod
    def joined(cls, parts: Sequence[Requests]) -> Requests:
        """One behind the other."""
        if not parts:
            return cls.of(0, 0, 0, 0, np.zeros(0, np.int64), False)
        return cls(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(cls)))

    def __getitem__(self, chosen: Any) -> Requests:
        """The rows of a slice, a mask, or an order."""
        return Requests(*(getattr(self, one.name)[chosen] for one in fields(self)))

    def in_order(self) -> Requests:
        """By cycle; those of one cycle stay in the order they are in."""
        return self[np.argsort(self.cycle, kind="stable")]

    def delayed(self, cycles: int) -> Requests:
        return replace(self, cycle=self.cycle + cycles)


def in_bursts(transfer: Transfer, bases: Mapping[str, int], burst: int) -> Requests:
    """A request for every burst that a transfer touches, evenly over the cycles that it occupies.

    A request is made in the cycle in which, at the transfer's own pace, all bytes before it have been moved. None
    crosses a multiple of `burst`. `bases` are the addresses of the operands' regions, multiples of `burst`.
    """
    address = np.concatenate([bases[operand] + extents.address for operand, extents in transfer.parts])
    length = np.concatenate([extents.bytes for _, extents in transfer.parts])
    first = address // burst
    touched = (address + length - 1) // burst - first + 1
    which = np.repeat(np.arange(len(address)), touched)
    place = (first[which] + np.arange(len(which)) - np.repeat(np.cumsum(touched) - touched, touched)) * burst
    begin = np.maximum(address[which], place)
    moved = np.minimum((address + length)[which], place + burst) - begin
    before = np.cumsum(moved) - moved
    cycle = transfer.start + before * (transfer.end - transfer.start) // max(1, int(length.sum()))
    return Requests.of(cycle, DRAM, transfer.core, begin, moved, transfer.write)
