"""The unit's circuits, put together from rows of the unit table: multiplexer, decoder, selector, requantiser.

A pattern of two levels has one of each a level: `accel_sim.cost.hierarchy` says how they go together.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import ceil, log2
from typing import NamedTuple

from accel_sim.arch.schema import Selector
from accel_sim.cost.tables import constant
from accel_sim.cost.units import Library, UnitCost, total
from accel_sim.pattern import Encoding, Pattern

_MULTIPLEXERS = {"restricted": "select_restricted", "onehot": "select_onehot", "full": "select_full"}
OPERAND_MUXES = tuple(_MULTIPLEXERS)
TOP_N = {"rank": "top_n_rank", "sort": "top_n_sort", "cascade": "top_n_cascade", "radix": "top_n_radix"}
TABLE_BITS = 8
"""Width of every row of the unit table that this package reads."""
WORD_BITS = 32
"""Width of the table's adder."""


def window(pattern: Pattern) -> int:
    """M−N+1 positions that one slot can come from, as slots keep ascending order."""
    return pattern.m - pattern.n + 1


def multiplexer(library: Library, operand_mux: str, pattern: Pattern) -> UnitCost:
    """The operand multiplexers of one group: N slots of 8 bits."""
    return library.unit(_MULTIPLEXERS[operand_mux], pattern.n, pattern.m)


def select_bits(operand_mux: str, pattern: Pattern) -> int:
    """Select lines of one group: one-hot over the window, or as many binary bits as the tree has levels."""
    if operand_mux == "onehot":
        return pattern.n * window(pattern)
    reach = pattern.m if operand_mux == "full" else window(pattern)
    return pattern.n * ceil(log2(reach))


class LineActivity(NamedTuple):
    """What happens on the select lines of one group when the next group comes."""

    random_bits: float
    transitions: float


def line_activity(operand_mux: str, pattern: Pattern) -> LineActivity:
    """Binary lines are random bits; of one-hot ones two change unless the slot repeats."""
    if operand_mux == "onehot":
        return LineActivity(0.0, pattern.n * 2 * (1 - 1 / window(pattern)))
    return LineActivity(select_bits(operand_mux, pattern), 0.0)


@cache
def decoder(library: Library, operand_mux: str, metadata: Encoding, pattern: Pattern) -> UnitCost | None:
    """From one group's metadata to its select lines; None where the metadata are the select lines.

    Rows of the run's own where it has the decoder, else: an index decoder for the offsets of restricted trees (upper
    bound), subtraction of every slot's place from its index, AND gates a select line.
    """
    n, m = pattern.n, pattern.m
    if metadata == "index":
        return _index_decoder(library, operand_mux, pattern)
    lines = {"onehot": "decode_bitmap_onehot", "restricted": "decode_bitmap_offset", "full": "decode_bitmap_index"}
    kind = lines[operand_mux]
    bitmap_to_lines = library.unit(kind if library.has(kind) else "decode_bitmap_index", n, m)
    if metadata == "bitmap":
        return bitmap_to_lines
    return total(f"enumerative decoder {pattern}", [library.unit("decode_enumerative", n, m), bitmap_to_lines])


def _index_decoder(library: Library, operand_mux: str, pattern: Pattern) -> UnitCost | None:
    if operand_mux == "full":
        return None
    kind = {"onehot": "decode_index_onehot", "restricted": "decode_index_offset"}[operand_mux]
    if library.has(kind):
        return library.unit(kind, pattern.n, pattern.m)
    bits = ceil(log2(pattern.m))
    if operand_mux == "restricted":
        share, rule = pattern.n * bits / WORD_BITS, "N·log2 M bits of subtraction"
        return library.unit("adder").times(share, f"index to offset {pattern}", rule=rule)
    levels = max(1, bits - 1)
    lines = and_gates(library, pattern.n * window(pattern) * levels, f"index to one-hot {pattern}")
    return replace(lines, delay_ns=levels * lines.delay_ns)


@cache
def selector(library: Library, settings: Selector, metadata: Encoding, pattern: Pattern) -> UnitCost:
    """A complete selector: |x| (or |x|·f), top-N of M, encoder of the stored metadata, compaction of the kept values.

    A row of the run's own where it synthesised this selector whole, else the sum of its parts.
    """
    whole, bits = f"selector_{settings.kind}", score_bits(settings)
    if metadata == "bitmap" and library.row(whole, pattern.n, pattern.m, bits=bits):
        return library.unit(whole, pattern.n, pattern.m, bits=bits)
    return selector_of_parts(library, settings, metadata, pattern)


@cache
def selector_of_parts(library: Library, settings: Selector, metadata: Encoding, pattern: Pattern) -> UnitCost:
    """The same from its parts. Compaction is the one-hot select with its bitmap decoder, whatever multiplexer the lanes
    have."""
    n, m = pattern.n, pattern.m
    parts = [*scores(library, settings, m), top_n(library, settings, pattern), *encoders(library, metadata, pattern)]
    parts += [library.unit("decode_bitmap_onehot", n, m), library.unit("select_onehot", n, m)]
    return total(f"selector {pattern} {settings.kind}", parts)


