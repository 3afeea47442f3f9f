"""The requantiser: an INT32 accumulator to an INT8 code by one multiplication, one shift and one rounding.

Exactly `accel_sim.functional.requantize`: m = (m_t·m_f + 2^30) >> 31 of the token's and the output's Q31 mantissas,
shift = clip(31 − (e_t + e_f), 1, 63), code = clip(round_half_away(accumulator·m / 2^shift), −127, 127). Integer
requantisation as in Jacob et al., arXiv 1712.05877 §2.2.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel_sim.errors import AccelSimError

MANTISSA_BITS = 31
"""Mantissas lie in [2^30, 2^31)."""
_LARGEST_SHIFT = 63
_LARGEST_CODE = 127


class Requantiser(wiring.Component):
    """One accumulator a cycle.

    In: `accumulator` (signed, `accumulator_bits`), `token_mantissa` and `output_mantissa` (31 bits, at least 2^30),
    `token_exponent` and `output_exponent` (signed, `exponent_bits`; 12 hold every exponent of a float64).
    Out: `code` (signed, 8 bits, −127 … 127).

    Combinational (`latency` 0), or `pipelined` (`latency` 3) with a register behind the product of the mantissas, one
    behind the product with the accumulator, and one behind shift, rounding and saturation. Half away from zero is half
    up of the magnitude, so the sign travels beside it; and floor((|p| + 2^(shift−1)) / 2^shift) is half of
    floor(|p| / 2^(shift−1)) + 1, so the rounding needs an adder of 8 bits, not of 63.

    Raises AccelSimError for widths that cannot be built.
    """

    def __init__(self, pipelined: bool = False, accumulator_bits: int = 32, exponent_bits: int = 12) -> None:
        if not 2 <= accumulator_bits <= 32:  # 63 bits of shift are enough for |accumulator·m| < 2^62
            raise AccelSimError(f"requantiser: accumulator_bits is {accumulator_bits}, expected 2 … 32")
        if not 2 <= exponent_bits <= 32:
            raise AccelSimError(f"requantiser: exponent_bits is {exponent_bits}, expected 2 … 32")
        self.pipelined = pipelined
        self.accumulator_bits = accumulator_bits
        self.exponent_bits = exponent_bits
        self.latency = 3 if pipelined else 0
        super().__init__(
            {
                "accumulator": In(signed(accumulator_bits)),
                "token_mantissa": In(unsigned(MANTISSA_BITS)),
                "token_exponent": In(signed(exponent_bits)),
                "output_mantissa": In(unsigned(MANTISSA_BITS)),
                "output_exponent": In(signed(exponent_bits)),
                "code": Out(signed(8)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        domain = "sync" if self.pipelined else "comb"

        def stage(value: Value, name: str) -> Signal:
            """`value` behind a register where the unit is pipelined, else as it is, under a name of its own."""
            held = Signal(Value.cast(value).shape(), name=name, reset_less=True)
            m.d[domain] += held.eq(value)
            return held

        product = self.token_mantissa * self.output_mantissa + (1 << MANTISSA_BITS - 1)
        exponent = self.token_exponent + self.output_exponent
        mantissa = stage(product[MANTISSA_BITS : 2 * MANTISSA_BITS], "mantissa")
        shift_less_one = stage(_shift_less_one(exponent), "shift_less_one")
        magnitude = stage(_magnitude(self.accumulator), "magnitude")
        negative = stage(self.accumulator < 0, "negative")

        scaled = stage(magnitude * mantissa, "scaled")
        scaled_shift = stage(shift_less_one, "scaled_shift")
        scaled_negative = stage(negative, "scaled_negative")

        shifted = Signal(len(scaled))  # twice the result, before its last bit is rounded away
        m.d.comb += shifted.eq(scaled >> scaled_shift)
        saturated = shifted >= 2 * _LARGEST_CODE
        rounded = Mux(saturated, _LARGEST_CODE, ((shifted[:8] + 1) >> 1)[:7])
        m.d.comb += self.code.eq(stage(Mux(scaled_negative, -rounded, rounded)[:8].as_signed(), "held_code"))
        return m


def _shift_less_one(exponent: Value) -> Value:
    """clip(31 − exponent, 1, 63) − 1, six bits: beyond either end the code is saturated, or 0, all the same."""
    low, high = MANTISSA_BITS - _LARGEST_SHIFT, MANTISSA_BITS - 1
    clipped = Mux(exponent <= low, low, Mux(exponent >= high, high, exponent))
    return (MANTISSA_BITS - 1 - clipped)[:6]


def _magnitude(value: Value) -> Value:
    """|value| without a sign, as wide as the value: the lowest one fits too."""
    return Mux(value < 0, -value, value)[: len(value)].as_unsigned()
