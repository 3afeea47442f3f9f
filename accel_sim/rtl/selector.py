"""Complete selectors: scores, top N, metadata and compaction of one group a cycle.

Stages, each ending in registers where `pipelined`: the products of factors, if there are any; those of the top-N
circuit, the first of which begins with the magnitudes; decoder, compaction and metadata encoder.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Value, signed, unsigned
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
from accel_sim.rtl.scores import FACTOR_BITS, FactoredMagnitudes, Magnitudes, score_bits
from accel_sim.rtl.top_n import TopN, TopNKind


class Selector(MetadataPortComponent):
    """values[M × s8] (with `channel_factors` also factors[M × u8]) → kept[N × s8], metadata[bits], bitmap[M].

    Kept values stay in ascending feature order; the score is |value|, or |value|·factor, and ties go to the lower
    feature. Codes are −127 … 127. `latency` cycles where `pipelined`, else combinational; a group a cycle in any case.

    A last group is padded behind its real elements with values of 0. The tie rule alone then does what is wanted:
    padding is never preferred to a real element, and the lowest of it fills the slots that are left. With
    `masked_padding` there is an input valid_count, how many elements are real (all, if it is left alone), and whatever
    comes behind them counts as 0; without it the values must be 0.

    Raises AccelSimError for a pattern of two levels, another kind, and another metadata encoding.
    """

    def __init__(
        self,
        pattern: Pattern,
        kind: TopNKind = "rank",
        metadata: Encoding = "bitmap",
        channel_factors: bool = False,
        pipelined: bool = False,
        masked_padding: bool = True,
    ) -> None:
        self.pattern, self.kind, self.encoding = one_level(pattern), kind, metadata
        self.channel_factors, self.pipelined, self.masked_padding = channel_factors, pipelined, masked_padding
        self._top_n = TopN(pattern, kind, score_bits(channel_factors), pipelined)
        self.latency = self._top_n.latency + channel_factors + 1 if pipelined else 0
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
        m.submodules.top_n = self._top_n
        m.submodules.compaction = compaction = Compaction(self.pattern, self.encoding)
        values, scores = operands(m, self)
        cuts = Cuts(m, self.pipelined)
        m.d.comb += [
            self._top_n.scores.eq(Cat(*scores)),
            compaction.bitmap.eq(self._top_n.bitmap),
            compaction.words.eq(delayed(m, Cat(*values), max(0, self.latency - 1), "values")),
            self.kept.eq(cuts.cut(compaction.kept, "kept_register")),
            self.metadata.eq(cuts.cut(compaction.metadata, "metadata_register")),
            self.bitmap.eq(cuts.cut(self._top_n.bitmap, "bitmap_register")),
        ]
        return m


def operand_ports(count: int, channel_factors: bool, masked_padding: bool) -> dict[str, wiring.Member]:
    """What a selector of `count` elements takes in."""
    ports = {"values": In(data.ArrayLayout(signed(8), count))}
    if channel_factors:
        ports["factors"] = In(data.ArrayLayout(unsigned(FACTOR_BITS), count))
    if masked_padding:
        ports["valid_count"] = In(range(count + 1), init=count)
    return ports


def operands(m: Module, selector: wiring.Component) -> tuple[list[Value], list[Value]]:
    """A selector's values, 0 where they pad, and their scores: products behind a register, if it is pipelined."""
    values = list(selector.values)
    if selector.masked_padding:
        real = [selector.valid_count > position for position in range(len(values))]
        values = [value.as_unsigned() & bit.replicate(8) for value, bit in zip(values, real, strict=True)]
    m.submodules.magnitudes = magnitudes = (FactoredMagnitudes if selector.channel_factors else Magnitudes)(len(values))
    m.d.comb += magnitudes.values.eq(Cat(*values))
    scores = [score[: score_bits(selector.channel_factors)] for score in magnitudes.scores]
    if selector.channel_factors:
        m.d.comb += magnitudes.factors.eq(selector.factors)
        cuts = Cuts(m, selector.pipelined)
        scores = [cuts.cut(score, f"score_{position}") for position, score in enumerate(scores)]
    return values, scores


class FlexibleSelector(wiring.Component):
    """One selector for patterns of one density, switched by `mode`: an index into `patterns`.

    mode, values[M × s8] (factors[M × u8]) → kept[N × s8], bitmap[M], for N:M the pattern with the largest M. The
    window of M features holds as many groups of the mode's pattern as fit: `bitmap` is their bitmaps side by side,
    lowest features first, and `kept` their slots in the same order, so together they are a group of N:M to whatever
    comes behind. All comparisons of the largest pattern are there; a mode counts those within its groups.
    The kind is `rank`; timing and padding, through the whole window, are as of `Selector`.

    Raises AccelSimError unless there are at least two patterns of one level and one density, N < M, no two the same,
    each M dividing the largest.
    """

    def __init__(
        self,
        patterns: Sequence[Pattern],
        channel_factors: bool = False,
        pipelined: bool = False,
        masked_padding: bool = True,
    ) -> None:
        self.patterns = _one_density(patterns)
        self.pattern = max(self.patterns, key=lambda pattern: pattern.m)
        self.channel_factors, self.pipelined, self.masked_padding = channel_factors, pipelined, masked_padding
        counted = top_n_rank.latency(self.pattern, score_bits(channel_factors))
        self.latency = counted + channel_factors + 1 if pipelined else 0
        super().__init__(
            {
                "mode": In(range(len(self.patterns))),
                **operand_ports(self.pattern.m, channel_factors, masked_padding),
                "kept": Out(data.ArrayLayout(signed(8), self.pattern.n)),
                "bitmap": Out(self.pattern.m),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cuts = Cuts(m, self.pipelined)
        mode = delayed(m, self.mode, self.latency - 2 if self.pipelined else 0, "mode")  # it steers the counts
        values, scores = operands(m, self)
        lower_wins = top_n_rank.compared_pairs(m, scores, cuts)
        bitmap = cuts.cut(Cat(self._kept(m, own, lower_wins, mode) for own in range(self.pattern.m)), "kept_by_rank")
        m.submodules.compaction = compaction = Compaction(self.pattern, "bitmap")
        m.d.comb += [
            compaction.bitmap.eq(bitmap),
            compaction.words.eq(delayed(m, Cat(*values), max(0, self.latency - 1), "values")),
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