def scores(library: Library, settings: Selector, elements: int) -> list[UnitCost]:
    """|x|, or |x|·f, of so many elements."""
    if settings.channel_factors and library.has("factored_magnitude"):
        return [library.unit("factored_magnitude", m=elements)]
    magnitudes = library.unit("magnitude", m=elements)
    if not settings.channel_factors:
        return [magnitudes]
    name = f"{elements} factor multipliers"
    return [magnitudes, library.unit("multiplier").times(elements, name, rule="one multiplier an element")]


def score_bits(settings: Selector) -> int:
    """Width of one element's score."""
    return TABLE_BITS * int(constant("channel_factor_width_ratio")) if settings.channel_factors else TABLE_BITS


def top_n(library: Library, settings: Selector, pattern: Pattern) -> UnitCost:
    """The N largest of M scores.

    16-bit ones by their own row; else what the run's rows of both widths show, and where it has none twice as wide and
    deeper by log2(16) / log2(8) (radix: twice).
    """
    kind, bits = TOP_N[settings.kind], score_bits(settings)
    narrow = library.unit(kind, pattern.n, pattern.m)
    if not settings.channel_factors:
        return narrow
    if library.row(kind, pattern.n, pattern.m, bits=bits):
        return library.unit(kind, pattern.n, pattern.m, bits=bits)
    if ratios := library.width_ratios(kind, bits):
        area, energy, leakage, delay = ratios
        rule = f"median ratio of the {bits}-bit rows"
        wide = narrow.times(area, f"{narrow.name}, {bits}-bit scores", rule=rule)
        return replace(
            wide,
            energy_pj=narrow.energy_pj * energy,
            leakage_nw=narrow.leakage_nw * leakage,
            delay_ns=narrow.delay_ns * delay,
        )
    wide = narrow.times(constant("channel_factor_width_ratio"), f"{narrow.name}, 16-bit scores", rule="width ratio")
    deeper = "channel_factor_width_ratio" if settings.kind == "radix" else "channel_factor_depth_ratio"
    return replace(wide, delay_ns=wide.delay_ns * constant(deeper))


def encoders(library: Library, metadata: Encoding, pattern: Pattern) -> list[UnitCost]:
    """From the selection's bitmap to the stored metadata."""
    if metadata == "bitmap":
        return []
    return [
        library.unit(
            {"index": "decode_bitmap_index", "enumerative": "encode_enumerative"}[metadata], pattern.n, pattern.m
        )
    ]


@cache
def requantiser(library: Library) -> UnitCost:
    """INT32 accumulator times a Q31 mantissa (itself a product of two), rounded, shifted: one accumulator a cycle.

    A row of the run's own where it has one, as deep as its register stages together. Else a wide multiplier is the
    8-bit one times the ratio of bit products, its delay times the ratio of log2 widths.
    """
    if library.has("requantiser"):
        built = library.only("requantiser")
        stages = constant("requantiser_stages") if built.flip_flops else 1
        return replace(built, delay_ns=stages * built.delay_ns)
    wide, narrow = constant("requantiser_accumulator_bits"), TABLE_BITS
    products = wide * constant("requantiser_mantissa_bits") / narrow**2
    small = library.unit("multiplier")
    large = small.times(products, "32×31-bit multiplier", rule="bit products")
    large = replace(large, delay_ns=small.delay_ns * log2(wide) / log2(narrow))
    levels = constant("requantiser_shift_levels")
    level = multiplexer_2(library, constant("requantiser_shift_bits"), "one shift level")
    shifter = replace(level.times(levels, "barrel shifter"), delay_ns=levels * level.delay_ns)
    parts = [large] * int(constant("requantiser_multipliers"))
    parts += [library.unit("adder")] * int(constant("requantiser_adders"))
    return total("requantiser", [*parts, shifter])


def multiplexer_2(library: Library, bits: float, name: str) -> UnitCost:
    """A 2:1 multiplexer of `bits` bits."""
    return library.unit("select_restricted", 1, 2).times(bits / TABLE_BITS, name, rule="bits of a 2:1 multiplexer")


@cache
def tree(library: Library, inputs: int, bits: float = TABLE_BITS) -> UnitCost | None:
    """A multiplexer tree from any of `inputs` places to one, `bits` wide; None for a single place.

    One slot of the table's full network over as many places where it has one, else the full network's closed form.
    """
    if inputs < 2:
        return None
    slots = library.largest_n("select_full", inputs) or 1
    name = f"{inputs}:1 multiplexer tree, {bits:g} bits"
    return library.unit("select_full", slots, inputs).times(bits / TABLE_BITS / slots, name, rule="bits of one slot")


def adder(library: Library, bits: float, name: str, count: float = 1) -> UnitCost:
    """`count` adders of `bits` bits: area and energy by width, the delay of one by the logarithm of its width."""
    wide = library.unit("adder")
    sized = wide.times(count * bits / WORD_BITS, name, rule="bits of a 32-bit adder")
    return replace(sized, delay_ns=wide.delay_ns * log2(max(2, bits)) / log2(WORD_BITS))


def and_gates(library: Library, bits: float, name: str) -> UnitCost:
    """`bits` AND-OR legs."""
    return library.unit("select_onehot", 1, 1).times(bits / TABLE_BITS, name, rule="bits of one AND-OR leg")


def random_gates(library: Library, nand2: float, name: str) -> UnitCost:
    """`nand2` gate equivalents with the energy and leakage of an adder's."""
    wide = library.unit("adder")
    return wide.times(nand2 / wide.nand2, name, rule="gate equivalents of an adder")
