"""A synthesis run: the folder of tables that one cell library gave, shipped or written by a user.

`run.json` says what was run on which library, `units.csv` has a row for every synthesised circuit, `closed_forms.csv`
the coefficients fitted to them, and `processing_elements.csv`, where there is one, whole elements to check sums of
parts against. Everything is read and checked here, once; nothing is completed or scaled.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, fields
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

from accel_sim.cost.forms import FITTED_BITS, FORMS
from accel_sim.cost.tables import FOLDER, Source, Status, number
from accel_sim.errors import AccelSimError

SCHEMA_VERSION = 1
_NEEDED = ("run.json", "units.csv", "closed_forms.csv")


@dataclass(frozen=True)
class Row:
    """One row of units.csv; None where the run has no figure."""

    unit: str
    n: int | None
    m: int | None
    lanes: int | None
    bits: int
    area_um2: float
    """0 for a circuit that is all wires."""
    flip_flops: int
    delay_ns: float | None
    """Static timing: from clock or input to setup or output."""
    mapper_delay_ns: float | None
    energy_pj: float | None
    """One operation, which is one cycle."""
    leakage_nw: float | None
    source: str

    @property
    def shape(self) -> tuple[int | None, int | None, int | None, int]:
        return self.n, self.m, self.lanes, self.bits


@dataclass(frozen=True)
class ElementRow:
    """One whole synthesised processing element; n and m are None for the dense one."""

    lanes: int
    n: int | None
    m: int | None
    operand_mux: str
    metadata: str
    operand_mux_register: bool
    area_um2: float
    flip_flops: int
    delay_ns: float | None
    energy_pj: float | None
    random_energy_pj: float | None
    leakage_nw: float | None
    noise_low_um2: float | None
    """Least area over other mappings of the same netlist."""
    noise_high_um2: float | None


@dataclass(frozen=True)
class Coefficient:
    """NAND2-equivalents a piece of one closed form, as fitted to the run's rows."""

    kind: str
    value: float
    rms_percent: float
    worst_percent: float
    status: Status
    source: str

    @property
    def text(self) -> str:
        return f"{self.value:g} × {FORMS[self.kind].text} NAND2"


@dataclass(frozen=True)
class FlipFlop:
    """One register bit of the library."""

    cell: str
    area_um2: float
    clock_energy_pj: float
    """A cycle, clock pin included."""
    data_energy_pj: float
    """Loading one random bit."""
    leakage_nw: float
    clock_to_q_ns: float
    setup_ns: float


@dataclass(frozen=True, eq=False)
class SynthesisRun:
    """What one folder holds. Compared by identity: a folder is read once."""

    library: str
    folder: Path
    node_nm: float | None
    """None where whoever ran it did not say."""
    supply_v: float
    nand2_cell: str
    nand2_area_um2: float
    flip_flop: FlipFlop
    facts: dict[str, Any]
    """run.json as it stands."""
    rows: tuple[Row, ...]
    coefficients: dict[str, Coefficient]
    elements: tuple[ElementRow, ...]
    """Empty where the run has none."""

    def sources(self) -> list[Source]:
        """The library's own figures, each with where it was read."""
        cell, given = self.flip_flop.cell, self.facts.get("sources", {})
        where = f"Liberty file {self.facts['liberty_file']}"

        def figure(name: str, value: float, unit: str, key: str) -> Source:
            return Source(f"{self.library} {name}", value, unit, "published", given.get(key, where))

        units = {"area_um2": "um2", "clock_energy_pj": "pJ", "data_energy_pj": "pJ", "leakage_nw": "nW"}
        units |= {"clock_to_q_ns": "ns", "setup_ns": "ns"}
        return [
            figure(f"{self.nand2_cell}: area", self.nand2_area_um2, "um2", "nand2_area_um2"),
            figure("supply", self.supply_v, "V", "supply_v"),
            *(
                figure(f"{cell}: {name}", getattr(self.flip_flop, name), unit, f"flip_flop.{name}")
                for name, unit in units.items()
            ),
        ]


