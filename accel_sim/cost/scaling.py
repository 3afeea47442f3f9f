"""From a library's tables to the asked node, by named rules.

Other libraries first come to 45 nm, where NanGate's stands: area by NAND2-equivalents; energy by the library's own
factor onto published 45 nm energies (`anchored`) or by the node polynomials from its own node and supply (`raw`); delay
and leakage by what the two libraries' multipliers show. Then Stillmaker and Baas, Integration 58 (2017) 74-81: area by
a factor a node, energy by the ratio of one polynomial a·V² + b·V + c a node, each at its own supply. Delay is kept at
45 nm: the source of these tables gives no delay rule, so clocks of smaller nodes are pessimistic.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from accel_sim.arch.schema import Technology
from accel_sim.cost.tables import Source, constant, constants, number, table
from accel_sim.cost.units import BASE, Library, load_library
from accel_sim.errors import AccelSimError

BASE_NM = 45
RULE = "Stillmaker and Baas 2017: area by a factor a node, energy by the ratio of a·V² + b·V + c; delay kept at 45 nm"


@dataclass(frozen=True)
class Node:
    """One row of the scaling table, or a node between two rows on a line."""

    node_nm: float
    area_factor: float | None
    """Area over the same circuit's at 45 nm; None where the table gives energy alone."""
    energy_a: float
    energy_b: float
    energy_c: float
    nominal_supply_v: float | None

    def energy(self, supply_v: float) -> float:
        """The energy polynomial at a supply; only ratios of it mean anything."""
        return self.energy_a * supply_v**2 + self.energy_b * supply_v + self.energy_c


@cache
def node(node_nm: float) -> Node:
    """A node of the table, or one between two of them on a line in node_nm. Raises AccelSimError outside the table."""
    rows = sorted((_node(row) for row in table("nodes")), key=lambda row: row.node_nm)
    for row in rows:
        if row.node_nm == node_nm:
            return row
    for below, above in pairwise(rows):
        if below.node_nm < node_nm < above.node_nm:
            return _between(below, above, (node_nm - below.node_nm) / (above.node_nm - below.node_nm))
    raise AccelSimError(f"node {node_nm:g} nm: the scaling table runs from {rows[0].node_nm:g} to {rows[-1].node_nm:g}")


def _node(row: dict[str, str]) -> Node:
    energy = (float(row[f"energy_{term}"]) for term in "abc")
    return Node(float(row["node_nm"]), number(row["area_factor"]), *energy, number(row["nominal_supply_v"]))


def _between(below: Node, above: Node, share: float) -> Node:
    def mix(low: float, high: float) -> float:
        return low + share * (high - low)

    def mix_if_known(low: float | None, high: float | None) -> float | None:
        return None if low is None or high is None else mix(low, high)

    return Node(
        mix(below.node_nm, above.node_nm),
        mix_if_known(below.area_factor, above.area_factor),
        mix(below.energy_a, above.energy_a),
        mix(below.energy_b, above.energy_b),
        mix(below.energy_c, above.energy_c),
        mix_if_known(below.nominal_supply_v, above.nominal_supply_v),
    )


def energy_ratio(from_nm: float, from_v: float, to_nm: float, to_v: float) -> float:
    """Energy of a circuit at one node and supply over its energy at another."""
    return node(to_nm).energy(to_v) / node(from_nm).energy(from_v)


@dataclass(frozen=True)
class Scale:
    """The factors that one technology section puts on its library's figures, and on what is given at 45 nm."""

    node_area: float
    """Area of anything given at 45 nm."""
    area: float
    """Area of the library's cells, without utilisation: to 45 nm, then to the node."""
    energy: float
    """Energy of the library's logic: energy scale (raw or anchored) times the node's ratio."""
    leakage: float
    """Leakage of the library's logic."""
    delay: float
    """Delay of the library's logic, to 45 nm."""
    length: float
    """Wire pitch: the square root of the area factor."""
    wire: float
    """Wire energy: the square of the supply over that of the wire figures; capacitance a mm stays."""
    base_supply_v: float
    """Supply at which the unscaled energies hold at 45 nm."""
    supply_v: float

    @classmethod
    def of(cls, technology: Technology) -> Scale:
        """Raises AccelSimError where the energy scale is raw and the table does not know the library's node."""
        return _scale(technology)


