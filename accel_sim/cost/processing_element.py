"""One registered processing element as one library gives it: area, energy a cycle, delay, and the price of a pattern.

It is the element that `accel_sim.rtl` builds and a synthesis run measures whole: registers for activations, metadata
and weights, metadata decoder, operand multiplexers, multipliers with product registers, adder tree, INT32 accumulator.
Nothing stands around it: no array that shares registers or decoders, no SRAM, no wires, no clock tree. Figures are the
library's own, at its node and supply, with its raw energies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from accel_sim.cost import circuits
from accel_sim.cost.tables import Source
from accel_sim.cost.units import BASE, Library, UnitCost, load_library
from accel_sim.errors import AccelSimError
from accel_sim.pattern import ENCODINGS, Encoding, HierarchicalPattern, Pattern, parse_pattern

OPERAND_BITS = 8
PRODUCT_BITS = 16
CLEAR_BITS = 1
"""A new sum starts: one bit that travels with the operands."""


@dataclass(frozen=True)
class ElementPart:
    """What one part of an element takes."""

    area_um2: float
    energy_pj: float
    """A cycle."""


@dataclass(frozen=True)
class ElementCost:
    """One processing element."""

    lanes: int
    pattern: Pattern | None
    """None for the dense element."""
    library: str
    area_um2: float
    """Cell area."""
    area_nand2: float
    """The same in NAND2-equivalents (GE)."""
    energy_pj: float
    """A cycle in which every lane multiplies, at the library's own node and supply. With trees over large groups a
    lower bound, for the reason at `delay_ns`."""
    delay_ns: float
    """The slowest path between two registers, setup included. Where the decoder is in it, a lower bound: the parts were
    timed one by one, so the fan-out of the select lines and their slow edges are in none of them."""
    critical_stage: str
    """`multiply`: operand register, decoder, multiplexers, multiplier. `accumulate`: adder tree and accumulator."""
    parts: Mapping[str, ElementPart]
    """They add up to `area_um2` and `energy_pj`."""
    sources: tuple[Source, ...]
    """Every figure used, with where it comes from."""


@dataclass(frozen=True)
class _Placed:
    part: str
    unit: UnitCost
    count: float
    energy_pj: float
    """All of them, a cycle."""

    @property
    def area_um2(self) -> float:
        return self.unit.area_um2 * self.count


@cache
def _element(
    lanes: int,
    pattern: Pattern | None,
    operand_mux: str,
    metadata: Encoding,
    library: Library,
    operand_mux_register: bool,
) -> ElementCost:
    groups = 1 if pattern is None else lanes // pattern.n
    slots = lanes if pattern is None else groups * pattern.n
    placed = list(_dense_part(library, slots, lanes if pattern is None else groups * pattern.m))
    decoder = multiplexer = None
    if pattern is not None:
        decoder = circuits.decoder(library, operand_mux, metadata, pattern)
        multiplexer = circuits.multiplexer(library, operand_mux, pattern)
        placed.append(_registers(library, "metadata_registers", groups * pattern.metadata_bits(metadata)))
        if decoder is not None:
            placed.append(_Placed("metadata_decoders", decoder, groups, groups * decoder.energy_pj))
        placed.append(_Placed("operand_multiplexers", multiplexer, groups, groups * multiplexer.energy_pj))
        if operand_mux_register:
            # The activations and the clear bit wait a cycle for the operands that the multiplexers picked.
            bits = 2 * slots * OPERAND_BITS + CLEAR_BITS
            placed.append(_registers(library, "operand_mux_registers", bits))
    parts: dict[str, ElementPart] = {}
    for one in placed:
        before = parts.get(one.part, ElementPart(0.0, 0.0))
        parts[one.part] = ElementPart(before.area_um2 + one.area_um2, before.energy_pj + one.energy_pj)
    area = sum(part.area_um2 for part in parts.values())
    stages = _stages(library, slots, decoder, multiplexer, operand_mux_register)
    critical = max(stages, key=lambda stage: stages[stage])
    return ElementCost(
        lanes=lanes,
        pattern=pattern,
        library=library.name,
        area_um2=area,
        area_nand2=area / library.run.nand2_area_um2,
        energy_pj=sum(part.energy_pj for part in parts.values()),
        delay_ns=stages[critical],
        critical_stage=critical,
        parts=MappingProxyType(parts),
        sources=_sources(library, placed),
    )


def _dense_part(library: Library, slots: int, weights: int) -> list[_Placed]:
    """What every element has: operand registers, and the table's dot product taken apart."""
    dot, multiplier = library.unit("dot_product", lanes=slots), library.unit("multiplier")
    held = dot.flip_flops
    registers = library.flip_flop
    tree = UnitCost(
        name=f"adder tree of {slots} lanes and accumulate",
        area_um2=dot.area_um2 - slots * multiplier.area_um2 - held * registers.area_um2,
        delay_ns=dot.delay_ns,
        energy_pj=dot.energy_pj - slots * multiplier.energy_pj - held * registers.energy_pj,
        leakage_nw=dot.leakage_nw - slots * multiplier.leakage_nw - held * registers.leakage_nw,
        status=dot.status,
        source=f"{dot.name} less its multipliers and registers",
        nand2_um2=dot.nand2_um2,
        made_of=(dot, multiplier, registers),
    )
    return [
        _Placed("multipliers", multiplier, slots, slots * multiplier.energy_pj),
        _Placed("product_and_accumulator_registers", registers, held, held * registers.energy_pj),
        _Placed("adder_tree", tree, 1, tree.energy_pj),
        _registers(library, "activation_registers", slots * OPERAND_BITS),
        _registers(library, "weight_registers", weights * OPERAND_BITS),
        _registers(library, "control_registers", CLEAR_BITS),
    ]


