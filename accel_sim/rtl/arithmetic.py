"""Dense arithmetic by itself: the units that costs of processing elements are compared with."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel_sim.errors import AccelSimError


class Multiplier(wiring.Component):
    """a, b [signed `bits`] → product [signed 2·`bits`]; combinational.

    Raises AccelSimError for words of less than 2 bits.
    """

    latency = 0

    def __init__(self, bits: int = 8) -> None:
        self.bits = _checked(bits)
        super().__init__({"a": In(signed(bits)), "b": In(signed(bits)), "product": Out(signed(2 * bits))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.product.eq(self.a * self.b)
        return m


class Adder(wiring.Component):
    """a [signed `bits`] + b [signed `addend_bits`] → total [signed `bits`], which wraps; combinational.

    Raises AccelSimError for words of less than 2 bits.
    """

    latency = 0

    def __init__(self, bits: int = 32, addend_bits: int = 16) -> None:
        self.bits, self.addend_bits = _checked(bits), _checked(addend_bits)
        super().__init__({"a": In(signed(bits)), "b": In(signed(addend_bits)), "total": Out(signed(bits))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.total.eq(self.a + self.b)
        return m


class MultiplyAccumulate(wiring.Component):
    """a · b [signed `bits`], added up over cycles in `accumulator` [signed `accumulator_bits`, wraps].

    `clear` starts a new sum with this cycle's product. With `registered`, operands and product have registers of their
    own. `latency` is 1, or 3 with them.

    Raises AccelSimError for words of less than 2 bits and for an accumulator that is narrower than a product.
    """

    def __init__(self, registered: bool = False, bits: int = 8, accumulator_bits: int = 32) -> None:
        self.registered, self.bits, self.accumulator_bits = registered, _checked(bits), accumulator_bits
        self.latency = 3 if registered else 1
        if accumulator_bits < 2 * bits:
            raise AccelSimError(f"accumulator_bits: got {accumulator_bits}, expected at least {2 * bits}, a product's")
        super().__init__(
            {
                "a": In(signed(bits)),
                "b": In(signed(bits)),
                "clear": In(1),
                "accumulator": Out(signed(accumulator_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()

        def stage(value, name: str) -> Signal:
            held = Signal(value.shape(), name=name, reset_less=True)
            m.d.sync += held.eq(value)
            return held

        a, b, clear = self.a, self.b, self.clear
        if self.registered:
            a, b, clear = stage(a, "a_register"), stage(b, "b_register"), stage(clear, "clear_register")
        product = a * b
        if self.registered:
            product, clear = stage(product, "product_register"), stage(clear, "product_clear")
        total = Signal(signed(self.accumulator_bits), reset_less=True)
        m.d.sync += total.eq(Mux(clear, 0, total) + product)
        m.d.comb += self.accumulator.eq(total)
        return m


def _checked(bits: int) -> int:
    if bits < 2:
        raise AccelSimError(f"bits: got {bits}, expected at least 2")
    return bits
