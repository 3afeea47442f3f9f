"""Small shared circuits: multiplexers as expressions, comparators and population counts as modules of their own.

Comparators and population counts are submodules so that synthesis can keep their hierarchy: flattened, the equivalences
among hundreds of them take a mapper minutes to find.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


def index_bits(count: int) -> int:
    """ceil(log2 count): bits that tell `count` things apart, 0 for a single one."""
    return (count - 1).bit_length()


def any_of(bits: Sequence[Value]) -> Value:
    """The OR of bits or of words of one width; 0 when there are none."""
    return reduce(or_, bits, C(0, 1)) if bits else C(0, 1)


def tree_select(select: Value, words: Sequence[Value]) -> Value:
    """words[select] through len(words) − 1 two-way multiplexers; undefined where select ≥ len(words)."""
    level = list(words)
    for bit in select:
        pairs = [Mux(bit, high, low) for low, high in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


def and_or_select(lines: Sequence[Value], words: Sequence[Value]) -> Value:
    """The word whose one-hot line is 1, or 0 where none is: an AND a bit, then an OR over the words."""
    return any_of([Cat(word) & line.replicate(len(word)) for line, word in zip(lines, words, strict=True)])


class Comparator(wiring.Component):
    """`at_least` = a ≥ b, of two unsigned words of `bits` bits."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        super().__init__({"a": In(bits), "b": In(bits), "at_least": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.at_least.eq(self.a >= self.b)
        return m


class CountBelow(wiring.Component):
    """`below` = fewer than `limit` of `bits` bits are 1."""

    def __init__(self, bits: int, limit: int) -> None:
        self.bits, self.limit = bits, limit
        super().__init__({"value": In(bits), "below": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.below.eq(population_count(m, list(self.value)) < self.limit)
        return m


class PopulationCount(wiring.Component):
    """`count` = how many of `bits` bits are 1."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        super().__init__({"value": In(bits), "count": Out(bits.bit_length())})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.count.eq(population_count(m, list(self.value)))
        return m


def population_count(m: Module, bits: Sequence[Value]) -> Value:
    """How many of `bits` are 1, through full and half adders that `m` gets: n − (ones of n) full adders for n bits."""
    columns, place = [list(bits)], 0
    while place < len(columns):
        column = columns[place]
        while len(column) > 1:
            addends = [column.pop(0) for _ in range(min(3, len(column)))]
            total = Signal(2, name=f"partial_{place}")
            m.d.comb += total.eq(_full_adder(*addends) if len(addends) == 3 else _half_adder(*addends))
            column.append(total[0])
            if place + 1 == len(columns):
                columns.append([])
            columns[place + 1].append(total[1])
        place += 1
    return Cat(*(column[0] for column in columns if column)) if bits else C(0, 1)


def _full_adder(a: Value, b: Value, c: Value) -> Value:
    different = a ^ b
    return Cat(different ^ c, a & b | different & c)


def _half_adder(a: Value, b: Value) -> Value:
    return Cat(a ^ b, a & b)