def _registers(library: Library, part: str, bits: int) -> _Placed:
    """Registers that load a random word in every cycle."""
    register = library.flip_flop
    return _Placed(part, register, bits, bits * (register.energy_pj + library.register_data_energy_pj))


def _stages(
    library: Library, slots: int, decoder: UnitCost | None, multiplexer: UnitCost | None, operand_mux_register: bool
) -> dict[str, float]:
    """Delay of each path between registers."""
    register, multiply = library.flip_flop.delay_ns, library.unit("multiplier").delay_ns
    select = sum(circuit.delay_ns for circuit in (decoder, multiplexer) if circuit is not None)
    tree = library.unit("dot_product", lanes=slots).delay_ns
    if operand_mux_register:
        return {"select": register + select, "multiply": register + multiply, "accumulate": tree}
    return {"multiply": register + select + multiply, "accumulate": tree}


def _sources(library: Library, placed: list[_Placed]) -> tuple[Source, ...]:
    found: dict[str, Source] = {}
    for one in placed:
        for circuit in (one.unit, *one.unit.made_of):
            rows = (("area", circuit.area_um2, "um2"), ("energy", circuit.energy_pj, "pJ"))
            for figure, value, measure in rows:
                name = f"{circuit.name}: {figure}"
                status = circuit.area_status or circuit.status if figure == "area" else circuit.status
                found.setdefault(name, Source(name, value, measure, status, circuit.source))
    for row in library.run.sources():
        found.setdefault(row.quantity, row)
    return tuple(found.values())


def pe(
    lanes: int,
    pattern: Pattern | str | None = None,
    operand_mux: str = "onehot",
    metadata: Encoding = "bitmap",
    library: str = BASE,
    operand_mux_register: bool = False,
) -> ElementCost:
    """The cost of one registered processing element with so many lanes, dense or for a pattern N:M.

    `lanes // N` groups stand side by side, and lanes beyond them are not built. `library` is a shipped run or the
    folder of one. A pattern that keeps all gives the dense element.

    Raises AccelSimError for less than one lane, a group with more slots than lanes (N > lanes: it would take several
    cycles, which this element does not), a pattern of two levels, a register behind multiplexers that a dense element
    does not have, an unknown multiplexer, encoding or library.
    """
    if not isinstance(lanes, int) or lanes < 1:
        raise AccelSimError(f"lanes: got {lanes!r}, expected a whole number of at least 1")
    _one_of("operand_mux", operand_mux, circuits.OPERAND_MUXES)
    _one_of("metadata", metadata, ENCODINGS)
    tables = load_library(library)
    wanted = parse_pattern(pattern) if isinstance(pattern, str) else pattern
    if wanted is None or wanted.keeps_all:
        if operand_mux_register:
            raise AccelSimError("operand_mux_register: a dense processing element has no operand multiplexers")
        return _element(lanes, None, "onehot", "bitmap", tables, False)
    if isinstance(wanted, HierarchicalPattern):
        raise AccelSimError(f"pattern {wanted}: expected one level N:M")
    if wanted.n > lanes:
        raise AccelSimError(f"lanes: got {lanes}, expected at least the {wanted.n} slots of a group of {wanted}")
    return _element(lanes, wanted, operand_mux, metadata, tables, operand_mux_register)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise AccelSimError(f"{name}: got {value!r}, expected one of {', '.join(allowed)}")


def area_tax(sparse: ElementCost, dense: ElementCost) -> float:
    """Extra area over the dense element with the same lanes, as a fraction."""
    return sparse.area_um2 / dense.area_um2 - 1


def energy_tax(sparse: ElementCost, dense: ElementCost) -> float:
    """Extra energy a cycle over the dense element with the same lanes, as a fraction."""
    return sparse.energy_pj / dense.energy_pj - 1


def iso_throughput_gain(pattern: Pattern | str, tax: float) -> float:
    """What is saved at equal throughput: (M/N) / (1 + tax), as N of M multiplications are enough.

    At an equal clock, and with all lanes at work: where the element's `delay_ns` sets the clock, times dense over
    sparse delay; where N does not divide the lanes, times the share of them that is built (15 of 16 for 3:4).
    """
    wanted = parse_pattern(pattern) if isinstance(pattern, str) else pattern
    return wanted.m / wanted.n / (1 + tax)


def implied_tax(pattern: Pattern | str, gain: float) -> float:
    """The tax behind a published gain at equal throughput: (M/N) / gain - 1."""
    return iso_throughput_gain(pattern, 0.0) / gain - 1
