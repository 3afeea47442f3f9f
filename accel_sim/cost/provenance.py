"""Where a report's figures come from: one line of defaults, and a table with the source of every figure used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from accel_sim.arch import derived
from accel_sim.arch.schema import Arch
from accel_sim.cost import gathering, operands, parts, predicting, sram
from accel_sim.cost.area import area
from accel_sim.cost.delays import column_tree, delays
from accel_sim.cost.scaling import BASE_NM, RULE, Scale, library_rule, scaling_sources
from accel_sim.cost.tables import Source, Status, constants, dram
from accel_sim.cost.units import UnitCost, library_of

EXISTING_CHIP = (
    "only its cycles and times are modelled; area, energy, equal-area speed-ups and the critical path here are those of"
    " this project's circuits and say nothing about that chip"
)


def defaults_line(arch: Arch, vector_unit: bool = False) -> str:
    """One line that says what every figure of a report on `arch` rests on; `vector_unit`: whether it did anything."""
    technology, scale = arch.technology, Scale.of(arch.technology)
    node = f"{technology.node_nm} nm at {scale.supply_v:g} V"
    if technology.node_nm != BASE_NM:
        node += f" ({RULE})"
    if rule := library_rule(technology):
        node += f" ({rule})"
    factor = library_of(arch).anchor_factor
    logic = (
        f"logic energy × {factor:g} (anchored to Horowitz, ISSCC 2014)"
        if technology.energy_scale == "anchored"
        else "logic energy raw"
    )
    wires = "first-order wires" if technology.wires else "no wires"
    memory = dram(arch.dram.kind)
    left_out = "DRAM PHY and vector unit not included in area" if vector_unit else "DRAM PHY not included"
    not_ours = f"{arch.name} exists: {EXISTING_CHIP}. " if technology.existing_chip else ""
    return (
        f"{not_ours}{technology.library} {node}, clock target {technology.clock_target_hz / 1e6:g} MHz,"
        f" cells / {technology.utilisation:g} utilisation, SRAM {arch.sram.kind} in {arch.sram.bank_bytes // 1024} KB"
        f" banks (CACTI 7), {logic}, {wires}, DRAM {arch.dram.kind} {memory.value:g} pJ/bit; {left_out}"
    )


def sources(arch: Arch) -> list[Source]:
    """Every figure that area, delays and energy of `arch` used, with its unit, source and status."""
    rows: dict[tuple[str, str], Source] = {}

    def add(source: Source) -> None:
        rows.setdefault((source.quantity, source.unit), source)

    for circuit in _with_what_it_is_made_of(_circuits(arch)):
        add(_figure(circuit, "area", circuit.area_um2, "um2", circuit.area_status or circuit.status))
        add(_figure(circuit, "energy", circuit.energy_pj, "pJ", circuit.status))
        add(_figure(circuit, "leakage", circuit.leakage_nw, "nW", circuit.status))
    for stage in delays(arch, None).stages:
        add(Source(f"delay of {stage.name}", stage.delay_ns, "ns", stage.status, stage.source))
    for buffer in sram.all_memories(arch):
        add(buffer.source())
    if (weights := predicting.weight_memory(arch)) is not None:
        add(weights.source())
    add(dram(arch.dram.kind))
    for row in scaling_sources(arch.technology):
        add(row)
    switched = _switched_on(arch)
    for figure in constants().values():
        if switched.intersection(figure.used_by.split()):
            add(figure)
    return list(rows.values())


def _figure(circuit: UnitCost, figure: str, value: float, measure: str, status: Status) -> Source:
    return Source(f"{circuit.name}: {figure}", value, measure, status, circuit.source)


def _circuits(arch: Arch) -> Iterator[UnitCost]:
    """What stands in the bill of materials, what it takes its delay from, and what a multiplication is gated by."""
    yield from (part.unit for part in parts.parts(arch))
    library = library_of(arch)
    yield from (library.unit("multiplier"), library.unit("adder"))
    if tree := column_tree(arch):
        yield tree


def _with_what_it_is_made_of(circuits: Iterable[UnitCost]) -> Iterator[UnitCost]:
    """Each circuit, then the ones its figures follow from, down to rows of the table and closed forms."""
    for circuit in circuits:
        yield circuit
        yield from _with_what_it_is_made_of(circuit.made_of)


def _switched_on(arch: Arch) -> set[str]:
    conditions = {
        "always": True,
        "anchored": False,  # listed with the scaling
        "node": False,
        "requantiser_row": library_of(arch).has("requantiser"),
        "requantiser_parts": not library_of(arch).has("requantiser"),
        "wires": arch.technology.wires,
        "sparse": any(derived.selects(arch, pattern) for pattern in arch.sparsity.patterns),
        "write_back": area(arch).components_um2["row_scale_buffer"] > 0,
        "channel_factors": arch.sparsity.selector.channel_factors,
        "zero_gating": arch.zero_gating == "operand",
        "skips_zeros": operands.skips_zeros(arch),
        "weight_stationary": operands.is_stationary(arch),
        "gathers": gathering.gathers(arch),
    }
    return {name for name, on in conditions.items() if on}
