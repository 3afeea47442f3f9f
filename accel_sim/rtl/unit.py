"""The whole unit: selectors → compressor → rows × cols processing elements → requantisers, output-stationary.

Dense activations and weights come in over one valid/ready stream, tile by tile as commands say; INT8 outputs leave over
another. Activations are selected row by row into compressed buffers; chunk by chunk they are broadcast along the rows,
weights along the columns; a second set of accumulators empties column by column behind the next tile.

What a beat of the load stream holds: first the weights' codes, chunk by chunk (what a row takes a cycle), column by
column within a chunk, then a float32 scale a column; then the same of the activations, row by row. A chunk that is
larger than a beat takes several; a beat that is larger than a chunk brings several rows'. A scale is a normal float32;
the output's own static scale is a power of two that the activations' scales are divided by. The store stream holds the
output codes column by column. See `accel_sim.rtl.sequencer` for the order of everything.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from accel_sim.rtl.metadata import MetadataDecoder
from accel_sim.rtl.processing_element import DotProduct, SparseDotProduct
from accel_sim.rtl.requantiser import Requantiser
from accel_sim.rtl.selector import FlexibleSelector, Selector
from accel_sim.rtl.sequencer import ENDED, Sequencer, command_layout, delayed
from accel_sim.rtl.shape import SCALE_BYTES, UnitShape

OPERAND_BITS = 8
ACCUMULATOR_BITS = 32
SRAM_CYCLE = 1
"""Every buffer is read synchronously: an address in one cycle, the data in the next."""


class Unit(wiring.Component):
    """A whole sparse tensor unit of one shape.

    `commands` is one tile each; `mode` (which of `shape.modes` runs), `chunks` and `last_features` (features in the
    last chunk) hold still during a job; `load` and `store` are `bus_bytes` wide. `ended` marks the last cycle of a
    stage's work on an item.
    """

    def __init__(self, shape: UnitShape) -> None:
        self.shape = shape
        self._selectors = [] if shape.pattern is None else [self._selector() for _ in range(self._selector_count)]
        self._requantisers = [Requantiser(pipelined=True) for _ in range(shape.requantisers)]
        beat = data.ArrayLayout(OPERAND_BITS, shape.bus_bytes)
        super().__init__(
            {
                "commands": In(stream.Signature(command_layout(shape))),
                "mode": In(range(max(2, len(shape.modes)))),
                "chunks": In(range(shape.chunks + 1)),
                "last_features": In(range(shape.chunk + 1)),
                "load": In(stream.Signature(beat)),
                "store": Out(stream.Signature(beat)),
                "ended": Out(ENDED),
            }
        )

    @property
    def _selector_count(self) -> int:
        return self.shape.bank_rows * self.shape.groups

    def _selector(self) -> Selector | FlexibleSelector:
        s = self.shape
        if s.also:
            return FlexibleSelector(s.modes, pipelined=s.pipelined_selector)
        return Selector(s.pattern, s.selector, metadata=s.metadata, pipelined=s.pipelined_selector)

    @property
    def latency_select(self) -> int:
        """From the last address of a load buffer to its group in the compressed buffer; 0 without selectors."""
        return SRAM_CYCLE + self._selectors[0].latency if self._selectors else 0

    @property
    def latency_compute(self) -> int:
        """Operand, product and accumulator register behind the buffers' cycle; select line and multiplexer register."""
        sparse = self.shape.pattern is not None
        return 1 + DotProduct.latency + sparse + (sparse and self.shape.operand_mux_register)

    @property
    def latency_requantise(self) -> int:
        """The second accumulator, the requantiser, and the output buffer's cycle."""
        return 1 + self._requantisers[0].latency + SRAM_CYCLE

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.sequencer = control = Sequencer(
            self.shape, self.latency_select, self.latency_compute, self.latency_requantise
        )
        wiring.connect(m, wiring.flipped(self.commands), control.commands)
        m.d.comb += [
            control.chunks.eq(self.chunks),
            control.last_features.eq(self.last_features),
            control.load_valid.eq(self.load.valid),
            self.load.ready.eq(control.load_ready),
            self.ended.eq(control.ended),
        ]
        loaded = self._load_activations(m, control)
        activations = loaded if self.shape.pattern is None else self._compress(m, control, loaded)
        weights = self._load_weights(m, control)
        scales = self._scales(m, control)
        accumulators = self._array(m, control, activations, weights)
        codes = self._requantise(m, control, accumulators, scales)
        self._store(m, control, codes)
        return m

    # Buffers

    def _buffer(self, m: Module, name: str, width: int, depth: int, granularity: int | None = None):
        m.submodules[name] = memory = Memory(shape=width, depth=depth, init=[])
        return memory.write_port(granularity=granularity), memory.read_port(transparent_for=())

    def _write_chunk(self, m: Module, control: Sequencer, port, index: int, banks: int, address: Value) -> None:
        """What a beat brings for bank `index` of so many: a part of its chunk, or one of several rows' chunks."""
        s, step = self.shape, control.load
        place = index % s.units_per_beat * s.chunk
        if s.beats_per_unit == 1:
            whole = Cat(self.load.payload[place + i] for i in range(s.chunk))
            enable = step.bank == index - index % s.units_per_beat
            m.d.comb += [port.addr.eq(address), port.data.eq(whole), port.en.eq(enable & self._taken(control, banks))]
            return
        parts = Cat((step.bank == index) & (step.byte == part * s.bus_bytes) for part in range(s.beats_per_unit))
        m.d.comb += [
            port.addr.eq(address),
            port.data.eq(Cat(self.load.payload.as_value().replicate(s.beats_per_unit))),
            port.en.eq(Mux(self._taken(control, banks), parts, 0)),
        ]

    def _taken(self, control: Sequencer, banks: str) -> Value:
        return control.load.codes & (control.load.weights if banks == "weights" else ~control.load.weights)

    def _granularity(self) -> int | None:
        s = self.shape
        return OPERAND_BITS * s.bus_bytes if s.beats_per_unit > 1 else None

    def _load_weights(self, m: Module, control: Sequencer) -> list[Value]:
        """[cols] chunks of weights as they leave the buffers, a cycle behind the activations' metadata, if any."""
        s = self.shape
        address = control.load.weight_panel * s.chunks + control.load.chunk
        behind = int(s.pattern is not None)
        read = delayed(m, control.compute.weight_panel * s.chunks + control.compute.chunk, behind)
        chunks = []
        for col in range(s.cols):
            name, width = f"weights_{col}", OPERAND_BITS * s.chunk
            write, port = self._buffer(m, name, width, s.weight_panels * s.chunks, self._granularity())
            self._write_chunk(m, control, write, col, "weights", address)
            m.d.comb += port.addr.eq(read)
            chunks.append(port.data)
        return chunks

    def _load_activations(self, m: Module, control: Sequencer) -> list[Value]:
        """[banks] dense chunks as they leave the buffers that loads go to."""
        s = self.shape
        blocks = s.rows // s.bank_rows
        write_address = self._activation_address(control.load.activation_panel, control.load.chunk, control.load.block)
        source = control.compute if s.pattern is None else control.select
        panel = source.activation_panel if s.pattern is None else source.panel
        block = Const(0) if s.pattern is None else source.block
        chunks = []
        for bank in range(s.bank_rows):
            depth = s.activation_panels * s.chunks * blocks
            name, width = f"activations_{bank}", OPERAND_BITS * s.chunk
            write, port = self._buffer(m, name, width, depth, self._granularity())
            self._write_chunk(m, control, write, bank, "activations", write_address)
            m.d.comb += port.addr.eq(self._activation_address(panel, source.chunk, block))
            chunks.append(port.data)
        return chunks

    def _activation_address(self, panel: Value, chunk: Value, first_row: Value) -> Value:
        blocks = self.shape.rows // self.shape.bank_rows
        return (panel * self.shape.chunks + chunk) * blocks + first_row // self.shape.bank_rows

    def _compress(self, m: Module, control: Sequencer, loaded: list[Value]) -> list[tuple[Value, Value]]:
        """[rows] pairs (values, metadata) of the compressed buffers, values a cycle behind their metadata."""
        s, step = self.shape, control.select
        kept = [self._select_chunk(m, control, bank, chunk) for bank, chunk in enumerate(loaded)]
        latency = self.latency_select
        active = delayed(m, step.active, latency)
        block = delayed(m, step.block, latency)
        address = delayed(m, step.panel * s.chunks + step.chunk, latency)
        panel = control.compute.activation_panel * s.chunks + control.compute.chunk
        compressed = []
        for row in range(s.rows):
            values, metadata = kept[row % s.bank_rows]
            here = active & (block == row - row % s.bank_rows)
            depth = s.activation_panels * s.chunks
            write, read = self._buffer(m, f"kept_{row}", OPERAND_BITS * s.slots, depth)
            m.d.comb += [write.addr.eq(address), write.data.eq(values), write.en.eq(here)]
            write_bits, read_bits = self._buffer(m, f"metadata_{row}", s.metadata_bits, depth)
            m.d.comb += [write_bits.addr.eq(address), write_bits.data.eq(metadata), write_bits.en.eq(here)]
            m.d.comb += [read_bits.addr.eq(panel), read.addr.eq(delayed(m, panel, 1))]
            compressed.append((read.data, read_bits.data))
        return compressed

    def _select_chunk(self, m: Module, control: Sequencer, bank: int, chunk: Value) -> tuple[Value, Value]:
        """Kept values and metadata of one row's chunk; features beyond the last one are zero and never preferred."""
        s = self.shape
        last = delayed(m, control.select.last_chunk, SRAM_CYCLE)
        values, metadata = [], []
        for group in range(s.groups):
            selector = self._selectors[bank * s.groups + group]
            m.submodules[f"selector_{bank}_{group}"] = selector
            first, width = group * s.pattern.m, OPERAND_BITS * s.pattern.m
            left = Mux(self.last_features > first, self.last_features - first, 0)
            valid = Mux(last & (left < s.pattern.m), left, s.pattern.m)
            real = Cat((valid > i).replicate(OPERAND_BITS) for i in range(s.pattern.m))
            m.d.comb += [
                selector.values.as_value().eq(chunk[first * OPERAND_BITS : first * OPERAND_BITS + width] & real),
                selector.valid_count.eq(valid),
            ]
            values.append(selector.kept.as_value())
            if s.also:
                m.d.comb += selector.mode.eq(self.mode)
            metadata.append(selector.bitmap if s.also else selector.metadata)
        return Cat(*values), Cat(*metadata)

    def _scales(self, m: Module, control: Sequencer) -> tuple[list[Array], list[Array]]:
        """float32 scales of the tile at work, by parity of the item: [2] arrays over rows, [2] over columns."""
        s, step = self.shape, control.load
        words = [
            Cat(self.load.payload[SCALE_BYTES * i + byte] for byte in range(SCALE_BYTES))
            for i in range(s.scales_per_beat)
        ]
        at_work = []
        for name, count, panels, is_weights in (
            ("token", s.rows, s.activation_panels, 0),
            ("output", s.cols, s.weight_panels, 1),
        ):
            panel = step.weight_panel if is_weights else step.activation_panel
            stored = [
                Array(Signal(8 * SCALE_BYTES, name=f"{name}_scale_{p}_{i}") for i in range(count))
                for p in range(panels)
            ]
            with m.If(step.scales & (step.weights == is_weights)):
                for p in range(panels):
                    for i in range(count):
                        with m.If((panel == p) & (step.scale == i - i % s.scales_per_beat)):
                            m.d.sync += stored[p][i].eq(words[i % s.scales_per_beat])
            used = control.compute.weight_panel if is_weights else control.compute.activation_panel
            pair = [
                Array(Signal(8 * SCALE_BYTES, name=f"{name}_scale_at_work_{p}_{i}") for i in range(count))
                for p in range(2)
            ]
            for odd in range(2):
                with m.If(control.compute.active & control.compute.first & (control.compute.odd == odd)):
                    for i in range(count):
                        m.d.sync += pair[odd][i].eq(Array(stored[p][i] for p in range(panels))[used])
            at_work.append(pair)
        return at_work[0], at_work[1]

    # Array

    def _array(self, m: Module, control: Sequencer, activations: list, weights: list[Value]) -> list[list[Value]]:
        """[rows][cols] accumulators."""
        s = self.shape
        behind = SRAM_CYCLE + int(s.pattern is not None)
        active = delayed(m, control.compute.active, behind)
        first = delayed(m, control.compute.first, behind)
        columns = []
        for col, chunk in enumerate(weights):
            register = Signal(OPERAND_BITS * s.chunk, name=f"weight_register_{col}")
            m.d.sync += register.eq(chunk)
            columns.append(register)
        rows = [self._row_registers(m, control, row, activations, active) for row in range(s.rows)]
        starts = delayed(m, first & active, 1)
        sums = []
        for row, (values, lines) in enumerate(rows):
            sums.append([])
            for col, chunk in enumerate(columns):
                m.submodules[f"dot_{row}_{col}"] = dot = self._dot_product()
                m.d.comb += [dot.activations.as_value().eq(values), dot.clear.eq(starts)]
                if s.pattern is None:
                    m.d.comb += dot.operands.as_value().eq(chunk)
                else:
                    m.d.comb += [dot.weights.as_value().eq(chunk), dot.lines.as_value().eq(lines)]
                sums[-1].append(dot.accumulator)
        return sums

    def _dot_product(self) -> DotProduct | SparseDotProduct:
        s = self.shape
        if s.pattern is None:
            return DotProduct(s.lanes)
        return SparseDotProduct(s.lanes, s.pattern, s.operand_mux, s.operand_mux_register)

    def _row_registers(self, m: Module, control: Sequencer, row: int, activations: list, active: Value):
        """Activations and select lines of a row. What is not at work, or beyond the last feature, is zero."""
        s = self.shape
        register = Signal(OPERAND_BITS * s.lanes, name=f"activation_register_{row}")
        if s.pattern is None:
            last = delayed(m, control.compute.chunk + 1 == self.chunks, SRAM_CYCLE)
            real = Cat((~last | (self.last_features > i)).replicate(OPERAND_BITS) for i in range(s.lanes))
            m.d.sync += register.eq(Mux(active, activations[row] & real, 0))
            return register, None
        values, bits = activations[row]
        m.d.sync += register.eq(Mux(active, values, 0))
        metadata = Signal(s.metadata_bits, name=f"metadata_register_{row}")
        m.d.sync += metadata.eq(bits)
        lines, width = [], s.pattern.metadata_bits(s.metadata)
        for group in range(s.groups):
            m.submodules[f"decoder_{row}_{group}"] = decoder = MetadataDecoder(s.pattern, s.metadata, s.operand_mux)
            m.d.comb += decoder.metadata.eq(metadata[group * width : (group + 1) * width])
            line = Signal.like(decoder.lines.as_value(), name=f"select_lines_{row}_{group}")
            m.d.sync += line.eq(decoder.lines)
            lines.append(line)
        return register, Cat(*lines)

    # Behind the array

    def _requantise(self, m: Module, control: Sequencer, accumulators: list, scales) -> list[Value]:
        """[requantisers] output codes, `latency_requantise` − 1 cycles behind their step."""
        s, step = self.shape, control.requantise
        drain = [
            [Signal(ACCUMULATOR_BITS, name=f"drain_{row}_{col}") for col in range(s.cols)] for row in range(s.rows)
        ]
        shown = delayed(m, step.as_value(), 1)
        shown = data.View(step.shape(), shown)
        for row in range(s.rows):
            for col in range(s.cols):
                right = drain[row][col + 1] if col + 1 < s.cols else Const(0)
                below = drain[row + s.requantisers][col] if row + s.requantisers < s.rows else Const(0)
                with m.If(step.active & step.first):
                    m.d.sync += drain[row][col].eq(accumulators[row][col])
                with m.Elif(shown.active & shown.column_end):
                    m.d.sync += drain[row][col].eq(right)
                if col == 0:
                    with m.Elif(shown.active):
                        m.d.sync += drain[row][col].eq(below)
        tokens, outputs = scales
        codes = []
        for i, unit in enumerate(self._requantisers):
            m.submodules[f"requantiser_{i}"] = unit
            token = Mux(shown.odd, tokens[1][shown.row + i], tokens[0][shown.row + i])
            output = Mux(shown.odd, outputs[1][shown.column], outputs[0][shown.column])
            m.d.comb += [
                unit.accumulator.eq(drain[i][0]),
                unit.token_mantissa.eq(_mantissa(token)),
                unit.token_exponent.eq(_exponent(token)),
                unit.output_mantissa.eq(_mantissa(output)),
                unit.output_exponent.eq(_exponent(output)),
            ]
            codes.append(unit.code)
        return codes

    def _store(self, m: Module, control: Sequencer, codes: list[Value]) -> None:
        """Two halves of output words: requantised codes go in, beats of the bus come out."""
        s = self.shape
        parts = s.bus_bytes // s.requantisers
        latency = self.latency_requantise - SRAM_CYCLE
        step = data.View(control.requantise.shape(), delayed(m, control.requantise.as_value(), latency))
        part, word = Signal(range(parts)), Signal(range(s.output_words + 1))
        filled = [Signal(range(s.output_words + 1), name=f"last_word_{odd}") for odd in range(2)]
        width = OPERAND_BITS * s.bus_bytes
        write, read = self._buffer(m, "outputs", width, 2 * s.output_words, OPERAND_BITS * s.requantisers)
        m.d.comb += [
            write.addr.eq(step.odd * s.output_words + word),
            write.data.eq(Cat(*codes).replicate(parts)),
            write.en.eq(Mux(step.active, Const(1) << part, 0)),
        ]
        with m.If(step.active):
            full = (part == parts - 1) | step.last
            m.d.sync += [part.eq(Mux(full, 0, part + 1)), word.eq(Mux(step.last, 0, word + full))]
            with m.If(step.last):
                for odd in range(2):
                    with m.If(step.odd == odd):
                        m.d.sync += filled[odd].eq(word)
        leaving, following = Signal.like(word), Signal.like(word)
        last = leaving == Mux(control.store.odd, filled[1], filled[0])
        next_odd = control.store.odd ^ control.store.last
        m.d.comb += following.eq(Mux(control.store.taken, Mux(last, 0, leaving + 1), leaving))
        m.d.sync += leaving.eq(following)
        m.d.comb += [
            read.addr.eq(next_odd * s.output_words + following),
            self.store.payload.as_value().eq(read.data),
            self.store.valid.eq(control.store_valid),
            control.store_ready.eq(self.store.ready),
            control.store_last.eq(last),
        ]


def _mantissa(scale: Value) -> Value:
    """Q31 mantissa in [2^30, 2^31) of a normal float32."""
    return Cat(Const(0, 7), scale[:23], Const(1, 1))


def _exponent(scale: Value) -> Value:
    """Its exponent, so that the scale is mantissa · 2^(exponent − 31)."""
    return (scale[23:31] - 126).as_signed()
