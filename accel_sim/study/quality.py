"""Measured perplexities in place of the simulator's own measure of quality."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from accel_sim.errors import AccelSimError
from accel_sim.study.points import Point

PERPLEXITY = "perplexity"
"""The `quality_kind` of points whose quality was measured."""
_COLUMNS = ["name", "perplexity"]


def read_perplexities(path: Path) -> dict[str, float]:
    """Perplexities by name: a JSON object `{"dense": 7.21, "8:16": 10.32}`, or CSV with columns name, perplexity.

    Raises AccelSimError, naming file and entry, for anything else and for values below 1.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AccelSimError(f"--quality {path}: cannot be read: {getattr(error, 'strerror', error)}") from None
    entries = _csv_entries(path, text) if path.suffix.lower() == ".csv" else _json_entries(path, text)
    if not entries:
        raise AccelSimError(f"--quality {path}: holds no perplexity")
    return {name: _perplexity(path, name, value) for name, value in entries.items()}


def with_perplexities(points: Iterable[Point], perplexities: dict[str, float]) -> list[Point]:
    """The points with the perplexity of their label, machine or pattern (`dense` without one) as their quality.

    Raises AccelSimError listing the points that none was given for.
    """
    replaced, missing = [], []
    for point in points:
        names = [point.label, point.arch, point.pattern]
        found = next((perplexities[name] for name in names if name in perplexities), None)
        if found is None:
            missing.append(" or ".join(dict.fromkeys(names)))
        else:
            replaced.append(replace(point, quality_loss=found, quality_kind=PERPLEXITY, quality_standard_error=None))
    if missing:
        raise AccelSimError(f"--quality: no perplexity for {', '.join(dict.fromkeys(missing))}")
    return replaced


def _json_entries(path: Path, text: str) -> dict[str, object]:
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise AccelSimError(f"--quality {path}: not valid JSON: {error}") from None
    if not isinstance(entries, dict):
        raise AccelSimError(f'--quality {path}: expected one object, such as {{"dense": 7.21, "8:16": 10.32}}')
    return entries


def _csv_entries(path: Path, text: str) -> dict[str, object]:
    rows = csv.DictReader(io.StringIO(text))
    if rows.fieldnames is None or not set(_COLUMNS) <= set(rows.fieldnames):
        raise AccelSimError(f"--quality {path}: expected the columns {', '.join(_COLUMNS)}")
    return {row["name"]: row["perplexity"] for row in rows}


def _perplexity(path: Path, name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not 1 <= number < math.inf:
        raise AccelSimError(f"--quality {path}: {name}: expected a perplexity of at least 1, not {value!r}")
    return number
