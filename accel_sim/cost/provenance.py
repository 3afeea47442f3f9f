"""Where a report's figures come from: one line of defaults, and a table with the source of every figure used."""

from __future__ import annotations

from collections.abc import Iterator

from accel_sim.arch.schema import Arch
from accel_sim.cost import circuits, parts, sram
from accel_sim.cost.area import area
from accel_sim.cost.delays import delays
from accel_sim.cost.scaling import BASE_NM, RULE, Scale, scaling_sources
from accel_sim.cost.tables import Source, constant, constants, dram
from accel_sim.cost.units import UnitCost, register_data_energy_pj, unit


def defaults_line(arch: Arch) -> str:
    """One line that says what every figure of a report on `arch` rests on."""
    technology, scale = arch.technology, Scale.of(arch.technology)
    node = f"{technology.node_nm} nm at {scale.supply_v:g} V"
    if technology.node_nm != BASE_NM:
        node += f" ({RULE})"
    logic = (
        f"logic energy × {constant('anchor_factor'):g} (anchored to Horowitz, ISSCC 2014)"
        if technology.energy_scale == "anchored"
        else "logic energy raw"
    )
    wires = "first-order wires" if technology.wires else "no wires"
    memory = dram(arch.dram.kind)
    return (
        f"{technology.library} {node}, clock target {technology.clock_target_hz / 1e6:g} MHz,"
        f" cells / {technology.utilisation:g} utilisation, SRAM {arch.sram.kind} in {arch.sram.bank_bytes // 1024} KB"
        f" banks (CACTI 7), {logic}, {wires}, DRAM {arch.dram.kind} {memory.value:g} pJ/bit; DRAM PHY not included"
    )


def sources(arch: Arch) -> list[Source]:
    """Every figure that area, delays and energy of `arch` used, with its unit, source and status."""
    rows: dict[tuple[str, str], Source] = {}

    def add(source: Source) -> None:
        rows.setdefault((source.quantity, source.unit), source)

    for part in parts.parts(arch):
        for figure, value, measure in (
            ("area", part.unit.area_um2, "um2"),
            ("energy", part.unit.energy_pj, "pJ"),
            ("leakage", part.unit.leakage_nw, "nW"),
        ):
            name = f"{part.unit.name}: {figure}"
            status = (part.unit.area_status if figure == "area" else None) or part.unit.status
            add(Source(name, value, measure, status, part.unit.source))
    for stage in delays(arch, None).stages:
        add(Source(f"delay of {stage.name}", stage.delay_ns, "ns", stage.status, stage.source))
    for inner in _inside_sums(arch):
        add(Source(f"{inner.name}: area", inner.area_um2, "um2", inner.area_status or inner.status, inner.source))
        add(Source(f"{inner.name}: energy", inner.energy_pj, "pJ", inner.status, inner.source))
    difference = "mac_lane less mac_min per flip-flop, less the clock"
    add(Source("loading a random bit into a register", register_data_energy_pj(), "pJ", "computed", difference))
    for buffer in sram.memories(arch):
        add(buffer.source())
    add(dram(arch.dram.kind))
    for row in scaling_sources(arch.technology):
        add(row)
    switched = _switched_on(arch)
    for figure in constants().values():
        if figure.used_by in switched:
            add(figure)
    return list(rows.values())


def _inside_sums(arch: Arch) -> Iterator[UnitCost]:
    """The table rows inside circuits that are sums."""
    yield from (unit("mul8"), unit("add32"), unit("sel_restr", 1, 2))
    for pattern in circuits.sparse_patterns(arch.sparsity):
        yield unit("absm", m=pattern.m)
        yield unit(circuits.TOP_N[arch.sparsity.selector.kind], pattern.n, pattern.m)
        yield from (unit("bm2oh", pattern.n, pattern.m), unit("sel_onehot", pattern.n, pattern.m))
        if arch.sparsity.metadata == "index" or arch.sparsity.operand_mux != "onehot":
            yield unit("bm2idx", pattern.n, pattern.m)
        if arch.sparsity.metadata == "enumerative":
            yield from (unit("enum2bm", pattern.n, pattern.m), unit("bm2enum", pattern.n, pattern.m))


def _switched_on(arch: Arch) -> set[str]:
    conditions = {
        "always": True,
        "anchored": False,  # listed with the scaling
        "node": False,
        "wires": arch.technology.wires,
        "sparse": bool(circuits.sparse_patterns(arch.sparsity)),
        "write_back": area(arch).components_um2["row_scale_buffer"] > 0,
        "channel_factors": arch.sparsity.selector.channel_factors,
        "zero_gating": arch.zero_gating == "operand",
    }
    return {name for name, on in conditions.items() if on}
