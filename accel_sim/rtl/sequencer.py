"""Which item each stage works on, and when: the control of a whole unit.

Items go through load → select → compute → requantise → store in order, one at a time in each stage, and between
neighbouring stages stands a double buffer, so that

    start(s, i) = max(ready(s−1, i), end(s, i−1), end(s+1, i−2))

where an item is ready a stage's latency after its end. A load waits until the array has left the place it goes to.
Loads and stores share one bus, in the order load 0, 1, 2, store 0, load 3, store 1, … These are the rules of
`accel_sim.timing.pipeline`, which predicts every cycle of this circuit.

Items are counted modulo 16: at most eight are under way.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel_sim.rtl.shape import UnitShape

ITEMS = 8
"""Places in the ring of commands."""
ENDED = data.StructLayout({stage: 1 for stage in ("load", "select", "compute", "requantise", "store")})
"""A flag a stage: this is the last cycle of its work on an item. Loads and selections of nothing take no cycle."""


def command_layout(shape: UnitShape) -> data.StructLayout:
    """What is to be done with one item: one tile of up to rows × cols outputs over all features."""
    return data.StructLayout(
        {
            "load_weights": 1,
            "load_activations": 1,
            "exclusive": 1,  # the load overwrites what the item before still uses
            "weight_panel": range(max(2, shape.weight_panels)),  # place in the buffer
            "activation_panel": range(max(2, shape.activation_panels)),
            "tokens": range(shape.rows + 1),
            "outputs": range(shape.cols + 1),
        }
    )


class Walk:
    """Nested counters, innermost first. Each is a pair (count, step): it runs 0, step, 2·step … below its count."""

    def __init__(self, m: Module, advance: Value, *loops: tuple[Value | int, int], largest: int) -> None:
        self.indices = [Signal(range(largest + 1)) for _ in loops]
        self.at_end = []
        carry = advance
        for index, (count, step) in zip(self.indices, loops, strict=True):
            at_end = index + step >= count
            with m.If(carry):
                m.d.sync += index.eq(Mux(at_end, 0, index + step))
            self.at_end.append(at_end)
            carry = carry & at_end
        self.last = carry
        """The last step of all is being taken."""
        self.first = ~Cat(*self.indices).any()


def delayed(m: Module, value: Value, cycles: int) -> Value:
    """`value` as it was so many cycles ago."""
    for _ in range(cycles):
        register = Signal.like(value)
        m.d.sync += register.eq(value)
        value = register
    return value


class Sequencer(wiring.Component):
    """Steps of the five stages. `latency_*` are the stages' latencies in cycles (select: 0 on a dense unit)."""

    def __init__(self, shape: UnitShape, latency_select: int, latency_compute: int, latency_requantise: int) -> None:
        self.shape = shape
        self.latency_select = latency_select
        self.latency_compute = latency_compute
        self.latency_requantise = latency_requantise
        s = shape
        most = max(s.features, s.rows, s.cols, s.chunks, s.chunk) + max(s.bus_bytes, s.rows)
        self._largest = most
        index, chunk = range(most + 1), range(s.chunks + 1)
        a_panel, w_panel = range(max(2, s.activation_panels)), range(max(2, s.weight_panels))
        super().__init__(
            {
                "commands": In(stream.Signature(command_layout(shape))),
                "chunks": In(chunk),
                "last_features": In(range(s.chunk + 1)),
                "load_valid": In(1),
                "load_ready": Out(1),
                "store_valid": Out(1),
                "store_ready": In(1),
                "load": Out(
                    data.StructLayout(
                        {
                            "codes": 1,
                            "scales": 1,
                            "weights": 1,  # else activations
                            "chunk": chunk,
                            "bank": index,
                            "block": index,
                            "byte": index,
                            "scale": index,
                            "weight_panel": w_panel,
                            "activation_panel": a_panel,
                        }
                    )
                ),
                "select": Out(
                    data.StructLayout({"active": 1, "chunk": chunk, "block": index, "panel": a_panel, "last_chunk": 1})
                ),
                "compute": Out(
                    data.StructLayout(
                        {
                            "active": 1,
                            "first": 1,
                            "last": 1,
                            "chunk": chunk,
                            "weight_panel": w_panel,
                            "activation_panel": a_panel,
                            "odd": 1,  # parity of the item
                        }
                    )
                ),
                "requantise": Out(
                    data.StructLayout(
                        {"active": 1, "first": 1, "column_end": 1, "last": 1, "row": index, "column": index, "odd": 1}
                    )
                ),
                "store": Out(data.StructLayout({"taken": 1, "last": 1, "odd": 1})),
                "store_last": In(1),
                "ended": Out(ENDED),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        self._ring = Array(Signal(command_layout(self.shape), name=f"command_{i}") for i in range(ITEMS))
        counters = ("accepted", "loaded", "selecting", "selected", "computing", "computed_sums")
        counters += ("requantising", "requantised_codes", "storing")
        self._count = {name: Signal(4, name=name) for name in counters}
        self._accept(m)
        loaded = self._bus(m)
        self._select(m, loaded)
        self._compute(m)
        self._requantise(m)
        return m

    def _command(self, item: Value):
        return self._ring[item[:3]]

    def _behind(self, first: str, second: str) -> Value:
        """By how many items `second` is behind `first`."""
        return (self._count[first] - self._count[second])[:4]

    def _accept(self, m: Module) -> None:
        m.d.comb += self.commands.ready.eq(self._behind("accepted", "storing") < ITEMS)
        with m.If(self.commands.valid & self.commands.ready):
            m.d.sync += self._command(self._count["accepted"]).eq(self.commands.payload)
            m.d.sync += self._count["accepted"].eq(self._count["accepted"] + 1)

    def _bus(self, m: Module) -> Value:
        """Loads and stores in turn. Returns the items that have been loaded, this cycle's empty loads included."""
        loaded, storing = self._count["loaded"], self._count["storing"]
        command, ahead, known = self._command(loaded), (loaded - storing)[:4], self._behind("accepted", "loaded")
        waiting_for_array = (loaded - self._count["computing"])[:4] > Mux(command.exclusive, 0, 1)
        store_busy, beat, done = Signal(), Signal(), Signal()
        may_load = (known != 0) & (ahead < 3) & ~store_busy & ~waiting_for_array
        empty = Signal()
        m.d.comb += empty.eq(may_load & ~command.load_weights & ~command.load_activations)
        m.d.comb += self.load_ready.eq(may_load & ~empty)
        m.d.comb += beat.eq(self.load_ready & self.load_valid)
        self._load_steps(m, command, beat, done)
        m.d.sync += loaded.eq(loaded + empty + done)

        store_turn = store_busy | ((ahead + empty)[:4] == 3) | (known == empty)
        stored = self.store_valid & self.store_ready
        m.d.comb += [
            self.store_valid.eq(store_turn & (self._behind("requantised_codes", "storing") != 0)),
            self.store.taken.eq(stored),
            self.store.last.eq(stored & self.store_last),
            self.store.odd.eq(storing[0]),
            self.ended.load.eq(done),
            self.ended.store.eq(self.store.last),
        ]
        m.d.sync += store_busy.eq(self.store_valid & ~self.store.last)
        m.d.sync += storing.eq(storing + self.store.last)
        return (loaded + empty)[:4]

    def _load_steps(self, m: Module, command, beat: Value, done: Signal) -> None:
        """Weights, their scales, activations, theirs: chunk by chunk, row (or column) by row."""
        s = self.shape
        weights, scales, started = Signal(), Signal(), Signal()
        turned = Signal()  # from weights to activations
        m.d.comb += weights.eq(Mux(started, ~turned, command.load_weights))
        units = Mux(weights, command.outputs, command.tokens)
        per_block = Mux(weights, command.outputs, Mux(command.tokens < s.bank_rows, command.tokens, s.bank_rows))
        chunk_bytes = Signal(range(s.chunk + s.bus_bytes + 1))
        codes = beat & ~scales
        walk = Walk(
            m,
            codes,
            (chunk_bytes, s.bus_bytes),
            (per_block, s.units_per_beat),
            (Mux(weights, 1, command.tokens), s.bank_rows),
            (self.chunks, 1),
            largest=self._largest,
        )
        byte, bank, block, chunk = walk.indices
        m.d.comb += chunk_bytes.eq(Mux(chunk + 1 == self.chunks, self.last_features, s.chunk))
        scaling = Walk(m, beat & scales, (units, s.scales_per_beat), largest=self._largest)
        with m.If(walk.last):
            m.d.sync += scales.eq(1)
        with m.If(scaling.last):
            m.d.sync += scales.eq(0)
        m.d.comb += done.eq(scaling.last & (~weights | ~command.load_activations))
        with m.If(beat):
            m.d.sync += [started.eq(~done), turned.eq(~weights)]
        with m.If(scaling.last & weights):
            m.d.sync += turned.eq(1)
        m.d.comb += [
            self.load.codes.eq(codes),
            self.load.scales.eq(beat & scales),
            self.load.weights.eq(weights),
            self.load.chunk.eq(chunk),
            self.load.bank.eq(bank),
            self.load.block.eq(block),
            self.load.byte.eq(byte),
            self.load.scale.eq(scaling.indices[0]),
            self.load.weight_panel.eq(command.weight_panel),
            self.load.activation_panel.eq(command.activation_panel),
        ]

    def _becomes_ready(self, m: Module, counter: str, ended: Value, passed: Value | int, latency: int) -> None:
        """Count an item `latency` cycles after its end; `passed` ones took no time and end where they start."""
        arriving = Signal(2)
        m.d.sync += arriving.eq(ended)
        arriving = delayed(m, (arriving + passed)[:2], latency - 1)
        m.d.sync += self._count[counter].eq(self._count[counter] + arriving)

    def _select(self, m: Module, loaded: Value) -> None:
        if self.shape.pattern is None:  # what is loaded is ready at once
            self._selected = loaded
            return
        selecting, command = self._count["selecting"], self._command(self._count["selecting"])
        waiting = Signal()
        m.d.comb += waiting.eq(((loaded - selecting)[:4] != 0) & ((selecting - self._count["computing"])[:4] <= 1))
        active, passed = waiting & command.load_activations, waiting & ~command.load_activations
        walk = Walk(m, active, (command.tokens, self.shape.bank_rows), (self.chunks, 1), largest=self._largest)
        block, chunk = walk.indices
        m.d.sync += selecting.eq(selecting + walk.last + passed)
        self._becomes_ready(m, "selected", walk.last, passed, self.latency_select)
        self._selected = self._count["selected"]
        m.d.comb += [
            self.select.active.eq(active),
            self.select.chunk.eq(chunk),
            self.select.block.eq(block),
            self.select.panel.eq(command.activation_panel),
            self.select.last_chunk.eq(chunk + 1 == self.chunks),
            self.ended.select.eq(walk.last),
        ]

    def _compute(self, m: Module) -> None:
        computing, command = self._count["computing"], self._command(self._count["computing"])
        active = Signal()
        m.d.comb += active.eq(
            ((self._selected - computing)[:4] != 0) & ((computing - self._count["requantising"])[:4] <= 1)
        )
        walk = Walk(m, active, (self.chunks, 1), largest=self._largest)
        m.d.sync += computing.eq(computing + walk.last)
        self._becomes_ready(m, "computed_sums", walk.last, 0, self.latency_compute)
        m.d.comb += [
            self.compute.active.eq(active),
            self.compute.first.eq(walk.first),
            self.compute.last.eq(walk.last),
            self.compute.chunk.eq(walk.indices[0]),
            self.compute.weight_panel.eq(command.weight_panel),
            self.compute.activation_panel.eq(command.activation_panel),
            self.compute.odd.eq(computing[0]),
            self.ended.compute.eq(walk.last),
        ]

    def _requantise(self, m: Module) -> None:
        requantising = self._count["requantising"]
        command = self._command(requantising)
        active = Signal()
        m.d.comb += active.eq(
            (self._behind("computed_sums", "requantising") != 0) & (self._behind("requantising", "storing") <= 1)
        )
        loops = ((command.tokens, self.shape.requantisers), (command.outputs, 1))
        walk = Walk(m, active, *loops, largest=self._largest)
        m.d.sync += requantising.eq(requantising + walk.last)
        self._becomes_ready(m, "requantised_codes", walk.last, 0, self.latency_requantise)
        row, column = walk.indices
        m.d.comb += [
            self.requantise.active.eq(active),
            self.requantise.first.eq(walk.first),
            self.requantise.column_end.eq(walk.at_end[0]),
            self.requantise.last.eq(walk.last),
            self.requantise.row.eq(row),
            self.requantise.column.eq(column),
            self.requantise.odd.eq(requantising[0]),
            self.ended.requantise.eq(walk.last),
        ]
