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


def score_bits(channel_factors: bool) -> int:
    """Bits that a score of a symmetric code needs: the highest one of Magnitudes and FactoredMagnitudes is always 0."""
    return MAGNITUDE_BITS + (FACTOR_BITS if channel_factors else 0)


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
