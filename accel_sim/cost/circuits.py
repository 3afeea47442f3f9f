"""The unit's circuits, put together from rows of the unit table: multiplexer, decoder, selector, requantiser."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import ceil, log2

from accel_sim.arch.schema import Selector, Sparsity
from accel_sim.cost.tables import constant
from accel_sim.cost.units import UnitCost, total, unit
from accel_sim.pattern import Encoding, Pattern

_MULTIPLEXERS = {"restricted": "sel_restr", "onehot": "sel_onehot", "full": "sel_naive"}
TOP_N = {"rank": "topn_rank", "sort": "topn_oems", "cascade": "topn_itermax", "radix": "topn_radix"}
_TABLE_BITS = 8
"""Width of every row of the unit table that this module reads."""


def window(pattern: Pattern) -> int:
    """M−N+1 positions that one slot can come from, as slots keep ascending order."""
    return pattern.m - pattern.n + 1


def multiplexer(operand_mux: str, pattern: Pattern) -> UnitCost:
    """The operand multiplexers of one group: N slots of 8 bits."""
    return unit(_MULTIPLEXERS[operand_mux], pattern.n, pattern.m)


def select_bits(operand_mux: str, pattern: Pattern) -> int:
    """Select lines of one group: one-hot over the window, or as many binary bits as the tree has levels."""
    if operand_mux == "onehot":
        return pattern.n * window(pattern)
    reach = pattern.m if operand_mux == "full" else window(pattern)
    return pattern.n * ceil(log2(reach))


@cache
def decoder(operand_mux: str, metadata: Encoding, pattern: Pattern) -> UnitCost | None:
    """From one group's metadata to its select lines; None where the metadata are the select lines."""
    n, m = pattern.n, pattern.m
    bitmap_to_lines = unit("bm2oh" if operand_mux == "onehot" else "bm2idx", n, m)
    if metadata == "bitmap":
        return bitmap_to_lines
    if metadata == "enumerative":
        return total(f"enumerative decoder {pattern}", [unit("enum2bm", n, m), bitmap_to_lines])
    bits = ceil(log2(m))
    if operand_mux == "full":
        return None
    if operand_mux == "restricted":
        return unit("add32").times(n * bits / 32, f"index to offset {pattern}", rule="N·log2 M bits of subtraction")
    levels = max(1, bits - 1)
    lines = and_gates(n * window(pattern) * levels, f"index to one-hot {pattern}")
    return replace(lines, delay_ns=levels * lines.delay_ns)


@cache
def selector(settings: Selector, metadata: Encoding, pattern: Pattern) -> UnitCost:
    """A complete selector: |x| (or |x|·f), top-N of M, encoder of the stored metadata, compaction of the kept values.

    Compaction is the one-hot select with its bitmap decoder, whatever multiplexer the lanes have.
    """
    n, m = pattern.n, pattern.m
    parts = [unit("absm", m=m)]
    top_n = unit(TOP_N[settings.kind], n, m)
    if settings.channel_factors:
        parts.append(unit("mul8").times(m, f"{m} factor multipliers", rule="one multiplier an element"))
        wide = top_n.times(constant("channel_factor_width_ratio"), f"{top_n.name}, 16-bit scores", rule="width ratio")
        deeper = "channel_factor_width_ratio" if settings.kind == "radix" else "channel_factor_depth_ratio"
        top_n = replace(wide, delay_ns=wide.delay_ns * constant(deeper))
    parts.append(top_n)
    if metadata != "bitmap":
        parts.append(unit({"index": "bm2idx", "enumerative": "bm2enum"}[metadata], n, m))
    parts += [unit("bm2oh", n, m), unit("sel_onehot", n, m)]
    return total(f"selector {pattern} {settings.kind}", parts)


@cache
def requantiser() -> UnitCost:
    """INT32 accumulator times a Q31 mantissa (itself a product of two), rounded, shifted: one accumulator a cycle.

    A wide multiplier is the 8-bit one times the ratio of bit products, its delay times the ratio of log2 widths.
    """
    wide, narrow = constant("requantiser_accumulator_bits"), _TABLE_BITS
    products = wide * constant("requantiser_mantissa_bits") / narrow**2
    small = unit("mul8")
    large = small.times(products, "32×31-bit multiplier", rule="bit products")
    large = replace(large, delay_ns=small.delay_ns * log2(wide) / log2(narrow))
    levels = constant("requantiser_shift_levels")
    level = multiplexer_2(constant("requantiser_shift_bits"), "one shift level")
    shifter = replace(level.times(levels, "barrel shifter"), delay_ns=levels * level.delay_ns)
    parts = [large] * int(constant("requantiser_multipliers"))
    parts += [unit("add32")] * int(constant("requantiser_adders"))
    return total("requantiser", [*parts, shifter])


def multiplexer_2(bits: float, name: str) -> UnitCost:
    """A 2:1 multiplexer of `bits` bits."""
    return unit("sel_restr", 1, 2).times(bits / _TABLE_BITS, name, rule="bits of a 2:1 multiplexer")


def and_gates(bits: float, name: str) -> UnitCost:
    """`bits` AND-OR legs."""
    return unit("sel_onehot", 1, 1).times(bits / _TABLE_BITS, name, rule="bits of one AND-OR leg")


def random_gates(nand2: float, name: str) -> UnitCost:
    """`nand2` gate equivalents with the energy and leakage of an adder's."""
    adder = unit("add32")
    return adder.times(nand2 / adder.nand2, name, rule="gate equivalents of an adder")


def sparse_patterns(sparsity: Sparsity) -> tuple[Pattern, ...]:
    """The patterns that need hardware: N = M runs by the dense rule."""
    return tuple(pattern for pattern in sparsity.patterns if not pattern.keeps_all)
