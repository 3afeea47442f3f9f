"""A run as files: units.csv, processing_elements.csv, closed_forms.csv, run.json, report.md."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from accel_sim import __version__
from accel_sim.cost.forms import FITTED_BITS, FORMS, TERMS, fit_unit
from accel_sim.errors import AccelSimError
from accel_sim.files import replacing
from accel_sim.synthesis.measure import Measurement
from accel_sim.synthesis.report import report
from accel_sim.synthesis.run import Run
from accel_sim.synthesis.unit import Unit

Row = dict[str, object]

UNIT_COLUMNS = (
    "unit", "n", "m", "lanes", "bits", "area_um2", "nand2", "cells", "flip_flops", "delay_ns", "mapper_delay_ns",
    "energy_pj", "leakage_nw", "source",
)  # fmt: skip
ELEMENT_COLUMNS = (
    "lanes", "n", "m", "operand_mux", "metadata", "operand_mux_register", "area_um2", "nand2", "cells", "flip_flops",
    "delay_ns", "energy_pj", "random_energy_pj", "leakage_nw", "noise_low_um2", "noise_high_um2", "source",
)  # fmt: skip
FORM_COLUMNS = ("kind", "coefficient", "form", "rms_percent", "worst_percent", "rows", "status", "source")


def write_run(run: Run) -> list[Path]:
    """Write a run into its folder, each file whole or not at all, and return their paths."""
    units, elements = unit_rows(run), element_rows(run)
    forms = form_rows(units)
    record = run_record(run)
    content = {
        "units.csv": _csv(UNIT_COLUMNS, units),
        "processing_elements.csv": _csv(ELEMENT_COLUMNS, elements),
        "closed_forms.csv": _csv(FORM_COLUMNS, forms),
        "run.json": json.dumps(record, indent=2, ensure_ascii=False) + "\n",
        "report.md": report(record, elements, forms),
    }
    for name, text in content.items():
        with replacing(run.request.out / name) as file:
            file.write(text)
    return [run.request.out / name for name in content]


def unit_rows(run: Run) -> list[Row]:
    """One row a circuit that is no whole processing element, whether it could be mapped or not."""
    rows = []
    for unit in run.units:
        if unit.processing_element:
            continue
        found = run.measurements[unit.key]
        shape = {"unit": unit.name, "n": unit.n, "m": unit.m, "lanes": unit.lanes, "bits": unit.bits}
        rows.append({**shape, **_figures(run, unit, found, UNIT_COLUMNS)})
    return rows


def element_rows(run: Run) -> list[Row]:
    """One row a whole processing element."""
    rows = []
    for unit in run.units:
        if not unit.processing_element:
            continue
        found = run.measurements[unit.key]
        operand_mux, metadata, register = unit.processing_element
        areas = [found.area_um2, *found.remapped_um2] if found.area_um2 else []
        rows.append(
            {
                "lanes": unit.lanes,
                "n": unit.n,
                "m": unit.m,
                "operand_mux": operand_mux if unit.n else None,
                "metadata": metadata if unit.n else None,
                "operand_mux_register": str(register).lower() if unit.n else None,
                **_figures(run, unit, found, ELEMENT_COLUMNS),
                "noise_low_um2": _rounded(min(areas, default=None)),
                "noise_high_um2": _rounded(max(areas, default=None)),
            }
        )
    return rows


def form_rows(units: Iterable[Row]) -> list[Row]:
    """The closed forms that there are enough rows for, fitted to them."""
    by_unit: dict[str, list[tuple[int, int, int, float]]] = {}
    for row in units:
        if row["nand2"]:  # what is all wires (a bitmap of one kept element is one-hot already) has no area to fit
            size = row["lanes"] or row["m"] or 1
            by_unit.setdefault(str(row["unit"]), []).append((row["n"] or 1, size, row["bits"], row["nand2"]))
    rows = []
    for name in dict.fromkeys([*FORMS, *TERMS]):
        if name not in by_unit:
            continue
        try:
            fits = fit_unit(name, by_unit[name])
        except AccelSimError:
            continue  # fewer rows than coefficients: a run over few patterns has no form for this unit
        for fit in fits:
            for kind, coefficient in fit.coefficients.items():
                rows.append(
                    {
                        "kind": kind,
                        "coefficient": f"{coefficient:.4g}",
                        "form": FORMS[kind].text,
                        "rms_percent": f"{fit.rms_percent:.1f}",
                        "worst_percent": f"{fit.worst_percent:.1f}",
                        "rows": fit.rows,
                        "status": "computed",
                        "source": f"relative least squares over the rows of units.csv ({FITTED_BITS} bit where the form"
                        " has no width), NAND2-equivalents",
                    }
                )
    return rows


def run_record(run: Run) -> dict:
    """run.json: what the run is of and was made with; `units_s` adds up over units, `wall_s` is of the last start."""
    import amaranth

    library, flow = run.library, run.request.flow
    return {
        "schema_version": 1,
        "library": run.request.name,
        "liberty_file": run.request.liberty.name,
        "liberty_sha256": library.sha256,
        "node_nm": run.request.node_nm,
        "supply_v": library.voltage_v,
        "temperature_c": library.temperature_c,
        "nand2_cell": library.nand2.name,
        "nand2_area_um2": library.nand2.area_um2,
        "flip_flop": {name: _rounded(value) for name, value in run.flip_flop.items()},
        "tools": {"yosys": run.yosys, "amaranth": amaranth.__version__, "accel_sim": __version__},
        "flow": {
            "options": flow.options,
            "booth": flow.booth,
            "time_limit_s": flow.time_limit_s,
            "remappings": run.request.remappings,
            "wire_pf_a_sink": _rounded(_wire_pf(run)),
            "input_transition_ns": _rounded(_slew_ns(run)),
        },
        "operands": run.operands,
        "date": datetime.now(UTC).date().isoformat(),
        "wall_s": round(run.wall_s, 1),
        "unit_rows": sum(not unit.processing_element for unit in run.units),
        "units_s": round(sum(each.wall_s for each in run.measurements.values()), 1),
    }


def _wire_pf(run: Run) -> float:
    from accel_sim.synthesis.timing import wire_pf

    return wire_pf(run.library)


def _slew_ns(run: Run) -> float:
    from accel_sim.synthesis.timing import typical_slew_ns

    return typical_slew_ns(run.library)


def _figures(run: Run, unit: Unit, found: Measurement, columns: tuple[str, ...]) -> Row:
    source = f"{run.request.liberty.name}, {run.yosys.split(' (')[0]}, {datetime.now(UTC).date().isoformat()}"
    area = found.area_um2
    figures = {
        "area_um2": area,
        "nand2": None if area is None else area / run.library.nand2.area_um2,
        "cells": found.cells,
        "flip_flops": found.flip_flops,
        "delay_ns": found.delay_ns,
        "mapper_delay_ns": found.mapper_delay_ns,
        "energy_pj": found.energy_pj,
        "random_energy_pj": found.random_energy_pj,
        "leakage_nw": found.leakage_nw,
        "source": f"{source}; {found.failure}" if found.failure else source,
    }
    return {name: _rounded(value) for name, value in figures.items() if name in columns}


def _rounded(value: object) -> object:
    """Five significant digits: more than any of these figures is good for."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _csv(columns: tuple[str, ...], rows: Iterable[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if row[name] is None else row[name] for name in columns} for row in rows)
    return text.getvalue()
