"""Processing elements: multipliers, an adder tree and one accumulator, dense or behind operand multiplexers.

All data enter together and travel through the same registers, so one operand set a cycle is taken, and `latency`
cycles later its sum is seen. A cycle with nothing to add gives activations of 0 and no `clear`, whatever the rest is.
Data registers have no reset: `clear` starts every sum.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Encoding, Pattern
from accel_sim.rtl.metadata import MetadataDecoder
from accel_sim.rtl.metadata_port import MetadataPortComponent
from accel_sim.rtl.operand_select import OperandMux, OperandSelect, lines_layout, one_level

_CODE = signed(8)


class DotProduct(wiring.Component):
    """activations[lanes × signed 8] · operands[lanes × signed 8], added up over cycles; `latency` 2.

    Multipliers, a register a product, an adder tree, one accumulator. With `clear` a new sum starts with this cycle's
    products, at 0 or, where the unit was built with `bias`, at the port `bias`. Out: `accumulator` (signed), which
    wraps where the caller's sums exceed `accumulator_bits`.

    Raises AccelSimError for less than one lane, and for an accumulator that is narrower than a product.
    """

    latency = 2

    def __init__(self, lanes: int, accumulator_bits: int = 32, bias: bool = False) -> None:
        _check_lanes(lanes)
        self.lanes = lanes
        self.accumulator_bits = accumulator_bits
        self.bias_port = bias
        vector = data.ArrayLayout(_CODE, lanes)
        ports = {"activations": In(vector), "operands": In(vector)}
        super().__init__({**ports, **accumulator_ports(accumulator_bits, bias)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        products = []
        for lane in range(self.lanes):
            product = Signal(signed(16), name=f"product_{lane}", reset_less=True)
            m.d.sync += product.eq(self.activations[lane] * self.operands[lane])
            products.append(product)
        clear = registered(m, self.clear, "clear")
        start = registered(m, self.bias, "bias") if self.bias_port else 0
        total = Signal(signed(self.accumulator_bits), reset_less=True)
        m.d.sync += total.eq(Mux(clear, start, total) + adder_tree(products))
        m.d.comb += self.accumulator.eq(total)
        return m


class SparseDotProduct(wiring.Component):
    """A dot product whose operands are picked out of weights: what one column of a `broadcast` array repeats.

    In: `activations` [lanes × signed 8], `lines` [groups × lines of an OperandSelect], `weights` [groups·M × signed 8],
    `clear` and `bias` as of DotProduct. Slot s of group g meets lane g·N + s; lanes beyond groups·N get no operand and
    are not built. `latency` is 2, or 3 with a register behind the multiplexers.

    Raises AccelSimError where a group has more slots than there are lanes.
    """

    def __init__(
        self,
        lanes: int,
        pattern: Pattern,
        operand_mux: OperandMux = "onehot",
        operand_mux_register: bool = False,
        accumulator_bits: int = 32,
        bias: bool = False,
    ) -> None:
        self.lanes = lanes
        self.pattern = one_level(pattern)
        self.groups = groups_per_cycle(lanes, pattern)
        self.operand_mux = operand_mux
        self.operand_mux_register = operand_mux_register
        self.accumulator_bits = accumulator_bits
        self.bias_port = bias
        self.latency = DotProduct.latency + operand_mux_register
        super().__init__(
            {
                "activations": In(data.ArrayLayout(_CODE, lanes)),
                "lines": In(data.ArrayLayout(lines_layout(pattern, operand_mux), self.groups)),
                "weights": In(data.ArrayLayout(_CODE, self.groups * pattern.m)),
                **accumulator_ports(accumulator_bits, bias),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        slots = self.groups * self.pattern.n
        operands = []
        for group in range(self.groups):
            select = OperandSelect(self.pattern, self.operand_mux)
            m.submodules[f"operand_select_{group}"] = select
            m.d.comb += select.lines.as_value().eq(self.lines[group].as_value())
            for position in range(self.pattern.m):
                m.d.comb += select.window[position].eq(self.weights[group * self.pattern.m + position])
            operands += [select.selected[slot] for slot in range(self.pattern.n)]
        activations = [self.activations[lane] for lane in range(slots)]
        connect_dot_product(m, self, activations, operands)
        return m


class ProcessingElement(MetadataPortComponent):
    """One registered PE, the unit of the published tables: operand registers, decoders, multiplexers, dot product.

    In: `activations` [lanes × signed 8], `weights`, `metadata` [groups × bits of one group], `clear`, and `bias` where
    it was built with one. Out: `accumulator`. `lanes // N` groups a cycle bring groups·M weights; without a pattern, or
    with one that keeps all, the PE is dense: `lanes` weights, no metadata, no multiplexers.

    One that is built for a pattern serves every smaller pattern of its density with `bitmap` metadata: two bitmaps of
    8:16 are one of 16:32. `latency` is 3, or 4 with a register behind the multiplexers.

    Raises AccelSimError where a group has more slots than there are lanes (see ShiftingProcessingElement), and for a
    dense PE with a register behind multiplexers that it does not have.
    """

    def __init__(
        self,
        lanes: int,
        pattern: Pattern | None = None,
        operand_mux: OperandMux = "onehot",
        metadata: Encoding = "bitmap",
        operand_mux_register: bool = False,
        accumulator_bits: int = 32,
        bias: bool = False,
    ) -> None:
        _check_lanes(lanes)
        self.lanes = lanes
        self.pattern = None if pattern is None or one_level(pattern).keeps_all else pattern
        self.operand_mux = operand_mux
        self.encoding = metadata
        self.operand_mux_register = operand_mux_register
        self.accumulator_bits = accumulator_bits
        self.bias_port = bias
        self.latency = 1 + DotProduct.latency + operand_mux_register
        ports = {"activations": In(data.ArrayLayout(_CODE, lanes))}
        if self.pattern is None:
            if operand_mux_register:
                raise AccelSimError("operand_mux_register: a dense processing element has no operand multiplexers")
            ports["weights"] = In(data.ArrayLayout(_CODE, lanes))
        else:
            self.groups = groups_per_cycle(lanes, pattern)
            lines_layout(pattern, operand_mux)  # refuses an unknown multiplexer at once
            ports["metadata"] = In(data.ArrayLayout(unsigned(pattern.metadata_bits(metadata)), self.groups))
            ports["weights"] = In(data.ArrayLayout(_CODE, self.groups * pattern.m))
        super().__init__({**ports, **accumulator_ports(accumulator_bits, bias)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        activations = registered(m, self.activations, "activations")
        weights = registered(m, self.weights, "weights")
        if self.pattern is None:
            dot = DotProduct(self.lanes, self.accumulator_bits, self.bias_port)
            m.d.comb += dot.operands.eq(weights)
        else:
            dot = SparseDotProduct(
                self.lanes,
                self.pattern,
                self.operand_mux,
                self.operand_mux_register,
                self.accumulator_bits,
                self.bias_port,
            )
            m.d.comb += dot.weights.eq(weights)
            metadata = registered(m, self.metadata, "metadata")
            for group in range(self.groups):
                decoder = MetadataDecoder(self.pattern, self.encoding, self.operand_mux)
                m.submodules[f"decoder_{group}"] = decoder
                m.d.comb += [
                    decoder.metadata.eq(metadata[group]),
                    dot.lines[group].as_value().eq(decoder.lines.as_value()),
                ]
        m.submodules.dot_product = dot
        m.d.comb += [dot.activations.eq(activations), dot.clear.eq(registered(m, self.clear, "clear"))]
        if self.bias_port:
            m.d.comb += dot.bias.eq(registered(m, self.bias, "bias"))
        m.d.comb += self.accumulator.eq(dot.accumulator)
        return m


class ShiftingProcessingElement(MetadataPortComponent):
    """A PE with fewer lanes than a group has slots: a group takes ceil(N / lanes) cycles.

    With `load`, a group's `weights` [M × signed 8] and `metadata` enter; in the cycles after it the weight register
    shifts down by `lanes` positions, so lane l still reaches M−N+1 of them, and the decoder's lines of the next `lanes`
    slots are taken. `activations` [lanes × signed 8] bring those slots' values (0 behind the last slot), starting in
    the cycle of `load`. `clear`, `bias` and `accumulator` as of DotProduct; `latency` is 3, or 4 with a register behind
    the multiplexers. The `full` multiplexer reaches every position, so its weights stay where they are.

    Raises AccelSimError for N = M, and unless a group has more slots than there are lanes.
    """

    def __init__(
        self,
        lanes: int,
        pattern: Pattern,
        operand_mux: OperandMux = "onehot",
        metadata: Encoding = "bitmap",
        operand_mux_register: bool = False,
        accumulator_bits: int = 32,
        bias: bool = False,
    ) -> None:
        if one_level(pattern).keeps_all:
            raise AccelSimError(f"pattern {pattern}: keeps all, expected N < M; a dense ProcessingElement serves it")
        if not 1 <= lanes < pattern.n:
            raise AccelSimError(f"lanes: got {lanes}, expected 1 … {pattern.n - 1}, fewer than the slots of {pattern}")
        lines_layout(pattern, operand_mux)  # refuses an unknown multiplexer at once
        self.lanes = lanes
        self.pattern = pattern
        self.passes = -(-pattern.n // lanes)
        self.operand_mux = operand_mux
        self.encoding = metadata
        self.operand_mux_register = operand_mux_register
        self.accumulator_bits = accumulator_bits
        self.bias_port = bias
        self.latency = 1 + DotProduct.latency + operand_mux_register
        super().__init__(
            {
                "activations": In(data.ArrayLayout(_CODE, lanes)),
                "metadata": In(unsigned(pattern.metadata_bits(metadata))),
                "weights": In(data.ArrayLayout(_CODE, pattern.m)),
                "load": In(1),
                **accumulator_ports(accumulator_bits, bias),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        activations = registered(m, self.activations, "activations")
        dot = SparseDotProduct(
            self.lanes,
            self._seen_pattern,
            self.operand_mux,
            self.operand_mux_register,
            self.accumulator_bits,
            self.bias_port,
        )
        m.submodules.dot_product = dot
        weights = self._weights(m)
        m.d.comb += [
            dot.activations.eq(activations),
            dot.clear.eq(registered(m, self.clear, "clear")),
            dot.lines.as_value().eq(self._lines_of_pass(m)),
            dot.weights.as_value().eq(weights.as_value()[: len(dot.weights.as_value())]),
            self.accumulator.eq(dot.accumulator),
        ]
        if self.bias_port:
            m.d.comb += dot.bias.eq(registered(m, self.bias, "bias"))
        return m

    @property
    def _seen_pattern(self) -> Pattern:
        """What the multiplexers see: slot l of `lanes` comes from M−N+1 positions from l on, or from all M."""
        others = self.pattern.m - (self.lanes if self.operand_mux == "full" else self.pattern.n)
        return Pattern(f"{self.lanes}:{self.lanes + others}")

    def _weights(self, m: Module) -> data.View:
        held = Signal(self.weights.shape(), name="held_weights", reset_less=True)
        with m.If(self.load):
            m.d.sync += held.eq(self.weights)
        if self.operand_mux != "full":
            with m.Else():
                m.d.sync += held.as_value().eq(held.as_value() >> 8 * self.lanes)
        return held

    def _lines_of_pass(self, m: Module) -> Value:
        """Lines of the slots that this pass multiplies, out of those of the whole group."""
        metadata = Signal(len(self.metadata), name="held_metadata", reset_less=True)
        this_pass = Signal(range(self.passes), reset_less=True)
        with m.If(self.load):
            m.d.sync += [metadata.eq(self.metadata), this_pass.eq(0)]
        with m.Else():
            m.d.sync += this_pass.eq(this_pass + 1)
        m.submodules.decoder = decoder = MetadataDecoder(self.pattern, self.encoding, self.operand_mux)
        m.d.comb += decoder.metadata.eq(metadata)
        lines = decoder.lines.as_value()
        return lines.word_select(this_pass, len(lines) // self.pattern.n * self.lanes)


def _check_lanes(lanes: int) -> None:
    if lanes < 1:
        raise AccelSimError(f"lanes: got {lanes}, expected at least 1")


def groups_per_cycle(lanes: int, pattern: Pattern) -> int:
    """floor(lanes / N). Raises AccelSimError where a group's slots are more than the lanes."""
    if pattern.n > lanes:
        raise AccelSimError(f"lanes: got {lanes}, expected at least the {pattern.n} slots of a group of {pattern}")
    return lanes // pattern.n


