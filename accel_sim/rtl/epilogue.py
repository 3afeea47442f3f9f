"""What mitigations of pruning cost around the product: a token's shift, its way back, and a token's scale.

A shift η is subtracted from a token's INT8 codes before they are scored, saturating at ±127, and comes back behind the
product as the rank-1 term η·(1·W): column sums of W times the token's η. A variance scale is multiplied into the
token's scale, that is into the mantissa and exponent that the requantiser takes.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel_sim.errors import AccelSimError
from accel_sim.rtl.requantiser import MANTISSA_BITS

_LARGEST_CODE = 127


class TokenShift(wiring.Component):
    """In: `values` [count × signed 8], `shift` (η, signed 8). Out: `shifted` [count × signed 8]; combinational.

    shifted = clip(values − η, −127, 127). Raises AccelSimError for a count below 1.
    """

    latency = 0

    def __init__(self, count: int) -> None:
        if count < 1:
            raise AccelSimError(f"token shift: count is {count}, expected at least 1")
        self.count = count
        vector = data.ArrayLayout(signed(8), count)
        super().__init__({"values": In(vector), "shift": In(signed(8)), "shifted": Out(vector)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for index in range(self.count):
            difference = Signal(signed(9), name=f"difference_{index}")
            m.d.comb += difference.eq(self.values[index] - self.shift)
            too_low, too_high = difference < -_LARGEST_CODE, difference > _LARGEST_CODE
            m.d.comb += self.shifted[index].eq(Mux(too_low, -_LARGEST_CODE, Mux(too_high, _LARGEST_CODE, difference)))
        return m


class RankOneEpilogue(wiring.Component):
    """In: `accumulator` (signed), `shift` (the token's η, signed 8), `column_sum` (of the output's weights, signed).

    Out: `corrected` = accumulator + η·column_sum, as wide as the accumulator. K ≤ 133,144 weights of ±127 sum to 26
    bits; the result fits 32 bits where 2·K·127² does, K ≤ 66,572, and wraps beyond. Combinational (`latency` 0), or
    `pipelined` (`latency` 2) with a register behind the product and one behind the sum.

    Raises AccelSimError for widths below 2.
    """

    def __init__(self, pipelined: bool = False, accumulator_bits: int = 32, column_sum_bits: int = 26) -> None:
        if min(accumulator_bits, column_sum_bits) < 2:
            raise AccelSimError(
                f"rank-1 epilogue: widths are {accumulator_bits} and {column_sum_bits} bits, expected at least 2"
            )
        self.pipelined = pipelined
        self.accumulator_bits = accumulator_bits
        self.column_sum_bits = column_sum_bits
        self.latency = 2 if pipelined else 0
        super().__init__(
            {
                "accumulator": In(signed(accumulator_bits)),
                "shift": In(signed(8)),
                "column_sum": In(signed(column_sum_bits)),
                "corrected": Out(signed(accumulator_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        domain = m.d.sync if self.pipelined else m.d.comb
        product = Signal(signed(8 + self.column_sum_bits), reset_less=True)
        accumulator = Signal(signed(self.accumulator_bits), reset_less=True)
        total = Signal(signed(self.accumulator_bits), reset_less=True)
        domain += [
            product.eq(self.shift * self.column_sum),
            accumulator.eq(self.accumulator),
            total.eq(accumulator + product),
        ]
        m.d.comb += self.corrected.eq(total)
        return m


class TokenScale(wiring.Component):
    """A token's scale m_t·2^(e_t − 31) times m_v·2^(e_v − 31), again with a mantissa in [2^30, 2^31).

    In: `mantissa` and `exponent` (as the requantiser takes them), `scale_mantissa` (31 bits, at least 2^30) and
    `scale_exponent`. Out: `scaled_mantissa` and `scaled_exponent`, a bit wider, for sums. The product is rounded once,
    to 31 significant bits, half up, as the requantiser's constants are. Combinational (`latency` 0), or `pipelined`
    (`latency` 2) with a register behind the product and one behind the rounding.

    Raises AccelSimError for fewer than 2 bits of exponent.
    """

    def __init__(self, pipelined: bool = False, exponent_bits: int = 12) -> None:
        if exponent_bits < 2:
            raise AccelSimError(f"token scale: exponent_bits is {exponent_bits}, expected at least 2")
        self.pipelined = pipelined
        self.exponent_bits = exponent_bits
        self.latency = 2 if pipelined else 0
        super().__init__(
            {
                "mantissa": In(unsigned(MANTISSA_BITS)),
                "exponent": In(signed(exponent_bits)),
                "scale_mantissa": In(unsigned(MANTISSA_BITS)),
                "scale_exponent": In(signed(exponent_bits)),
                "scaled_mantissa": Out(unsigned(MANTISSA_BITS)),
                "scaled_exponent": Out(signed(exponent_bits + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        domain = m.d.sync if self.pipelined else m.d.comb
        product = Signal(2 * MANTISSA_BITS, reset_less=True)
        exponent = Signal(signed(self.exponent_bits + 1), reset_less=True)
        mantissa_out = Signal(MANTISSA_BITS, reset_less=True)
        exponent_out = Signal(signed(self.exponent_bits + 1), reset_less=True)
        domain += [
            product.eq(self.mantissa * self.scale_mantissa),
            exponent.eq(self.exponent + self.scale_exponent),
        ]
        mantissa, one_less = _normalised(product)
        domain += [mantissa_out.eq(mantissa), exponent_out.eq(exponent - one_less)]
        m.d.comb += [self.scaled_mantissa.eq(mantissa_out), self.scaled_exponent.eq(exponent_out)]
        return m


def _normalised(product: Value) -> tuple[Value, Value]:
    """Mantissa of a product in [2^60, 2^62) rounded half up to 31 bits, and whether its exponent is one less.

    From 2^61 on, the upper 31 bits are the mantissa. Below, the next 31 are; rounding may carry them to 2^61 after all.
    """
    upper = product[-1]
    rounded = (Mux(upper, product[MANTISSA_BITS - 1 :], product[MANTISSA_BITS - 2 :]) + 1) >> 1
    carried = rounded[MANTISSA_BITS]
    return Mux(carried, 1 << MANTISSA_BITS - 1, rounded[:MANTISSA_BITS]), ~(upper | carried)
