"""Compaction: from a group and the bitmap of what is kept to N slots in ascending feature order, and their metadata."""

from __future__ import annotations

from amaranth.hdl import Module, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from accel_sim.pattern import Encoding, Pattern
from accel_sim.rtl.metadata import BitmapToOneHot, MetadataEncoder
from accel_sim.rtl.metadata_port import MetadataPortComponent
from accel_sim.rtl.operand_select import OperandSelect, one_level


class Compaction(MetadataPortComponent):
    """words[M × signed bits], bitmap[M] with N ones → kept[N × signed bits], metadata[bits]; combinational.

    The operand multiplexer of a lane serves here too: slot i holds one of the words i … i+M−N. Raises AccelSimError for
    a pattern of two levels, another metadata encoding, and words of less than 1 bit.
    """

    latency = 0

    def __init__(self, pattern: Pattern, metadata: Encoding, bits: int = 8) -> None:
        self.pattern, self.encoding, self.bits = one_level(pattern), metadata, bits
        super().__init__(
            {
                "words": In(data.ArrayLayout(signed(bits), pattern.m)),
                "bitmap": In(pattern.m),
                "kept": Out(data.ArrayLayout(signed(bits), pattern.n)),
                "metadata": Out(pattern.metadata_bits(metadata)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.decoder = decoder = BitmapToOneHot(self.pattern)
        m.submodules.select = select = OperandSelect(self.pattern, "onehot", self.bits)
        m.submodules.encoder = encoder = MetadataEncoder(self.pattern, self.encoding)
        m.d.comb += [
            decoder.bitmap.eq(self.bitmap),
            encoder.bitmap.eq(self.bitmap),
            select.lines.eq(decoder.lines),
            select.window.eq(self.words),
            self.kept.eq(select.selected),
            self.metadata.eq(encoder.metadata),
        ]
        return m
