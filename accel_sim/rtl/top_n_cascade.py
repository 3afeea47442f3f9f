"""Top N by N maxima: a tree of comparisons finds the best element, which leaves before the next tree."""

from __future__ import annotations

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value

from accel_sim.pattern import Pattern
from accel_sim.rtl.bits import Comparator
from accel_sim.rtl.pipeline import Cuts


def latency(pattern: Pattern, score_bits: int) -> int:
    """A stage a maximum."""
    return pattern.n


def top_n(m: Module, scores: list[Value], n: int, cuts: Cuts) -> Value:
    """The bitmap [M] of scores [M], ties to the lower position."""
    kept: Value = C(0, len(scores))
    for turn in range(n):
        # A bit above the score says that the element is still there; in the first turn all are.
        keys = [Cat(score, ~taken) if turn else score for score, taken in zip(scores, kept, strict=True)]
        kept = cuts.cut(kept | Cat(_best(m, keys, turn)), f"kept_{turn}")
        if turn + 1 < n:
            scores = [cuts.cut(score, f"score_{turn}_{index}") for index, score in enumerate(scores)]
    return kept


def _best(m: Module, keys: list[Value], turn: int) -> list[Value]:
    """One-hot [M]: the highest key, the lowest position of equal ones.

    From the root down, every node that won tells so the side that its winner came from.
    """
    rounds, level = [], keys
    while len(level) > 1:
        lower_wins, winners = [], []
        for pair, (low, high) in enumerate(zip(level[::2], level[1::2], strict=False)):
            m.submodules[f"comparator_{turn}_{len(rounds)}_{pair}"] = comparator = Comparator(len(low))
            m.d.comb += [comparator.a.eq(low), comparator.b.eq(high)]
            winner = Signal(len(low), name=f"winner_{turn}_{len(rounds)}_{pair}")
            m.d.comb += winner.eq(Mux(comparator.at_least, low, high))
            lower_wins.append(comparator.at_least)
            winners.append(winner)
        rounds.append(lower_wins)
        level = winners + level[len(winners) * 2 :]
    won: list[Value] = [C(1, 1)]
    for lower_wins in reversed(rounds):
        sides = [side for node, lower in zip(won, lower_wins, strict=False) for side in (node & lower, node & ~lower)]
        won = sides + won[len(lower_wins) :]
    return won
