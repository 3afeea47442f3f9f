"""Top N by rank: all pairs compared at once, and an element is kept that fewer than N others beat."""

from __future__ import annotations

from itertools import combinations

from amaranth.hdl import Cat, Module, Value

from accel_sim.pattern import Pattern
from accel_sim.rtl.bits import Comparator, CountBelow
from accel_sim.rtl.pipeline import Cuts


def latency(pattern: Pattern, score_bits: int) -> int:
    """Comparisons, then counts."""
    return 2


def top_n(m: Module, scores: list[Value], n: int, cuts: Cuts) -> Value:
    """The bitmap [M] of scores [M], ties to the lower position: M(M−1)/2 comparators and M population counts."""
    lower_wins = compared_pairs(m, scores, cuts)
    kept = []
    for own in range(len(scores)):
        m.submodules[f"popcount_{own}"] = beaten = CountBelow(len(scores) - 1, n)
        m.d.comb += beaten.value.eq(Cat(beats(lower_wins, other, own) for other in range(len(scores)) if other != own))
        kept.append(beaten.below)
    return cuts.cut(Cat(*kept), "kept")


def compared_pairs(m: Module, scores: list[Value], cuts: Cuts) -> dict[tuple[int, int], Value]:
    """For positions low < high, whether the lower one is preferred: score[low] ≥ score[high]."""
    lower_wins = {}
    for low, high in combinations(range(len(scores)), 2):
        m.submodules[f"comparator_{low}_{high}"] = comparator = Comparator(len(scores[0]))
        m.d.comb += [comparator.a.eq(scores[low]), comparator.b.eq(scores[high])]
        lower_wins[low, high] = cuts.cut(comparator.at_least, f"{low}_beats_{high}")
    return lower_wins


def beats(lower_wins: dict[tuple[int, int], Value], one: int, other: int) -> Value:
    """Whether position `one` is preferred to position `other`."""
    return lower_wins[one, other] if one < other else ~lower_wins[other, one]
