"""From the 45 nm tables to the asked node: Stillmaker and Baas, Integration 58 (2017) 74-81.

Area scales by a factor a node, energy by the ratio of one polynomial a·V² + b·V + c a node, each at its own supply.
Delay is kept at 45 nm: the source of these tables gives no delay rule, so clocks of smaller nodes are pessimistic.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from functools import cache
from itertools import pairwise

from accel_sim.arch.schema import Technology
from accel_sim.cost.tables import Source, constant, constants, table
from accel_sim.errors import AccelSimError

BASE_NM = 45
RULE = "Stillmaker and Baas 2017: area by a factor a node, energy by the ratio of a·V² + b·V + c; delay kept at 45 nm"


@dataclass(frozen=True)
class Node:
    """One row of the scaling table, or a node between two rows on a line."""

    node_nm: float
    area_factor: float
    """Area over the same circuit's at 45 nm."""
    energy_a: float
    energy_b: float
    energy_c: float
    nominal_supply_v: float

    def energy(self, supply_v: float) -> float:
        """The energy polynomial at a supply; only ratios of it mean anything."""
        return self.energy_a * supply_v**2 + self.energy_b * supply_v + self.energy_c


@cache
def node(node_nm: float) -> Node:
    """A node of the table, or one between two of them on a line in node_nm. Raises AccelSimError outside the table."""
    rows = sorted(
        (
            Node(**{field.name: float(row[field.name]) for field in fields(Node)})  # columns are named as the fields
            for row in table("nodes")
        ),
        key=lambda row: row.node_nm,
    )
    for row in rows:
        if row.node_nm == node_nm:
            return row
    for below, above in pairwise(rows):
        if below.node_nm < node_nm < above.node_nm:
            share = (node_nm - below.node_nm) / (above.node_nm - below.node_nm)
            pairs = zip(astuple(below), astuple(above), strict=True)
            return Node(*(low + share * (high - low) for low, high in pairs))
    raise AccelSimError(f"node {node_nm} nm: the scaling table runs from {rows[0].node_nm:g} to {rows[-1].node_nm:g}")


def energy_ratio(from_nm: float, from_v: float, to_nm: float, to_v: float) -> float:
    """Energy of a circuit at one node and supply over its energy at another."""
    return node(to_nm).energy(to_v) / node(from_nm).energy(from_v)


@dataclass(frozen=True)
class Scale:
    """The factors that one technology section puts on every 45 nm figure."""

    area: float
    """Logic area, without utilisation."""
    energy: float
    """Logic energy and leakage: energy scale (raw or anchored) times the node's ratio."""
    length: float
    """Wire pitch: the square root of the area factor."""
    wire: float
    """Wire energy: the square of the supply over that of the wire figures; capacitance a mm stays."""
    base_supply_v: float
    """Supply at which the unscaled logic energies hold."""
    supply_v: float

    @classmethod
    def of(cls, technology: Technology) -> Scale:
        anchored = technology.energy_scale == "anchored"
        base_v = constant("anchor_supply" if anchored else "library_supply")
        at = node(technology.node_nm)
        nominal = base_v if technology.node_nm == BASE_NM else at.nominal_supply_v
        supply = nominal if technology.supply_v is None else technology.supply_v
        return cls(
            area=at.area_factor,
            energy=(constant("anchor_factor") if anchored else 1.0)
            * energy_ratio(BASE_NM, base_v, technology.node_nm, supply),
            length=at.area_factor**0.5,
            wire=(supply / constant("wire_energy_supply")) ** 2,
            base_supply_v=base_v,
            supply_v=supply,
        )


def scaling_sources(technology: Technology) -> list[Source]:
    """The figures behind `Scale.of`."""
    scale = Scale.of(technology)
    rows: list[Source] = []
    if technology.energy_scale == "anchored":
        rows += [constants()["anchor_factor"], constants()["anchor_supply"]]
    if technology.node_nm != BASE_NM or scale.supply_v != scale.base_supply_v:
        source = next(row["source"] for row in table("nodes") if row["node_nm"] == str(technology.node_nm))
        rows += [
            Source(f"area factor 45 nm to {technology.node_nm} nm", scale.area, "1", "published", source),
            Source(
                f"energy factor 45 nm {scale.base_supply_v:g} V to {technology.node_nm} nm {scale.supply_v:g} V",
                energy_ratio(BASE_NM, scale.base_supply_v, technology.node_nm, scale.supply_v),
                "1",
                "computed",
                source,
            ),
            constants()["node_leakage_rule"],
        ]
    return rows
