"""A study as files: two pictures, each as PNG and SVG, and the data behind them as CSV and JSON."""

from __future__ import annotations

import csv
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accel_sim.files import replacing
from accel_sim.study.figures import figure_bytes
from accel_sim.study.pareto import ENERGY_AND_AREA, TRADE_OFF, front
from accel_sim.study.plots import draw_energy_area, draw_trade_off
from accel_sim.study.points import Point

SCHEMA_VERSION = 1


def write_study(
    points: Sequence[Point], overall: Sequence[Point], sources: Mapping[str, str], folder: Path
) -> list[Path]:
    """Write everything about a study to `folder` and return the paths.

    `points` has every design on every workload, `overall` every design on all the work; the pictures show the
    latter. `sources` says what each workload is. OSError (a full disk) passes through with no file half written.
    """
    rows = data_rows(points, overall)
    contents: dict[str, bytes] = {}
    title = "; ".join(sources.values()) if len(sources) < 3 else f"{len(sources)} workloads: {', '.join(sources)}"
    for name, draw, width in (("pareto", draw_trade_off, 165), ("energy_area", draw_energy_area, 96)):
        figure = draw(overall, textwrap.fill(title, width, break_on_hyphens=False))
        contents |= {f"{name}.{kind}": figure_bytes(figure, kind) for kind in ("png", "svg")}
    contents["pareto.json"] = _json(rows, sources).encode()
    for name, content in contents.items():
        with replacing(folder / name, "wb") as stream:
            stream.write(content)
    with replacing(folder / "pareto.csv") as stream:
        table = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    return [folder / name for name in (*contents, "pareto.csv")]


def data_rows(points: Sequence[Point], overall: Sequence[Point]) -> list[dict[str, Any]]:
    """Every point as a flat row, with its membership of both fronts among the points of the same work."""
    if list(points) == list(overall):
        return _rows(points)
    workloads = dict.fromkeys(point.workload for point in points)
    alike = [[point for point in points if point.workload == workload] for workload in workloads]
    return [row for members in (*alike, overall) for row in _rows(members)]


def _rows(points: Sequence[Point]) -> list[dict[str, Any]]:
    fronts = zip(front(points, TRADE_OFF), front(points, ENERGY_AND_AREA), strict=True)
    return [
        {**asdict(point), "on_front": on_front, "on_energy_area_front": on_energy}
        for point, (on_front, on_energy) in zip(points, fronts, strict=True)
    ]


def _json(rows: Sequence[Mapping[str, Any]], sources: Mapping[str, str]) -> str:
    def described(objectives) -> dict[str, str]:
        return {each.quantity: "maximise" if each.maximise else "minimise" for each in objectives}

    content = {
        "schema_version": SCHEMA_VERSION,
        "front": described(TRADE_OFF),
        "energy_area_front": described(ENERGY_AND_AREA),
        "workloads": dict(sources),
        "points": list(rows),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