@cache
def _scale(technology: Technology) -> Scale:
    library, base = load_library(technology.library), load_library(BASE)
    anchored = technology.energy_scale == "anchored"
    base_v = constant("anchor_supply") if anchored else base.run.supply_v
    at = node(technology.node_nm)
    assert at.area_factor is not None and at.nominal_supply_v is not None  # the schema offers no other node
    nominal = base_v if technology.node_nm == BASE_NM else at.nominal_supply_v
    supply = nominal if technology.supply_v is None else technology.supply_v
    from_base = energy_ratio(BASE_NM, base_v, technology.node_nm, supply)
    energy = library.anchor_factor * from_base if anchored else _raw_energy(library, technology.node_nm, supply)
    slower, leakier = _multiplier_ratios(library, base)
    return Scale(
        node_area=at.area_factor,
        area=at.area_factor * base.run.nand2_area_um2 / library.run.nand2_area_um2,
        energy=energy,
        # Leakage is a process's rather than a circuit's: NAND2 for NAND2 that of the library at 45 nm, and from there
        # with the energy.
        leakage=(base.anchor_factor if anchored else 1.0) * from_base / leakier,
        delay=1 / slower,
        length=at.area_factor**0.5,
        wire=(supply / constant("wire_energy_supply")) ** 2,
        base_supply_v=base_v,
        supply_v=supply,
    )


def _raw_energy(library: Library, node_nm: int, supply_v: float) -> float:
    anchored = "technology.energy_scale: anchored takes any library"
    if library.run.node_nm is None:
        raise AccelSimError(
            f"raw energies of {library.name} cannot be scaled: its run does not name the node; {anchored}"
        )
    try:
        return energy_ratio(library.run.node_nm, library.run.supply_v, node_nm, supply_v)
    except AccelSimError as unknown:
        raise AccelSimError(f"raw energies of {library.name} cannot be scaled: {unknown}; {anchored}") from None


def _multiplier_ratios(library: Library, base: Library) -> tuple[float, float]:
    """(delay, leakage a NAND2-equivalent) of a library's multiplier over that of the base library."""
    own, other = library.unit("multiplier"), base.unit("multiplier")
    return own.delay_ns / other.delay_ns, (own.leakage_nw / own.nand2) / (other.leakage_nw / other.nand2)


def library_rule(technology: Technology) -> str:
    """How the library's figures come to 45 nm, in a few words; nothing to say of the one that stands there."""
    library = load_library(technology.library)
    if library is load_library(BASE):
        return ""
    node_text = "" if library.run.node_nm is None else f"{library.run.node_nm:g} nm, "
    energy = "own anchor" if technology.energy_scale == "anchored" else "node polynomials"
    return (
        f"measured at {node_text}{library.run.supply_v:g} V and brought to {BASE_NM} nm:"
        f" area by NAND2-equivalents, energy by {energy}, delay and leakage by the multiplier's"
    )


def scaling_sources(technology: Technology) -> list[Source]:
    """The figures behind `Scale.of`."""
    scale, library = Scale.of(technology), load_library(technology.library)
    rows = library.run.sources()
    anchors = [constants()[name] for name in ("anchor_multiply", "anchor_add", "anchor_supply")]
    if technology.energy_scale == "anchored":
        rule = "mean over multiplier and adder of the published energy over the library's, to three digits"
        rows += [Source(f"{library.name} anchor factor", library.anchor_factor, "1", "computed", rule), *anchors]
    if library is not load_library(BASE):
        rows += _library_sources(library, scale)
    if technology.node_nm != BASE_NM or scale.supply_v != scale.base_supply_v:
        source = next(row["source"] for row in table("nodes") if row["node_nm"] == str(technology.node_nm))
        ratio = energy_ratio(BASE_NM, scale.base_supply_v, technology.node_nm, scale.supply_v)
        supplies = f"{scale.base_supply_v:g} V to {technology.node_nm} nm {scale.supply_v:g} V"
        rows += [
            Source(f"area factor 45 nm to {technology.node_nm} nm", scale.node_area, "1", "published", source),
            Source(f"energy factor 45 nm {supplies}", ratio, "1", "computed", source),
            constants()["node_leakage_rule"],
        ]
    return rows


def _library_sources(library: Library, scale: Scale) -> list[Source]:
    """The factors that bring another library's figures to 45 nm."""
    base = load_library(BASE)
    to_base = f"{library.name} to {BASE_NM} nm"
    nand2 = base.run.nand2_area_um2 / library.run.nand2_area_um2
    return [
        Source(f"area factor {to_base}", nand2, "1", "computed", f"NAND2 of {base.name} over its own"),
        Source(f"delay factor {to_base}", scale.delay, "1", "computed", f"multiplier of {base.name} over its own"),
        Source(
            f"leakage factor {to_base}",
            scale.leakage,
            "1",
            "computed",
            f"leakage a NAND2-equivalent of {base.name}'s multiplier over its own, on the report's energy scale",
        ),
    ]
