"""Top N by radix: bit by bit from the most significant one, elements join the kept ones as long as all of them fit."""

from __future__ import annotations

from amaranth.hdl import C, Cat, Module, Signal, Value

from accel_sim.pattern import Pattern
from accel_sim.rtl.bits import CountBelow, PopulationCount
from accel_sim.rtl.pipeline import Cuts


def latency(pattern: Pattern, score_bits: int) -> int:
    """A stage a bit of the score, and one for what is still tied."""
    return score_bits + 1


def top_n(m: Module, scores: list[Value], n: int, cuts: Cuts) -> Value:
    """The bitmap [M] of scores [M], ties to the lower position.

    Of the candidates (at first all), those whose bit is 1 beat the others. If they leave room, they are kept and the
    others stay candidates; otherwise only they stay. Of the candidates left at the end the lowest fill what room there
    is. (Those that fill it exactly may stay candidates, as only they can be kept; counting below N takes less logic.)
    """
    count = len(scores)
    kept, candidates = C(0, count), C(2**count - 1, count)
    for bit in reversed(range(len(scores[0]))):
        ones = candidates & Cat(score[bit] for score in scores)
        m.submodules[f"popcount_{bit}"] = fit = CountBelow(count, n)
        m.d.comb += fit.value.eq(kept | ones)
        all_fit = fit.below.replicate(count)
        still = candidates & (Cat(score[bit] for score in scores) ^ all_fit)
        kept = cuts.cut(kept | (ones & all_fit), f"kept_{bit}")
        candidates = cuts.cut(still, f"candidates_{bit}")
        scores = [cuts.cut(score[:bit], f"score_{bit}_{index}") for index, score in enumerate(scores)]
    return cuts.cut(_filled(m, kept, candidates, n), "kept")


def _filled(m: Module, kept: Value, candidates: Value, n: int) -> Value:
    """The kept elements and as many of the lowest candidates as there is room for."""
    m.submodules.popcount = already = PopulationCount(len(kept))
    m.d.comb += already.value.eq(kept)
    taken: Value = already.count[: n.bit_length()]
    filled = []
    for position, (is_kept, candidate) in enumerate(zip(kept, candidates, strict=True)):
        joins = Signal(name=f"joins_{position}")
        m.d.comb += joins.eq(candidate & (taken != n))
        filled.append(is_kept | joins)
        following = Signal(n.bit_length(), name=f"taken_{position + 1}")
        m.d.comb += following.eq(taken + joins)
        taken = following
    return Cat(*filled)