def shipped() -> tuple[str, ...]:
    """Names of the runs beside this module."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob("*/run.json")))


@cache
def synthesis_run(library: str) -> SynthesisRun:
    """The shipped run of that name, else the folder of that path.

    Raises AccelSimError where there is neither, or the folder lacks a file or holds what cannot be read.
    """
    folder = FOLDER / library if library in shipped() else Path(library)
    if not folder.is_dir():
        known = ", ".join(shipped())
        raise AccelSimError(f"technology.library {library!r}: known: {known}, or the folder of a synthesis run")
    for name in _NEEDED:
        if not (folder / name).is_file():
            raise AccelSimError(f"{folder}: not a synthesis run: no {name}")
    facts = _facts(folder / "run.json")
    try:
        return SynthesisRun(
            library=facts["library"],
            folder=folder,
            node_nm=None if facts["node_nm"] is None else float(facts["node_nm"]),
            supply_v=float(facts["supply_v"]),
            nand2_cell=facts["nand2_cell"],
            nand2_area_um2=float(facts["nand2_area_um2"]),
            flip_flop=_flip_flop(facts["flip_flop"]),
            facts=facts,
            rows=_unit_rows(folder / "units.csv", facts.get("unit_rows")),
            coefficients=_coefficients(folder / "closed_forms.csv"),
            elements=_element_rows(folder / "processing_elements.csv"),
        )
    except AccelSimError:
        raise  # of another of the folder's files, which it names
    except KeyError as missing:
        raise AccelSimError(f"{folder / 'run.json'}: no {missing}") from None
    except (TypeError, ValueError) as wrong:
        raise AccelSimError(f"{folder / 'run.json'}: {wrong}") from None


def _flip_flop(facts: dict[str, Any]) -> FlipFlop:
    return FlipFlop(facts["cell"], *(float(facts[field.name]) for field in fields(FlipFlop) if field.name != "cell"))


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as wrong:
        raise AccelSimError(f"{path}: not JSON: {wrong}") from None
    version = facts.get("schema_version") if isinstance(facts, dict) else None
    if version != SCHEMA_VERSION:
        raise AccelSimError(f"{path}: schema_version {version!r}; this version reads {SCHEMA_VERSION}")
    return facts


def _table(path: Path) -> list[tuple[str, dict[str, str]]]:
    """(where, row) of every row. Raises AccelSimError for one that is cut short, which an empty cell is not."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(f"{path} line {line}", row) for line, row in enumerate(csv.DictReader(file), start=2)]
    for where, row in rows:
        if None in row.values():
            raise AccelSimError(f"{where}: fewer cells than columns")
    return rows


def _whole(text: str) -> int | None:
    return int(text) if text else None


def _unit_rows(path: Path, expected: int | None) -> tuple[Row, ...]:
    rows: dict[tuple[Any, ...], Row] = {}
    lines = list(_table(path))
    if expected not in (None, len(lines)):
        raise AccelSimError(f"{path}: {len(lines)} rows, but run.json says {expected}")
    for where, cells in lines:
        if cells.get("area_um2") == "":
            continue  # could not be mapped
        row = _read(where, cells, _unit_row)
        for name in ("area_um2", "delay_ns", "energy_pj", "leakage_nw"):
            value = getattr(row, name)
            if value is not None and not 0 <= value < inf:
                raise AccelSimError(f"{where}: {name} {value:g}; expected 0 or more")
        if (row.unit, *row.shape) in rows:
            raise AccelSimError(f"{where}: a second row of {row.unit} with n, m, lanes, bits = {row.shape}")
        rows[row.unit, *row.shape] = row
    return tuple(rows.values())


def _unit_row(cells: dict[str, str]) -> Row:
    return Row(
        unit=cells["unit"],
        n=_whole(cells["n"]),
        m=_whole(cells["m"]),
        lanes=_whole(cells["lanes"]),
        bits=_whole(cells["bits"]) or FITTED_BITS,
        area_um2=float(cells["area_um2"]),
        flip_flops=_whole(cells["flip_flops"]) or 0,
        delay_ns=number(cells["delay_ns"]),
        mapper_delay_ns=number(cells["mapper_delay_ns"]),
        energy_pj=number(cells["energy_pj"]),
        leakage_nw=number(cells["leakage_nw"]),
        source=cells["source"],
    )


def _coefficients(path: Path) -> dict[str, Coefficient]:
    def coefficient(cells: dict[str, str]) -> Coefficient:
        return Coefficient(
            kind=cells["kind"],
            value=float(cells["coefficient"]),
            rms_percent=float(cells["rms_percent"]),
            worst_percent=float(cells["worst_percent"]),
            status=cells["status"],
            source=cells["source"],
        )

    found = {}
    for where, cells in _table(path):
        one = _read(where, cells, coefficient)
        if one.kind not in FORMS:
            raise AccelSimError(f"{where}: closed form {one.kind!r} is not one of {', '.join(FORMS)}")
        if cells["form"] != FORMS[one.kind].text:
            raise AccelSimError(f"{where}: {one.kind} was fitted to {cells['form']}, not {FORMS[one.kind].text}")
        found[one.kind] = one
    return found


def _element_rows(path: Path) -> tuple[ElementRow, ...]:
    def element(cells: dict[str, str]) -> ElementRow:
        return ElementRow(
            lanes=int(cells["lanes"]),
            n=_whole(cells["n"]),
            m=_whole(cells["m"]),
            operand_mux=cells["operand_mux"],
            metadata=cells["metadata"],
            operand_mux_register=cells["operand_mux_register"].lower() == "true",
            area_um2=float(cells["area_um2"]),
            flip_flops=int(cells["flip_flops"]),
            delay_ns=number(cells["delay_ns"]),
            energy_pj=number(cells["energy_pj"]),
            random_energy_pj=number(cells["random_energy_pj"]),
            leakage_nw=number(cells["leakage_nw"]),
            noise_low_um2=number(cells["noise_low_um2"]),
            noise_high_um2=number(cells["noise_high_um2"]),
        )

    if not path.is_file():
        return ()
    return tuple(_read(where, cells, element) for where, cells in _table(path) if cells.get("area_um2") != "")


def _read(where: str, cells: dict[str, str], build: Any) -> Any:
    """`build` of one row's cells, with what is wrong with them said in a line."""
    try:
        return build(cells)
    except KeyError as missing:
        raise AccelSimError(f"{where}: no column {missing}") from None
    except (TypeError, ValueError) as wrong:
        raise AccelSimError(f"{where}: {wrong}") from None
