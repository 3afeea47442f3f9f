"""Metadata decoders and encoders: the bit semantics of `accel_sim.encoding`, one group at a time, combinational.

Everything that starts from a bitmap counts the kept positions below each one (`BitmapToOneHot`). Metadata that is no
code word of the pattern decodes to undefined lines.
"""

from __future__ import annotations

from math import comb

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel_sim.pattern import Encoding, Pattern
from accel_sim.rtl.bits import and_or_select, any_of, index_bits
from accel_sim.rtl.metadata_port import MetadataPortComponent
from accel_sim.rtl.operand_select import OperandMux, lines_layout, lines_per_slot, one_level, reach


def index_layout(pattern: Pattern) -> data.ArrayLayout:
    """N positions of ceil(log2 M) bits, slot 0 lowest: `index` metadata, and the select lines of `full`."""
    return data.ArrayLayout(unsigned(index_bits(pattern.m)), pattern.n)


class BitmapToOneHot(wiring.Component):
    """bitmap[M] → lines[N × (M−N+1)]: line d of slot i says that the slot holds position i+d.

    Position p belongs to slot i where it is kept and exactly i positions below it are. In a code word those are at most
    p and N−1, and at least p−(M−N), so the count is kept and compared in as few bits as tell these apart; and where
    only one slot is possible, being kept is enough.
    """

    latency = 0

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = one_level(pattern)
        super().__init__({"bitmap": In(pattern.m), "lines": Out(lines_layout(pattern, "onehot"))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        n, others = self.pattern.n, self.pattern.m - self.pattern.n
        widest = index_bits(min(n, others + 1))
        below: Value = C(0, 0)
        for position in range(self.pattern.m):
            kept = self.bitmap[position]
            possible = range(max(0, position - others), min(position, n - 1) + 1)
            width = index_bits(len(possible))
            for slot in possible:
                line = kept & (below[:width] == slot % 2**width) if width else kept
                m.d.comb += self.lines[slot][position - slot].eq(line)
            counted = Signal(min(widest, (position + 1).bit_length()), name=f"kept_below_{position + 1}")
            m.d.comb += counted.eq(below + kept)
            below = counted
        return m


class BitmapToOffset(wiring.Component):
    """bitmap[M] → lines[N × ceil(log2(M−N+1))]: how far above its lowest possible position each slot's position is."""

    latency = 0

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = one_level(pattern)
        super().__init__({"bitmap": In(pattern.m), "lines": Out(lines_layout(pattern, "restricted"))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.one_hot = one_hot = BitmapToOneHot(self.pattern)
        m.d.comb += one_hot.bitmap.eq(self.bitmap)
        for slot in range(self.pattern.n):
            m.d.comb += self.lines[slot].eq(_encoded(list(one_hot.lines[slot]), first=0, width=len(self.lines[slot])))
        return m


class BitmapToIndex(wiring.Component):
    """bitmap[M] → lines[N × ceil(log2 M)]: the position of each slot."""

    latency = 0

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = one_level(pattern)
        super().__init__({"bitmap": In(pattern.m), "lines": Out(index_layout(pattern))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.one_hot = one_hot = BitmapToOneHot(self.pattern)
        m.d.comb += one_hot.bitmap.eq(self.bitmap)
        for slot in range(self.pattern.n):
            position = _encoded(list(one_hot.lines[slot]), first=slot, width=len(self.lines[slot]))
            m.d.comb += self.lines[slot].eq(position)
        return m


def _encoded(lines: list[Value], first: int, width: int) -> Value:
    """The number `first` + (which line is hot), each bit the OR of the lines whose number has it."""
    numbers = range(first, first + len(lines))
    return Cat(
        any_of([line for number, line in zip(numbers, lines, strict=True) if number >> bit & 1]) for bit in range(width)
    )


class IndexToOneHot(wiring.Component):
    """index[N × ceil(log2 M)] → lines[N × (M−N+1)].

    The positions of a window differ in their low ceil(log2(M−N+1)) bits, so no others are looked at.
    """

    latency = 0

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = one_level(pattern)
        super().__init__({"index": In(index_layout(pattern)), "lines": Out(lines_layout(pattern, "onehot"))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        low = lines_per_slot(self.pattern, "restricted")
        for slot in range(self.pattern.n):
            for offset in range(reach(self.pattern)):
                position = (slot + offset) % 2**low
                m.d.comb += self.lines[slot][offset].eq(self.index[slot][:low] == position)
        return m


class IndexToOffset(wiring.Component):
    """index[N × ceil(log2 M)] → lines[N × ceil(log2(M−N+1))]: the position less the slot's number."""

    latency = 0

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = one_level(pattern)
        super().__init__({"index": In(index_layout(pattern)), "lines": Out(lines_layout(pattern, "restricted"))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        low = lines_per_slot(self.pattern, "restricted")
        for slot in range(self.pattern.n):
            m.d.comb += self.lines[slot].eq(self.index[slot][:low] - slot)  # modulo 2^low: an offset is below that
        return m


class BitmapToEnumerative(wiring.Component):
    """bitmap[M] → code[ceil(log2 C(M, N))] = Σ C(p_i, i+1) over ascending positions: a constant a slot, and a sum."""

    latency = 0

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = one_level(pattern)
        super().__init__({"bitmap": In(pattern.m), "code": Out(pattern.metadata_bits("enumerative"))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.one_hot = one_hot = BitmapToOneHot(self.pattern)
        m.d.comb += one_hot.bitmap.eq(self.bitmap)
        addends = []
        for slot in range(self.pattern.n):
            ranks = [comb(slot + offset, slot + 1) for offset in range(reach(self.pattern))]
            words = [C(rank, max(ranks).bit_length()) for rank in ranks]
            addends.append((and_or_select(list(one_hot.lines[slot]), words), max(ranks)))
        while len(addends) > 1:
            sums = [_sum(m, *pair) for pair in zip(addends[::2], addends[1::2], strict=False)]
            addends = sums + addends[len(sums) * 2 :]
        m.d.comb += self.code.eq(addends[0][0])
        return m


def _sum(m: Module, one: tuple[Value, int], other: tuple[Value, int]) -> tuple[Value, int]:
    """The sum of two numbers and its largest value, from numbers with their largest values."""
    largest = one[1] + other[1]
    total = Signal(largest.bit_length(), name="partial_rank")
    m.d.comb += total.eq(one[0] + other[0])
    return total, largest


class EnumerativeToBitmap(wiring.Component):
    """code[ceil(log2 C(M, N))] → bitmap[M]: from the highest position down, subtract where it goes.

    With k slots left to place, position p is the highest of them where C(p, k) ≤ what is left of the code.
    """

    latency = 0

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = one_level(pattern)
        super().__init__({"code": In(pattern.metadata_bits("enumerative")), "bitmap": Out(pattern.m)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        left: Value = self.code
        to_place: dict[int, Value] = {self.pattern.n: C(1, 1)}
        for position in reversed(range(self.pattern.m)):
            kept = self.bitmap[position]
            ranks = [comb(position, slots) for slots in to_place]
            rank = and_or_select(list(to_place.values()), [C(rank, max(ranks).bit_length()) for rank in ranks])
            difference = Signal(max(len(left), len(rank)) + 1, name=f"difference_{position}")
            m.d.comb += [difference.eq(left - rank), kept.eq(~difference[-1])]
            to_place = self._place(m, position, to_place)
            largest = max(comb(position, slots) for slots in to_place) - 1
            below = Signal(largest.bit_length(), name=f"left_below_{position}")
            m.d.comb += below.eq(Mux(kept, difference, left))
            left = below
        return m

    def _place(self, m: Module, position: int, to_place: dict[int, Value]) -> dict[int, Value]:
        """For each number of slots that may be left to place below `position` whether it is that one."""
        kept = self.bitmap[position]
        following: dict[int, list[Value]] = {}
        for slots, exactly in to_place.items():
            if slots > 0:
                following.setdefault(slots - 1, []).append(exactly & kept)
            if slots <= position:
                following.setdefault(slots, []).append(exactly & ~kept)
        below = {slots: Signal(name=f"to_place_below_{position}_is_{slots}") for slots in following}
        m.d.comb += [below[slots].eq(any_of(ways)) for slots, ways in following.items()]
        return below


class MetadataDecoder(MetadataPortComponent):
    """metadata[bits] → lines[N × lines_per_slot]: what steers a group's `OperandSelect`.

    Raises AccelSimError for a pattern of two levels, and another metadata encoding or operand multiplexer.
    """

    latency = 0

    def __init__(self, pattern: Pattern, metadata: Encoding, operand_mux: OperandMux) -> None:
        self.pattern, self.encoding, self.operand_mux = one_level(pattern), metadata, operand_mux
        super().__init__(
            {"metadata": In(pattern.metadata_bits(metadata)), "lines": Out(lines_layout(pattern, operand_mux))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.encoding == "index":
            self._from_index(m)
            return m
        bitmap = self.metadata
        if self.encoding == "enumerative":
            m.submodules.to_bitmap = to_bitmap = EnumerativeToBitmap(self.pattern)
            m.d.comb += to_bitmap.code.eq(self.metadata)
            bitmap = to_bitmap.bitmap
        parts = {"onehot": BitmapToOneHot, "restricted": BitmapToOffset, "full": BitmapToIndex}
        m.submodules.to_lines = to_lines = parts[self.operand_mux](self.pattern)
        m.d.comb += [to_lines.bitmap.eq(bitmap), self.lines.eq(to_lines.lines)]
        return m

    def _from_index(self, m: Module) -> None:
        if self.operand_mux == "full":
            m.d.comb += self.lines.eq(self.metadata)
            return
        parts = {"onehot": IndexToOneHot, "restricted": IndexToOffset}
        m.submodules.to_lines = to_lines = parts[self.operand_mux](self.pattern)
        m.d.comb += [to_lines.index.eq(self.metadata), self.lines.eq(to_lines.lines)]


class MetadataEncoder(MetadataPortComponent):
    """bitmap[M] → metadata[bits].

    Raises AccelSimError for a pattern of two levels and another metadata encoding.
    """

    latency = 0

    def __init__(self, pattern: Pattern, metadata: Encoding) -> None:
        self.pattern, self.encoding = one_level(pattern), metadata
        super().__init__({"bitmap": In(pattern.m), "metadata": Out(pattern.metadata_bits(metadata))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.encoding == "bitmap":
            m.d.comb += self.metadata.eq(self.bitmap)
        elif self.encoding == "index":
            m.submodules.to_index = to_index = BitmapToIndex(self.pattern)
            m.d.comb += [to_index.bitmap.eq(self.bitmap), self.metadata.eq(to_index.lines)]
        else:
            m.submodules.to_code = to_code = BitmapToEnumerative(self.pattern)
            m.d.comb += [to_code.bitmap.eq(self.bitmap), self.metadata.eq(to_code.code)]
        return m
