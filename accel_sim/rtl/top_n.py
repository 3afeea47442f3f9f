"""The top-N circuit of a selector, in four kinds that return the same bits.

* `rank`: all pairs compared, an element is kept that fewer than N others beat (`top_n_rank`);
* `sort`: a network of compare-exchanges (`top_n_sort`);
* `cascade`: N trees that each find the highest of what is left (`top_n_cascade`);
* `radix`: bit by bit from the most significant one (`top_n_radix`).
"""

from __future__ import annotations

from types import ModuleType
from typing import Literal, get_args

from amaranth.hdl import C, Module, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.rtl import top_n_cascade, top_n_radix, top_n_rank, top_n_sort
from accel_sim.rtl.operand_select import one_level
from accel_sim.rtl.pipeline import Cuts

TopNKind = Literal["rank", "sort", "cascade", "radix"]
TOP_N_KINDS: tuple[TopNKind, ...] = get_args(TopNKind)
_CIRCUITS: dict[str, ModuleType] = {
    "rank": top_n_rank,
    "sort": top_n_sort,
    "cascade": top_n_cascade,
    "radix": top_n_radix,
}


class TopN(wiring.Component):
    """scores[M × u score_bits] → bitmap[M] of the N highest, ties to the lower position.

    Combinational, or `pipelined`: then the bitmap follows its scores by `latency` cycles, the last of which is spent in
    an output register. N = M keeps all, without a circuit.

    Raises AccelSimError for a pattern of two levels, another kind, and scores of less than 1 bit.
    """

    def __init__(self, pattern: Pattern, kind: TopNKind, score_bits: int = 8, pipelined: bool = False) -> None:
        self.pattern, self.kind = one_level(pattern), kind
        self.score_bits, self.pipelined = score_bits, pipelined
        if kind not in TOP_N_KINDS:
            raise AccelSimError(f"selector kind {kind!r}: expected one of {', '.join(TOP_N_KINDS)}")
        if score_bits < 1:
            raise AccelSimError(f"score_bits: got {score_bits}, expected at least 1")
        self.latency = _CIRCUITS[kind].latency(pattern, score_bits) if pipelined and not pattern.keeps_all else 0
        super().__init__(
            {
                "scores": In(data.ArrayLayout(unsigned(score_bits), pattern.m)),
                "bitmap": Out(pattern.m),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.pattern.keeps_all:
            m.d.comb += self.bitmap.eq(C(2**self.pattern.m - 1, self.pattern.m))
            return m
        kept = _CIRCUITS[self.kind].top_n(m, list(self.scores), self.pattern.n, Cuts(m, self.pipelined))
        m.d.comb += self.bitmap.eq(kept)
        return m
