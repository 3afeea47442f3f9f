"""Pipeline cuts: the same circuit combinational or in stages."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Signal, ValueLike


@dataclass(frozen=True)
class Cuts:
    """Gives names to the values between two stages of `m`: registers where `pipelined`, wires where not."""

    m: Module
    pipelined: bool

    def cut(self, value: ValueLike, name: str) -> Signal:
        """The value behind the cut: a cycle later, or at once."""
        behind = Signal.like(value, name=name)
        domain = self.m.d.sync if self.pipelined else self.m.d.comb
        domain += behind.eq(value)
        return behind


def delayed(m: Module, value: ValueLike, cycles: int, name: str) -> ValueLike:
    """The value `cycles` cycles later, through as many registers."""
    for cycle in range(cycles):
        value = Cuts(m, pipelined=True).cut(value, f"{name}_{cycle + 1}")
    return value