def accumulator_ports(accumulator_bits: int, bias: bool) -> dict[str, wiring.Member]:
    """`clear`, `bias` where there is one, and `accumulator`: what every dot product has.

    Raises AccelSimError for an accumulator that is narrower than a product.
    """
    if accumulator_bits < 16:
        raise AccelSimError(f"accumulator_bits: got {accumulator_bits}, expected at least the 16 of a product")
    word = signed(accumulator_bits)
    return {"clear": In(1), **({"bias": In(word)} if bias else {}), "accumulator": Out(word)}


def registered(m: Module, value: Value, name: str) -> Signal:
    """`value` behind a register without reset."""
    held = Signal(value.shape(), name=f"{name}_register", reset_less=True)
    m.d.sync += held.eq(value)
    return held


def adder_tree(addends: Sequence[Value]) -> Value:
    """The sum of all, in pairs of pairs; each level is a bit wider."""
    level = list(addends)
    while len(level) > 1:
        sums = [low + high for low, high in zip(level[::2], level[1::2], strict=False)]
        level = sums + level[len(sums) * 2 :]
    return level[0]


def connect_dot_product(m: Module, unit: SparseDotProduct, activations: list[Value], operands: list[Value]) -> None:
    """The dot product behind the multiplexers of `unit`, with all that enters it a register later if it has one."""
    dot = DotProduct(len(operands), unit.accumulator_bits, unit.bias_port)
    m.submodules.dot_product = dot
    joined_activations, joined_operands, clear = Cat(activations), Cat(operands), unit.clear
    bias = unit.bias if unit.bias_port else None
    if unit.operand_mux_register:
        joined_activations = registered(m, joined_activations, "activation")
        joined_operands = registered(m, joined_operands, "operand")
        clear = registered(m, clear, "selected_clear")
        bias = None if bias is None else registered(m, bias, "selected_bias")
    m.d.comb += [
        dot.activations.as_value().eq(joined_activations),
        dot.operands.as_value().eq(joined_operands),
        dot.clear.eq(clear),
        unit.accumulator.eq(dot.accumulator),
    ]
    if bias is not None:
        m.d.comb += dot.bias.eq(bias)
