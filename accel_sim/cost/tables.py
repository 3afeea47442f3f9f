"""The data files beside this module, read once. Every row of every file carries its source."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from accel_sim.errors import AccelSimError

Status = Literal["measured", "published", "computed", "extrapolated", "assumed"]
"""measured: on own netlists; published: read in the source; computed: from other rows by a stated rule;
extrapolated: the rule is used outside what it was fitted to; assumed: a choice of this model."""

FOLDER = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Source:
    """One figure of a report with where it comes from."""

    quantity: str
    value: float
    unit: str
    status: Status
    source: str
    low: float | None = None
    """Lower end of the figure's band, where its source gives one."""
    high: float | None = None


@dataclass(frozen=True)
class Constant(Source):
    """A single figure of constants.csv."""

    used_by: str = "always"
    """What switches the figure on: always, node, wires, zero_gating, …"""


@cache
def table(name: str) -> tuple[dict[str, str], ...]:
    """The rows of data/NAME.csv as dictionaries of strings, in file order."""
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def number(text: str) -> float | None:
    """A cell as a float; None for an empty cell."""
    return float(text) if text else None


@cache
def constants() -> dict[str, Constant]:
    """constants.csv by name."""
    return {
        row["name"]: Constant(
            quantity=row["name"],
            value=float(row["value"]),
            unit=row["unit"],
            status=row["status"],
            source=row["source"],
            low=number(row["low"]),
            high=number(row["high"]),
            used_by=row["used_by"],
        )
        for row in table("constants")
    }


def constant(name: str) -> float:
    """The value of one figure of constants.csv."""
    return constants()[name].value


@cache
def dram(kind: str) -> Source:
    """Energy per bit of a kind of DRAM, device and interface. Raises AccelSimError for a kind without a row."""
    for row in table("dram"):
        if row["kind"] == kind:
            return Source(f"DRAM {kind}", float(row["pj_per_bit"]), "pJ/bit", row["status"], row["source"])
    raise AccelSimError(f"dram.kind {kind!r}: known kinds: {', '.join(row['kind'] for row in table('dram'))}")
