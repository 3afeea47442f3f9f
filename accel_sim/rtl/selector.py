"""Complete selectors: scores, top N, metadata and compaction of one group a cycle.

Stages, each ending in registers where `pipelined`: the products of factors, if there are any; those of the top-N
circuit, the first of which begins with the magnitudes; decoder, compaction and metadata encoder.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Encoding, Pattern
from accel_sim.rtl import top_n_rank
from accel_sim.rtl.bits import PopulationCount, any_of
from accel_sim.rtl.compaction import Compaction
from accel_sim.rtl.metadata_port import MetadataPortComponent
from accel_sim.rtl.operand_select import one_level
from accel_sim.rtl.pipeline import Cuts, delayed
from accel_sim.rtl.scores import GroupScores, operand_ports
from accel_sim.rtl.top_n import TopN, TopNKind


class Selector(MetadataPortComponent):
    """values[M × s8] (with `channel_factors` also factors[M × u8]) → kept[N × s8], metadata[bits], bitmap[M].

    Of the group, the first `valid_count` elements (all, if that is left alone) are real, and the rest is padding, whose
    values must be 0: it is never preferred to a real element, and the lowest of it fills the slots that are left.
    Kept values stay in ascending feature order; the score is |value|, or |value|·factor, and ties go to the lower
    feature. Codes are −127 … 127. `latency` cycles where `pipelined`, else combinational; a group a cycle in any case.

    Raises AccelSimError for a pattern of two levels, another kind, and another metadata encoding.
    """

    def __init__(
        self,
        pattern: Pattern,
        kind: TopNKind = "rank",
        metadata: Encoding = "bitmap",
        channel_factors: bool = False,
        pipelined: bool = False,
    ) -> None:
        self.pattern, self.kind, self.encoding = one_level(pattern), kind, metadata
        self.channel_factors, self.pipelined = channel_factors, pipelined
        self._scores = GroupScores(pattern.m, channel_factors)
        self._top_n = TopN(pattern, kind, self._scores.score_bits, pipelined)
        self.latency = self._top_n.latency + channel_factors + 1 if pipelined else 0
        super().__init__(
            {
                **operand_ports(pattern.m, channel_factors),
                "kept": Out(data.ArrayLayout(signed(8), pattern.n)),
                "metadata": Out(pattern.metadata_bits(metadata)),
                "bitmap": Out(pattern.m),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.top_n = self._top_n
        m.submodules.compaction = compaction = Compaction(self.pattern, self.encoding)
        scores = scored(m, self, self._scores)
        cuts = Cuts(m, self.pipelined)
        m.d.comb += [
            self._top_n.scores.eq(scores),
            compaction.bitmap.eq(self._top_n.bitmap),
            compaction.words.eq(delayed(m, self.values, max(0, self.latency - 1), "values")),
            self.kept.eq(cuts.cut(compaction.kept, "kept_register")),
            self.metadata.eq(cuts.cut(compaction.metadata, "metadata_register")),
            self.bitmap.eq(cuts.cut(self._top_n.bitmap, "bitmap_register")),
        ]
        return m


def scored(m: Module, selector: wiring.Component, scores: GroupScores) -> data.View:
    """The scores of a selector's operands, behind a register where they are products and the selector is pipelined."""
    m.submodules.scores = scores
    m.d.comb += [scores.values.eq(selector.values), scores.valid_count.eq(selector.valid_count)]
    if not scores.channel_factors:
        return scores.scores
    m.d.comb += scores.factors.eq(selector.factors)
    return Cuts(m, selector.pipelined).cut(scores.scores, "score_register")


class FlexibleSelector(wiring.Component):
    """One selector for patterns of one density, switched by `mode`: an index into `patterns`.

    mode, values[M × s8] (factors[M × u8]), valid_count → kept[N × s8], bitmap[M], for N:M the pattern with the largest
    M. The window of M features holds as many groups of the mode's pattern as fit: `bitmap` is their bitmaps side by
    side, lowest features first, and `kept` their slots in the same order, so together they are a group of N:M to
    whatever comes behind. All comparisons of the largest pattern are there; a mode counts those within its groups.
    `valid_count` counts through the whole window. The kind is `rank`; timing as of `Selector`.

    Raises AccelSimError unless there are at least two patterns of one level and one density, N < M, no two the same,
    each M dividing the largest.
    """

    def __init__(self, patterns: Sequence[Pattern], channel_factors: bool = False, pipelined: bool = False) -> None:
        self.patterns = _one_density(patterns)
        self.pattern = max(self.patterns, key=lambda pattern: pattern.m)
        self.channel_factors, self.pipelined = channel_factors, pipelined
        self._scores = GroupScores(self.pattern.m, channel_factors)
        counted = top_n_rank.latency(self.pattern, self._scores.score_bits)
        self.latency = counted + channel_factors + 1 if pipelined else 0
        super().__init__(
            {
                "mode": In(range(len(self.patterns))),
                **operand_ports(self.pattern.m, channel_factors),
                "kept": Out(data.ArrayLayout(signed(8), self.pattern.n)),
                "bitmap": Out(self.pattern.m),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cuts = Cuts(m, self.pipelined)
        mode = delayed(m, self.mode, self.latency - 2 if self.pipelined else 0, "mode")  # it steers the counts
        lower_wins = top_n_rank.compared_pairs(m, list(scored(m, self, self._scores)), cuts)
        bitmap = cuts.cut(Cat(self._kept(m, own, lower_wins, mode) for own in range(self.pattern.m)), "kept_by_rank")
        m.submodules.compaction = compaction = Compaction(self.pattern, "bitmap")
        m.d.comb += [
            compaction.bitmap.eq(bitmap),
            compaction.words.eq(delayed(m, self.values, max(0, self.latency - 1), "values")),
            self.kept.eq(cuts.cut(compaction.kept, "kept_register")),
            self.bitmap.eq(cuts.cut(bitmap, "bitmap_register")),
        ]
        return m

    def _kept(self, m: Module, own: int, lower_wins: dict[tuple[int, int], Value], mode: Value) -> Value:
        """Whether fewer than N of its group beat position `own`, for N and the group of the mode."""
        beaten = []
        for other in range(self.pattern.m):
            together = [own // pattern.m == other // pattern.m for pattern in self.patterns]
            if other != own:
                counts = any_of([mode == index for index, shared in enumerate(together) if shared])
                beats = top_n_rank.beats(lower_wins, other, own)
                beaten.append(beats if all(together) else beats & counts)
        m.submodules[f"popcount_{own}"] = count = PopulationCount(len(beaten))
        m.d.comb += count.value.eq(Cat(*beaten))
        return any_of([(mode == index) & (count.count < pattern.n) for index, pattern in enumerate(self.patterns)])


def _one_density(patterns: Sequence[Pattern]) -> tuple[Pattern, ...]:
    patterns = tuple(one_level(pattern) for pattern in patterns)
    largest = max(patterns, key=lambda pattern: pattern.m, default=None)
    good = len(set(patterns)) == len(patterns) >= 2 and all(
        pattern.n < pattern.m and pattern.n * largest.m == largest.n * pattern.m and largest.m % pattern.m == 0
        for pattern in patterns
    )
    if not good:
        raise AccelSimError(
            f"patterns {', '.join(map(str, patterns)) or 'none'}: expected at least two different ones of one density "
            "below 1, each M dividing the largest, such as 2:4, 4:8, 8:16"
        )
    return patterns
