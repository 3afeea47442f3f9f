"""Scores of a group's elements, by which the selector ranks them: magnitude, or magnitude times a feature's factor.

Codes are symmetric, −127 … 127: a magnitude has 7 bits, and a product with an 8-bit factor 15. The code −128 never
comes out of the quantiser, and its score here is 0.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel_sim.errors import AccelSimError

MAGNITUDE_BITS = 7
FACTOR_BITS = 8


class Magnitudes(wiring.Component):
    """values[count × s8] → scores[count × u8] = |value|; combinational. Raises AccelSimError for a count below 1."""

    latency = 0

    def __init__(self, count: int) -> None:
        self.count = _positive(count)
        super().__init__(
            {
                "values": In(data.ArrayLayout(signed(8), count)),
                "scores": Out(data.ArrayLayout(unsigned(8), count)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for value, score in zip(self.values, self.scores, strict=True):
            m.d.comb += score.eq(_magnitude(value))
        return m


class FactoredMagnitudes(wiring.Component):
    """values[count × s8], factors[count × u8] → scores[count × u16] = |value|·factor; combinational.

    Raises AccelSimError for a count below 1.
    """

    latency = 0

    def __init__(self, count: int) -> None:
        self.count = _positive(count)
        super().__init__(
            {
                "values": In(data.ArrayLayout(signed(8), count)),
                "factors": In(data.ArrayLayout(unsigned(FACTOR_BITS), count)),
                "scores": Out(data.ArrayLayout(unsigned(16), count)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for value, factor, score in zip(self.values, self.factors, self.scores, strict=True):
            m.d.comb += score.eq(_magnitude(value) * factor)
        return m


class GroupScores(wiring.Component):
    """values[count × s8] (with `channel_factors` also factors[count × u8]), valid_count → scores[count × u score_bits].

    Above the score, a bit says that the element is real: of the group, only the first `valid_count` are, and what pads
    the rest (with values of 0) is never preferred to them. That makes 8 bits, or 16 with factors. Combinational.

    Raises AccelSimError for a count below 1.
    """

    latency = 0

    def __init__(self, count: int, channel_factors: bool = False) -> None:
        self.count, self.channel_factors = _positive(count), channel_factors
        self.score_bits = MAGNITUDE_BITS + (FACTOR_BITS if channel_factors else 0) + 1
        super().__init__(
            {
                **operand_ports(count, channel_factors),
                "scores": Out(data.ArrayLayout(unsigned(self.score_bits), count)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.magnitudes = magnitudes = (FactoredMagnitudes if self.channel_factors else Magnitudes)(self.count)
        m.d.comb += magnitudes.values.eq(self.values)
        if self.channel_factors:
            m.d.comb += magnitudes.factors.eq(self.factors)
        for position, score in enumerate(self.scores):
            m.d.comb += score.eq(Cat(magnitudes.scores[position][: self.score_bits - 1], self.valid_count > position))
        return m


def operand_ports(count: int, channel_factors: bool) -> dict[str, wiring.Member]:
    """What a selector of `count` elements takes in; all of them count as real where `valid_count` is left alone."""
    ports = {"values": In(data.ArrayLayout(signed(8), count)), "valid_count": In(range(count + 1), init=count)}
    if channel_factors:
        ports["factors"] = In(data.ArrayLayout(unsigned(FACTOR_BITS), count))
    return ports


def _magnitude(value: Value) -> Value:
    """7 bits: a negative code is inverted above its lowest 1."""
    negative = value[-1]
    bits = [value[0]]
    for bit in range(1, MAGNITUDE_BITS):
        bits.append(value[bit] ^ (negative & value[:bit].any()))
    return Cat(*bits)


def _positive(count: int) -> int:
    if count < 1:
        raise AccelSimError(f"count: got {count}, expected at least 1 element")
    return count
