"""The operand multiplexers of one group: from a window of M operands to one for each of N slots.

Slots keep ascending feature order, so slot i can only come from positions i … i+M−N, a window of M−N+1:

* `restricted`: a tree of M−N two-way multiplexers a slot, steered by the offset of the position in the window;
* `onehot`: an AND-OR over the same window, steered by one line for each position of it, from one shared decoder;
* `full`: a tree of M−1 two-way multiplexers a slot, steered by the position itself.
"""

from __future__ import annotations

from typing import Literal, get_args

from amaranth.hdl import Module, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel_sim.errors import AccelSimError
from accel_sim.pattern import HierarchicalPattern, Pattern
from accel_sim.rtl.bits import and_or_select, index_bits, tree_select

OperandMux = Literal["restricted", "onehot", "full"]
OPERAND_MUXES: tuple[OperandMux, ...] = get_args(OperandMux)


def one_level(pattern: Pattern) -> Pattern:
    """The pattern itself. Raises AccelSimError unless it is a Pattern of one level."""
    if not isinstance(pattern, Pattern) or isinstance(pattern, HierarchicalPattern):
        raise AccelSimError(f"pattern {pattern}: expected a Pattern of one level, such as Pattern('8:16')")
    return pattern


def reach(pattern: Pattern) -> int:
    """M−N+1: from how many positions a slot can come."""
    return pattern.m - pattern.n + 1


def lines_per_slot(pattern: Pattern, operand_mux: OperandMux) -> int:
    """Select lines of one slot: M−N+1 one-hot lines, or the bits of an offset (`restricted`) or position (`full`).

    Raises AccelSimError for another operand multiplexer.
    """
    lines = {
        "restricted": index_bits(reach(pattern)),
        "onehot": reach(pattern),
        "full": index_bits(pattern.m),
    }
    if operand_mux not in lines:
        raise AccelSimError(f"operand_mux {operand_mux!r}: expected one of {', '.join(OPERAND_MUXES)}")
    return lines[operand_mux]


def lines_layout(pattern: Pattern, operand_mux: OperandMux) -> data.ArrayLayout:
    """The layout of all select lines of a group: N slots, slot 0 lowest."""
    return data.ArrayLayout(unsigned(lines_per_slot(pattern, operand_mux)), pattern.n)


class OperandSelect(wiring.Component):
    """window[M × signed bits], lines[N × lines_per_slot] → selected[N × signed bits]; combinational.

    Lines that no metadata of the pattern decodes to (an offset above M−N, a position above M−1, other than one hot
    line) select an undefined operand; where no line of a slot is hot, `onehot` gives 0.

    Raises AccelSimError for a pattern of two levels, another operand multiplexer, and words of less than 1 bit.
    """

    latency = 0

    def __init__(self, pattern: Pattern, operand_mux: OperandMux, bits: int = 8) -> None:
        self.pattern, self.operand_mux, self.bits = one_level(pattern), operand_mux, bits
        if bits < 1:
            raise AccelSimError(f"bits: got {bits}, expected at least 1 bit an operand")
        super().__init__(
            {
                "window": In(data.ArrayLayout(signed(bits), pattern.m)),
                "lines": In(lines_layout(pattern, operand_mux)),
                "selected": Out(data.ArrayLayout(signed(bits), pattern.n)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for slot in range(self.pattern.n):
            m.d.comb += self.selected[slot].eq(self._select(slot))
        return m

    def _select(self, slot: int) -> Value:
        lines = self.lines[slot]
        if self.operand_mux == "full":
            return tree_select(lines, [self.window[position] for position in range(self.pattern.m)])
        within = [self.window[slot + offset] for offset in range(reach(self.pattern))]
        if self.operand_mux == "restricted":
            return tree_select(lines, within)
        return and_or_select(list(lines), within)
