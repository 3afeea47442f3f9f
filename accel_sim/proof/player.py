"""A unit with everything that it is fed in memories beside it, so that any simulator runs it open loop."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from accel_sim.rtl.unit import Unit


class Player(wiring.Component):
    """Offers the commands and the beats of one job to a unit, and takes whatever it gives.

    `stall` holds the load stream back for a cycle, `hold` the store stream. `stored` says that `codes` leave the unit.
    """

    def __init__(self, unit: Unit, commands: list[dict[str, int]], beats: list[int]) -> None:
        self.unit = unit
        self.commands = commands
        self.beats = beats
        super().__init__(
            {
                "stall": In(1),
                "hold": In(1),
                "mode": In(unit.mode.shape()),
                "chunks": In(unit.chunks.shape()),
                "last_features": In(unit.last_features.shape()),
                "stored": Out(1),
                "codes": Out(unit.store.payload.shape()),
                "ended": Out(unit.ended.shape()),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.unit = unit = self.unit
        layout = unit.commands.payload.shape()
        words = [layout.const(command).as_value().value for command in self.commands]
        self._offer(m, "commands", unit.commands, words, 0)
        self._offer(m, "beats", unit.load, self.beats, self.stall)
        m.d.comb += [
            unit.mode.eq(self.mode),
            unit.chunks.eq(self.chunks),
            unit.last_features.eq(self.last_features),
            unit.store.ready.eq(~self.hold),
            self.stored.eq(unit.store.valid & ~self.hold),
            self.codes.as_value().eq(Mux(self.stored, unit.store.payload.as_value(), 0)),
            self.ended.eq(unit.ended),
        ]
        return m

    @staticmethod
    def _offer(m: Module, name: str, port: stream.Interface, words: list[int], stall) -> None:
        """Play `words` into a stream, one a cycle in which it is ready and not stalled."""
        width = data.Layout.cast(port.payload.shape()).size
        m.submodules[name] = memory = Memory(shape=width, depth=len(words) + 1, init=words)
        read = memory.read_port(domain="comb")
        position = Signal(range(len(words) + 1))
        m.d.comb += [
            read.addr.eq(position),
            port.payload.as_value().eq(read.data),
            port.valid.eq((position != len(words)) & ~stall),
        ]
        with m.If(port.valid & port.ready):
            m.d.sync += position.eq(position + 1)
