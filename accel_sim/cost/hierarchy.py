"""Circuits of patterns of two levels, N1:M1 of N0:M0 (HighLight, MICRO 2023), from those of each level.

Operands: the outer network picks N1 of M1 inner groups, each M0 operands wide, then an inner network for each of them
picks N0 of M0. The other order would need M1 inner networks and select lines for inner groups that are not kept. A
level that keeps all needs no circuit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from math import ceil, log2

from accel_sim.arch.schema import Selector
from accel_sim.cost import circuits
from accel_sim.cost.circuits import LineActivity
from accel_sim.cost.tables import constant
from accel_sim.cost.units import Library, UnitCost, total
from accel_sim.pattern import Encoding, HierarchicalPattern, Pattern


def multiplexer(library: Library, operand_mux: str, pattern: Pattern) -> UnitCost:
    """The operand multiplexers of one group of one or two levels."""
    if not isinstance(pattern, HierarchicalPattern):
        return circuits.multiplexer(library, operand_mux, pattern)
    networks = []
    for level, copies, what in _levels(pattern):
        network = circuits.multiplexer(library, operand_mux, level)
        networks.append(network.times(copies, f"{network.name}, {copies} {what}", rule=f"{copies} {what}"))
    return total(f"{operand_mux} multiplexers of {pattern}", networks)


def _levels(pattern: HierarchicalPattern) -> list[tuple[Pattern, int, str]]:
    """(pattern, networks of it, what they are for), in the order an operand passes them."""
    outer = (pattern.outer, pattern.inner.m, "operands of an inner group")
    inner = (pattern.inner, pattern.outer.n, "kept inner groups")
    return [level for level in (outer, inner) if not level[0].keeps_all]


def select_bits(operand_mux: str, pattern: Pattern) -> int:
    """Select lines of one group. An outer line switches all operands of its inner group."""
    return round(_over_levels(pattern, lambda level: circuits.select_bits(operand_mux, level)))


def line_activity(operand_mux: str, pattern: Pattern) -> LineActivity:
    """What happens on them when the next group comes."""
    return LineActivity(
        _over_levels(pattern, lambda level: circuits.line_activity(operand_mux, level).random_bits),
        _over_levels(pattern, lambda level: circuits.line_activity(operand_mux, level).transitions),
    )


def _over_levels(pattern: Pattern, count: Callable[[Pattern], float]) -> float:
    """`count` of a pattern of one level; of the outer level and of each kept inner group of two."""
    if not isinstance(pattern, HierarchicalPattern):
        return count(pattern)
    outer = 0 if pattern.outer.keeps_all else count(pattern.outer)
    return outer + (0 if pattern.inner.keeps_all else pattern.outer.n * count(pattern.inner))


@cache
def decoder(library: Library, operand_mux: str, metadata: Encoding, pattern: Pattern) -> UnitCost | None:
    """From one group's metadata to its select lines: the levels' decoders, side by side."""
    if not isinstance(pattern, HierarchicalPattern):
        return circuits.decoder(library, operand_mux, metadata, pattern)
    built = []
    for level, copies in ((pattern.outer, 1), (pattern.inner, pattern.outer.n)):
        circuit = None if level.keeps_all else circuits.decoder(library, operand_mux, metadata, level)
        built += [] if circuit is None else [circuit] * copies
    if not built:
        return None
    side_by_side = total(f"decoders of {pattern}", built, rule="side by side")
    return replace(side_by_side, delay_ns=max(circuit.delay_ns for circuit in built))


@cache
def selector(library: Library, settings: Selector, metadata: Encoding, pattern: Pattern) -> UnitCost:
    """A complete selector of one or two levels.

    Two levels: M1 inner selectors side by side, the sums of what each keeps, an outer top-N of the wider sums, and the
    compaction of the kept inner groups with their metadata.
    """
    if not isinstance(pattern, HierarchicalPattern):
        return circuits.selector(library, settings, metadata, pattern)
    inner, outer = pattern.inner, pattern.outer
    copies = f"{outer.m} inner groups"
    if inner.keeps_all:
        first = total(f"scores of M={inner.m}", circuits.scores(library, settings, inner.m))
    else:
        first = circuits.selector(library, settings, metadata, inner)
    parts = [first.times(outer.m, f"{first.name}, {copies}", rule=copies)]
    if not outer.keeps_all:
        parts += _outer_selection(library, settings, metadata, pattern)
    return total(f"selector {pattern} {settings.kind}", parts)


def _outer_selection(
    library: Library, settings: Selector, metadata: Encoding, pattern: HierarchicalPattern
) -> list[UnitCost]:
    inner, outer = pattern.inner, pattern.outer
    levels = ceil(log2(inner.n))
    narrow = circuits.score_bits(settings)
    wide = narrow + levels
    sums = circuits.adder(
        library, wide, f"sums of {inner.n} scores of {wide} bits, {outer.m} times", (inner.n - 1) * outer.m
    )
    parts = [replace(sums, delay_ns=levels * sums.delay_ns)] if inner.n > 1 else []
    top_n = library.unit(circuits.TOP_N[settings.kind], outer.n, outer.m)
    wider = top_n.times(wide / circuits.TABLE_BITS, f"{top_n.name}, {wide}-bit sums", rule="width ratio")
    deeper = wide / circuits.TABLE_BITS if settings.kind == "radix" else log2(wide) / log2(circuits.TABLE_BITS)
    parts += [replace(wider, delay_ns=wider.delay_ns * deeper), *circuits.encoders(library, metadata, outer)]
    compaction = library.unit("select_onehot", outer.n, outer.m)
    kept = inner.n + (0 if inner.keeps_all else inner.metadata_bits(metadata) / circuits.TABLE_BITS)
    moved = compaction.times(kept, f"{compaction.name}, {kept:g} bytes an inner group", rule="bytes of an inner group")
    return [*parts, library.unit("decode_bitmap_onehot", outer.n, outer.m), moved]


def pipeline_bits(pattern: Pattern) -> float:
    """Register bits between two stages of a selector of one group."""
    return constant("selector_pipeline_bits_per_element") * pattern.m
