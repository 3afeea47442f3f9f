"""A circuit to synthesise: its shape, how it is built, and what goes in and must come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from amaranth.lib import wiring

from accel_sim.pattern import Encoding, Pattern
from accel_sim.rtl.operand_select import OperandMux
from accel_sim.synthesis.operands import Operands

Ports = dict[str, np.ndarray]
"""Values of ports: [cycles, 64 streams, …]."""


@dataclass(frozen=True)
class Unit:
    """One row of the tables. Two of a kind differ in pattern, lanes or bits."""

    name: str
    build: Callable[[], wiring.Component]
    drive: Callable[[Operands, int], tuple[Ports, Ports]]
    n: int | None = None
    m: int | None = None
    lanes: int | None = None
    bits: int = 8
    processing_element: tuple[OperandMux, Encoding, bool] | None = None
    """Operand multiplexer, metadata, register behind the multiplexer, of a whole processing element."""

    @property
    def key(self) -> str:
        """Such as `top_n_rank 8:16 16 bit`, the same for the same row and for no other."""
        pattern = f" {self.n}:{self.m}" if self.n else f" {self.m}" if self.m else ""
        lanes = f" {self.lanes} lanes" if self.lanes else ""
        bits = f" {self.bits} bit" if self.bits != 8 else ""
        element = self.processing_element
        kind = f" {element[0]} {element[1]}{' registered' * element[2]}" if element and self.n else ""
        return f"{self.name}{pattern}{lanes}{bits}{kind}"


def is_half(pattern: Pattern) -> bool:
    """Whether half of the elements are kept, as the compared patterns do."""
    return 2 * pattern.n == pattern.m
