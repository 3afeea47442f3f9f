"""Top N by sorting: a selection network moves scores and positions, and the positions that arrive are kept.

A key is a score with its inverted position below it, so that no two keys are equal and the lower position wins ties.
"""

from __future__ import annotations

from amaranth.hdl import C, Cat, Module, Mux, Value

from accel_sim.pattern import Pattern
from accel_sim.rtl.bits import Comparator, any_of, index_bits
from accel_sim.rtl.pipeline import Cuts
from accel_sim.rtl.sorting import selection_network


def latency(pattern: Pattern, score_bits: int) -> int:
    """A stage for each layer of the network, and one for the bitmap."""
    return len(selection_network(pattern.n, pattern.m)) + 1


def top_n(m: Module, scores: list[Value], n: int, cuts: Cuts) -> Value:
    """The bitmap [M] of scores [M], ties to the lower position."""
    count = len(scores)
    position_bits = index_bits(count)
    keys: list[Value] = [Cat(~C(index, position_bits), score) for index, score in enumerate(scores)]
    for number, layer in enumerate(selection_network(n, count)):
        ranked = scores if number == 0 else keys  # at first the lower wire has the lower position: scores decide
        for low, high in layer:
            m.submodules[f"comparator_{number}_{low}_{high}"] = comparator = Comparator(len(ranked[low]))
            m.d.comb += [comparator.a.eq(ranked[low]), comparator.b.eq(ranked[high])]
            keys[low], keys[high] = (
                Mux(comparator.at_least, keys[high], keys[low]),
                Mux(comparator.at_least, keys[low], keys[high]),
            )
        keys = [cuts.cut(key, f"key_{number}_{wire}") for wire, key in enumerate(keys)]
    arrived = [~key[:position_bits] for key in keys[count - n :]]
    return cuts.cut(Cat(any_of([position == index for position in arrived]) for index in range(count)), "kept")
