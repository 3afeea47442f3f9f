"""The committed runs: complete, consistent, and what the page about them says."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

pytest.importorskip("amaranth", reason="pip install 'accel_sim[rtl]'")

from accel_sim.cost import tables
from accel_sim.synthesis.catalogue import catalogue
from accel_sim.synthesis.report import taxes
from accel_sim.synthesis.table import form_rows

LIBRARIES = ("sg13g2", "osu018")
PAGE = Path(__file__).parent.parent / "docs" / "synthesis.md"


def rows(library: str, name: str) -> list[dict]:
    """A table with numbers for what are numbers, None for empty cells."""

    def value(text: str) -> object:
        try:
            return int(text) if text.isdigit() else float(text)
        except ValueError:
            return text or None

    with (tables.FOLDER / library / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return [{column: value(text) for column, text in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_unit_of_the_catalogue_was_measured(library):
    units, elements = rows(library, "units"), rows(library, "processing_elements")
    assert len(units) + len(elements) == len(catalogue())
    assert all(row["area_um2"] is not None and row["delay_ns"] is not None for row in [*units, *elements])
    assert all(row["noise_low_um2"] <= row["area_um2"] <= row["noise_high_um2"] for row in elements)


@pytest.mark.parametrize("library", LIBRARIES)
def test_nand2_equivalents_and_closed_forms_follow_from_the_areas(library):
    units = rows(library, "units")
    nand2 = json.loads((tables.FOLDER / library / "run.json").read_text())["nand2_area_um2"]
    assert all(row["nand2"] == pytest.approx(row["area_um2"] / nand2, rel=1e-4) for row in units)
    stored = {row["kind"]: row["coefficient"] for row in rows(library, "closed_forms")}
    fitted = {row["kind"]: float(row["coefficient"]) for row in form_rows(units)}
    assert fitted.keys() == stored.keys()
    assert all(stored[kind] == pytest.approx(value, rel=1e-3) for kind, value in fitted.items())


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_pages_table_of_patterns_is_the_runs(library):
    text = PAGE.read_text(encoding="utf-8")
    for row in taxes(rows(library, "processing_elements")):
        kind = (row["lanes"], row["operand_mux"], row["metadata"], row["operand_mux_register"])
        if kind == (16, "onehot", "bitmap", "false") and row["pattern"] in ("2:4", "4:8", "8:16", "16:32"):
            line = next(line for line in text.splitlines() if line.startswith(f"| {library} | {row['pattern']} |"))
            shown = [f"{100 * row['area_tax']:.1f} %", f"{100 * row['energy_tax']:.1f} %", f"{row['area_gain']:.2f}×"]
            assert [cell for cell in shown if cell not in line] == []
