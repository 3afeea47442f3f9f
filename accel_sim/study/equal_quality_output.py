"""A study at equal quality as files: a picture, the data (JSON, CSV), a table (Markdown), and the recipes it found."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path as FilePath
from typing import Any

from accel_sim.evaluation.skipping import recipe_text
from accel_sim.files import replacing
from accel_sim.study.equal_quality import Answer, EqualQuality
from accel_sim.study.equal_quality_plots import draw_equal_quality
from accel_sim.study.figures import light_bytes
from accel_sim.study.text import csv_text, json_text, markdown_table

SCHEMA_VERSION = 1
HEADER = (
    "perplexity over dense", "machine", "coverage", "measured", "95 %", "speed-up", "equal area", "energy of dense",
)  # fmt: skip


def write_equal_quality(study: EqualQuality, about: Mapping[str, Any], folder: FilePath) -> list[FilePath]:
    """Write everything to `folder` and return the paths. `about` says what was measured and simulated, and goes into
    the data. OSError passes through with no file half written."""
    recipes = {
        (path.machine, point.recipe): f"recipes/{_file_name(point.recipe)}.yaml"
        for path in study.paths
        for point in path.points
        if any(answer.point == point for answer in study.answers)
    }
    rows = [asdict(point) for path in study.paths for point in path.points]
    answers = [
        asdict(one) | {"file": recipes[one.machine, one.point.recipe] if one.point else None} for one in study.answers
    ]
    reversals = [line for path in study.paths for line in path.reversals]
    header = {"schema_version": SCHEMA_VERSION, **about, "evaluations": study.evaluations, "reversals": reversals}
    title = textwrap.fill(f"{about['source']}; quality of {about['model']} on held-out text", 150)
    figure = draw_equal_quality(study, title)
    contents = {
        "equal_quality.json": json_text(header | {"answers": answers, "points": rows}).encode(),
        "equal_quality.csv": csv_text(rows).encode(),
        "equal_quality.md": markdown(study, about).encode(),
        **{f"equal_quality.{kind}": light_bytes(figure, kind) for kind in ("png", "svg")},
    }
    for path in study.paths:
        for point in path.points:
            if (path.machine, point.recipe) in recipes:
                contents[recipes[path.machine, point.recipe]] = recipe_text(path.recipe(point)).encode()
    for name, content in contents.items():
        with replacing(folder / name, "wb") as stream:
            stream.write(content)
    return [folder / name for name in contents]


def row(answer: Answer) -> list[str]:
    """One line of the table, as `HEADER` names its cells."""
    budget = f"≤ {answer.budget:.1%}"
    point = answer.point
    if point is None:
        return [budget, answer.machine, f"none: {answer.reason}", *["—"] * 5]
    return [
        budget,
        answer.machine,
        f"{point.coverage:.1%}",
        f"{point.over_dense:+.2%}",
        f"{point.over_dense_low:+.1%} … {point.over_dense_high:+.1%}" + ("" if answer.certain else " *"),
        f"{point.speedup:.3f}",
        f"{point.speedup_iso_area:.3f}",
        f"{point.energy_of_dense:.3f}",
    ]


FOOTNOTE = "* the upper end of the interval is beyond the budget: on other text the recipe may cost more"


def markdown(study: EqualQuality, about: Mapping[str, Any]) -> str:
    """What each machine gains within each budget, and what to know about it."""
    parts = [
        f"Machines at equal quality: {about['source']}; perplexity of {about['model']} on {about['tokens']} held-out"
        f" tokens, {study.evaluations} recipes measured.\n",
        markdown_table(HEADER, [row(one) for one in study.answers]),
    ]
    if any(one.point and not one.certain for one in study.answers):
        parts.append(f"{FOOTNOTE.replace('* ', chr(92) + '* ', 1)}\n")
    parts += [f"* {line}\n" for path in study.paths for line in path.reversals]
    return "\n".join(parts)


def _file_name(recipe: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", recipe).strip("_")
