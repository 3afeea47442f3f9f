"""Front ends of arrays that do more than fill a fixed number of slots: `elastic` skipping and two-level selection.

`ElasticFrontEnd` hands the non-zeros of kept values to the slices of one row (time-unrolled blocks as in S2TA, HPCA
2022); `HierarchicalSelector` keeps N1 of M1 inner groups that each keep N0 of M0 (HighLight, MICRO 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Encoding, HierarchicalPattern, Pattern
from accel_sim.rtl.bits import and_or_select, any_of, index_bits
from accel_sim.rtl.compaction import Compaction
from accel_sim.rtl.metadata import MetadataDecoder
from accel_sim.rtl.metadata_port import MetadataPortComponent
from accel_sim.rtl.operand_select import one_level
from accel_sim.rtl.pipeline import Cuts, delayed
from accel_sim.rtl.scores import Magnitudes, score_bits
from accel_sim.rtl.selector import operand_ports, operands
from accel_sim.rtl.top_n import TopN, TopNKind


class ElasticSlice(MetadataPortComponent):
    """One slice: holds a group and hands out its non-zeros, lowest first, up to `picks` a cycle.

    kept[N × s8], metadata[bits], load → values[picks × s8], positions[picks × ceil(log2 M)], active[picks], free.
    A group loaded in one cycle is handed out from the next one on, in max(1, ceil(z / picks)) cycles, z its non-zeros.
    `free` says that a group may be loaded at the end of this cycle: the last of those cycles, or none is held. Values
    and positions that are not `active` are 0. With N = M slot i is position i, and there is no metadata.
    """

    def __init__(self, pattern: Pattern, elastic_lanes: int, metadata: Encoding) -> None:
        self.pattern, self.elastic_lanes, self.encoding = one_level(pattern), elastic_lanes, metadata
        if elastic_lanes < 1:
            raise AccelSimError(f"elastic_lanes: got {elastic_lanes}, expected at least 1 lane a slice")
        self.picks = min(elastic_lanes, pattern.n)
        super().__init__(
            {
                "kept": In(data.ArrayLayout(signed(8), pattern.n)),
                "metadata": In(group_metadata_bits(pattern, metadata)),
                "load": In(1),
                "values": Out(data.ArrayLayout(signed(8), self.picks)),
                "positions": Out(data.ArrayLayout(unsigned(index_bits(pattern.m)), self.picks)),
                "active": Out(self.picks),
                "free": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        n = self.pattern.n
        positions = self._positions(m)
        held = [Signal(8 + index_bits(self.pattern.m), name=f"held_{slot}") for slot in range(n)]
        pending = Signal(n)
        """Slots whose non-zero has not been handed out."""
        lines = _lowest(m, pending, self.picks)
        for lane, lane_lines in enumerate(lines):
            word = and_or_select(lane_lines, held)
            m.d.comb += [
                self.values[lane].eq(word[:8].as_signed()),
                self.positions[lane].eq(word[8:]),
                self.active[lane].eq(any_of(lane_lines)),
            ]
        left = pending & ~Cat(any_of([of_lane[slot] for of_lane in lines]) for slot in range(n))
        m.d.comb += self.free.eq(left == 0)
        m.d.sync += pending.eq(left)
        with m.If(self.load):
            m.d.sync += pending.eq(Cat(value.any() for value in self.kept))
            m.d.sync += [word.eq(Cat(self.kept[slot], positions[slot])) for slot, word in enumerate(held)]
        return m

    def _positions(self, m: Module) -> list[Value]:
        width = index_bits(self.pattern.m)
        if self.pattern.keeps_all:
            return [C(slot, width) for slot in range(self.pattern.n)]
        m.submodules.decoder = decoder = MetadataDecoder(self.pattern, self.encoding, "full")
        m.d.comb += decoder.metadata.eq(self.metadata)
        return list(decoder.lines)


def group_metadata_bits(pattern: Pattern, metadata: Encoding) -> int:
    """Bits of metadata of a group, 0 where it keeps all. Raises AccelSimError for another encoding."""
    bits = pattern.metadata_bits(metadata)
    return 0 if pattern.keeps_all else bits


def _lowest(m: Module, pending: Value, picks: int) -> list[list[Value]]:
    """One-hot lines [picks][N]: lane k takes the (k+1)-th lowest slot that is pending."""
    lines: list[list[Value]] = [[] for _ in range(picks)]
    at_least: list[Value] = [C(1, 1)] + [C(0, 1)] * picks
    """Index k: whether at least k slots below the current one are pending."""
    for slot, is_pending in enumerate(pending):
        for lane in range(picks):
            line = Signal(name=f"lane_{lane}_takes_{slot}")
            m.d.comb += line.eq(is_pending & at_least[lane] & ~at_least[lane + 1])
            lines[lane].append(line)
        following = [Signal(name=f"at_least_{k}_below_{slot + 1}") for k in range(1, picks + 1)]
        m.d.comb += [
            signal.eq(at_least[k] | at_least[k - 1] & is_pending) for k, signal in enumerate(following, start=1)
        ]
        at_least = [C(1, 1), *following]
    return lines


class ElasticFrontEnd(MetadataPortComponent):
    """Deals the groups of one row to its slices and keeps them in step, window by window.

    The groups of a window of up to `sync_window` are dealt to S = lanes / elastic_lanes slices round-robin, from slice
    0 in every window: slice s takes groups s, s+S, … of the window, in this order, over a valid/ready handshake of its
    own (kept[S·N × s8], metadata[S × bits], valid[S] → ready[S]), the next one in the last cycle of the one before.
    Then come values[S·P × s8], positions[S·P × ceil(log2 M)], active[S·P], P = min(elastic_lanes, N), and
    groups[S × bits], which of its groups of the window each slice is at: what steers multiplexers over the window's
    weights and over a group's. Fields of a slice that is not `active` are undefined, but values are then 0.

    `done` says that this is the last cycle of the row's window, or that it has none. With `release`, which may be given
    only where every row is done, the next window begins, of `window_groups` groups, and the slices take their first
    groups of it at once, so that no cycle is lost between windows. A window takes the largest, of all rows and slices,
    of the sum of max(1, ceil(z / elastic_lanes)) over a slice's groups, z a group's non-zeros.

    Raises AccelSimError for a pattern of two levels, counts below 1, lanes that are no multiple of `elastic_lanes`, and
    another metadata encoding.
    """

    def __init__(
        self, pattern: Pattern, lanes: int, elastic_lanes: int, sync_window: int, metadata: Encoding = "bitmap"
    ) -> None:
        self.pattern, self.lanes, self.encoding = one_level(pattern), lanes, metadata
        self.elastic_lanes, self.sync_window = elastic_lanes, sync_window
        if lanes < 1 or elastic_lanes < 1 or sync_window < 1 or lanes % elastic_lanes:
            raise AccelSimError(
                f"lanes {lanes}, elastic_lanes {elastic_lanes}, sync_window {sync_window}: expected at least 1 of "
                "each, and lanes a multiple of elastic_lanes"
            )
        self.slices, self.picks = lanes // elastic_lanes, min(elastic_lanes, pattern.n)
        self.dealt = -(-sync_window // self.slices)
        count = self.slices * self.picks
        super().__init__(
            {
                "kept": In(data.ArrayLayout(signed(8), self.slices * pattern.n)),
                "metadata": In(data.ArrayLayout(unsigned(group_metadata_bits(pattern, metadata)), self.slices)),
                "valid": In(self.slices),
                "ready": Out(self.slices),
                "release": In(1),
                "window_groups": In(range(sync_window + 1)),
                "done": Out(1),
                "values": Out(data.ArrayLayout(signed(8), count)),
                "positions": Out(data.ArrayLayout(unsigned(index_bits(pattern.m)), count)),
                "active": Out(count),
                "groups": Out(data.ArrayLayout(unsigned(index_bits(self.dealt)), self.slices)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        window_groups = Signal.like(self.window_groups, name="window_groups_register")
        with m.If(self.release):
            m.d.sync += window_groups.eq(self.window_groups)
        finished = [self._slice(m, number, window_groups) for number in range(self.slices)]
        m.d.comb += self.done.eq(Cat(*finished).all())
        return m

    def _slice(self, m: Module, number: int, window_groups: Value) -> Value:
        """One slice and how many groups of the window it has taken; returns whether it needs no further cycle."""
        m.submodules[f"slice_{number}"] = part = ElasticSlice(self.pattern, self.elastic_lanes, self.encoding)
        taken = Signal(range(self.dealt + 1), name=f"taken_{number}")
        of_group, of_slot = number * self.pattern.n, number * self.picks
        m.d.comb += [part.kept[slot].eq(self.kept[of_group + slot]) for slot in range(self.pattern.n)]
        for pick in range(self.picks):
            m.d.comb += [
                self.values[of_slot + pick].eq(part.values[pick]),
                self.positions[of_slot + pick].eq(part.positions[pick]),
                self.active[of_slot + pick].eq(part.active[pick]),
            ]
        left = number + self.slices * taken < window_groups
        wanted = Mux(self.release, number < self.window_groups, left)
        m.d.comb += [
            part.metadata.eq(self.metadata[number]),
            self.ready[number].eq(part.free & wanted),
            part.load.eq(self.ready[number] & self.valid[number]),
            self.groups[number].eq(taken - 1),
        ]
        m.d.sync += taken.eq(Mux(self.release, 0, taken) + part.load)
        return part.free & ~left


@dataclass(frozen=True)
class _InnerGroup:
    word: Value
    """Kept values, and their metadata above them."""
    bitmap: Value
    strength: Value
    """The sum of kept scores."""


class HierarchicalSelector(MetadataPortComponent):
    """values[M1·M0 × s8] (with `channel_factors` also factors) → kept[N1·N0 × s8], metadata[bits], bitmap[M1·M0].

    Every inner group of M0 keeps its N0 highest scores, then the N1 inner groups with the largest sum of kept scores
    stay; ties go to the lower feature and to the lower inner group. Metadata are the outer level's field, then those of
    the inner groups that stay. Padding is as of `Selector`, through all M1·M0 elements; an inner group of nothing else
    is never preferred to a real one either, as its sum is 0 and it comes behind. Pipelined, registers stand behind the
    products of factors, the inner top-N circuits, the inner compactions, the sums, the outer top-N circuit and the
    outer compaction.

    Raises AccelSimError unless the pattern has two levels, and for another kind or metadata encoding.
    """

    def __init__(
        self,
        pattern: HierarchicalPattern,
        kind: TopNKind = "rank",
        metadata: Encoding = "bitmap",
        channel_factors: bool = False,
        pipelined: bool = False,
        masked_padding: bool = True,
    ) -> None:
        if not isinstance(pattern, HierarchicalPattern):
            raise AccelSimError(f"pattern {pattern}: expected one of two levels, such as 1:2 of 4:8")
        self.pattern, self.kind, self.encoding = pattern, kind, metadata
        self.channel_factors, self.pipelined, self.masked_padding = channel_factors, pipelined, masked_padding
        self._score_bits = score_bits(channel_factors)
        self._sum_bits = self._score_bits + index_bits(pattern.inner.n)
        self._inner = [TopN(pattern.inner, kind, self._score_bits, pipelined) for _ in range(pattern.outer.m)]
        self._outer = TopN(pattern.outer, kind, self._sum_bits, pipelined)
        stages = channel_factors + self._inner[0].latency + 1 + 1 + self._outer.latency + 1
        self.latency = stages if pipelined else 0
        super().__init__(
            {
                **operand_ports(pattern.m, channel_factors, masked_padding),
                "kept": Out(data.ArrayLayout(signed(8), pattern.n)),
                "metadata": Out(pattern.metadata_bits(metadata)),
                "bitmap": Out(pattern.m),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cuts = Cuts(m, self.pipelined)
        values, scores = operands(m, self)
        groups = [self._inner_group(m, cuts, number, values, scores) for number in range(self.pattern.outer.m)]
        wait = 1 + self._outer.latency if self.pipelined else 0
        m.submodules.outer = self._outer
        m.submodules.compaction = compaction = Compaction(self.pattern.outer, self.encoding, len(groups[0].word))
        for number, group in enumerate(groups):
            m.d.comb += [
                self._outer.scores[number].eq(cuts.cut(group.strength, f"strength_{number}")),
                compaction.words[number].eq(delayed(m, group.word, wait, f"inner_word_{number}")),
            ]
        m.d.comb += compaction.bitmap.eq(self._outer.bitmap)
        bitmap = Cat(
            delayed(m, group.bitmap, wait, f"inner_bitmap_{number}") & stays.replicate(self.pattern.inner.m)
            for number, (group, stays) in enumerate(zip(groups, self._outer.bitmap, strict=True))
        )
        values = 8 * self.pattern.inner.n
        kept = Cat(word[:values] for word in compaction.kept)
        metadata = Cat(compaction.metadata, *(word[values:] for word in compaction.kept))
        m.d.comb += [
            self.kept.eq(cuts.cut(kept, "kept_register")),
            self.metadata.eq(cuts.cut(metadata, "metadata_register")),
            self.bitmap.eq(cuts.cut(bitmap, "bitmap_register")),
        ]
        return m

    def _inner_group(self, m: Module, cuts: Cuts, number: int, values: list[Value], scores: list[Value]) -> _InnerGroup:
        """What inner group `number` keeps, and how strong that is."""
        inner = self.pattern.inner
        elements = range(number * inner.m, (number + 1) * inner.m)
        m.submodules[f"inner_{number}"] = top_n = self._inner[number]
        m.d.comb += top_n.scores.eq(Cat(scores[element] for element in elements))
        # A product is compacted with its value, as its factor is not at hand later; a magnitude is found again.
        carried = self._score_bits if self.channel_factors else 0
        m.submodules[f"inner_compaction_{number}"] = compaction = Compaction(inner, self.encoding, 8 + carried)
        until_product = int(self.pipelined and self.channel_factors)
        for place, element in enumerate(elements):
            value = delayed(m, values[element], until_product, f"value_{element}")
            word = Cat(value, scores[element][:carried])
            m.d.comb += compaction.words[place].eq(delayed(m, word, top_n.latency, f"word_{element}"))
        m.d.comb += compaction.bitmap.eq(top_n.bitmap)
        kept = cuts.cut(compaction.kept, f"inner_kept_{number}")
        metadata = cuts.cut(compaction.metadata, f"inner_metadata_{number}")
        bitmap = cuts.cut(top_n.bitmap, f"inner_bitmap_{number}")
        word = Cat(Cat(word[:8] for word in kept), metadata)
        return _InnerGroup(word, bitmap, self._sum(m, number, kept)[: self._sum_bits])

    def _sum(self, m: Module, number: int, kept: data.View) -> Value:
        """The sum of the kept scores of an inner group."""
        if self.channel_factors:
            return sum(word[8:] for word in kept)
        m.submodules[f"inner_magnitudes_{number}"] = magnitudes = Magnitudes(self.pattern.inner.n)
        m.d.comb += magnitudes.values.eq(kept)
        return sum(score[: self._score_bits] for score in magnitudes.scores)
