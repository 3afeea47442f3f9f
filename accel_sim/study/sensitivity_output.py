"""A sensitivity study as files: the recipe that follows, a picture, the data (JSON, CSV) and tables (Markdown)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from accel_sim.errors import AccelSimError
from accel_sim.evaluation.coverage import METHODS, Method
from accel_sim.evaluation.sensitivity_study import Measure, SensitivityStudy
from accel_sim.evaluation.skipping import recipe_text
from accel_sim.files import replacing
from accel_sim.study.figures import light_bytes
from accel_sim.study.sensitivity_plots import MEASURED, draw_sensitivity, kind_of
from accel_sim.study.text import csv_text, json_text, markdown_table
from accel_sim.trace.layers import ranges

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Wanted:
    """What a skip list is made for."""

    method: Method
    measure: Measure
    coverage: float


@dataclass(frozen=True)
class Choice:
    """One way to reach a coverage."""

    method: Method
    coverage: float
    """What it reaches."""
    projections: int
    """Sparsified."""
    error: float
    """Sum of the measure over what is sparsified."""


def compare(study: SensitivityStudy, wanted: Wanted) -> tuple[list[Choice], dict[Method, str]]:
    """Every method at the wanted coverage, and why one cannot be had."""
    choices, impossible = [], {}
    candidates = study.candidates(wanted.measure)
    for method in METHODS:
        try:
            pruned = study.choose(method, wanted.measure, wanted.coverage)
        except AccelSimError as reason:
            impossible[method] = str(reason)
            continue
        total = sum(each.error for each in candidates if each.name in pruned)
        choices.append(Choice(method, study.covered(pruned), len(pruned), total))
    return choices, impossible


def by_kind(study: SensitivityStudy, measure: Measure, pruned: frozenset[str]) -> list[list[str]]:
    """A row for each kind of projection: share of the work, mean and range of its sensitivity, where it stays dense."""
    kinds: dict[str, list] = {}
    for each in study.candidates(measure):
        kinds.setdefault(kind_of(each), []).append(each)
    rows = []
    for kind, members in kinds.items():
        errors = [each.error for each in members]
        dense = [each.layer for each in members if each.name not in pruned]
        where = "—" if not dense else "all" if len(dense) == len(members) else ranges(dense)
        share = sum(each.macs for each in members) / study.total_macs
        rows.append([kind, f"{share:.1%}", f"{fmean(errors):.4g}", f"{min(errors):.4g}", f"{max(errors):.4g}", where])
    return rows


KIND_HEADER = ("projection", "of the work", "mean", "least", "most", "left dense in blocks")


def write_sensitivity(
    study: SensitivityStudy, wanted: Wanted, about: Mapping[str, Any], folder: Path
) -> tuple[str, list[Path]]:
    """Write everything to `folder`; return the recipe's name and the paths, the recipe's first.

    `about` says what was measured on (model, texts); it goes into the data. OSError passes through with no file half
    written. Raises AccelSimError for a coverage that the method cannot reach.
    """
    pruned = study.choose(wanted.method, wanted.measure, wanted.coverage)
    name = recipe_name(study, wanted)
    reached = study.covered(pruned)
    base = study.recipe.name
    sentence = (
        f"{base} where it costs least: {wanted.method} by {wanted.measure}, {reached:.1%} of the linear"
        f" multiply-accumulates, from {study.tokens} tokens through {study.model}"
    )
    recipe = study.recipe_for(pruned, name, sentence)
    choices, impossible = compare(study, wanted)
    rows = [asdict(each) | {"sparsified": each.projection in pruned} for each in study.sensitivities]
    header = {
        "schema_version": SCHEMA_VERSION,
        "model": study.model,
        "recipe": base,
        "wanted": asdict(wanted),
        "coverage": reached,
        "tokens": study.tokens,
        "divergence_tokens": study.divergence_tokens,
        "total_macs": study.total_macs,
        **about,
        "choices": [asdict(choice) for choice in choices],
        "impossible": impossible,
    }
    title = textwrap.fill(f"{base} on {study.model}, {study.tokens} tokens of calibration text", 150)
    figure = draw_sensitivity(study, wanted.measure, pruned, title)
    contents = {
        f"{name}.yaml": recipe_text(recipe).encode(),
        "sensitivity.json": json_text(header | {"projections": rows}).encode(),
        "sensitivity.csv": csv_text(rows).encode(),
        "sensitivity.md": _markdown(study, wanted, pruned, choices, impossible).encode(),
        **{f"sensitivity.{kind}": light_bytes(figure, kind) for kind in ("png", "svg")},
    }
    for file, content in contents.items():
        with replacing(folder / file, "wb") as stream:
            stream.write(content)
    return name, [folder / file for file in contents]


def recipe_name(study: SensitivityStudy, wanted: Wanted) -> str:
    """The name of the recipe and of its file: the recipe that it narrows, the method and the percentage wanted."""
    percentage = f"{100 * wanted.coverage:g}".replace(".", "p")
    return f"{study.recipe.name}_{wanted.method}_{percentage}"


def _markdown(
    study: SensitivityStudy,
    wanted: Wanted,
    pruned: frozenset[str],
    choices: list[Choice],
    impossible: Mapping[Method, str],
) -> str:
    candidates = study.candidates(wanted.measure)
    most = sorted(candidates, key=lambda each: -each.error)[:10]
    parts = [
        f"Sensitivity of {study.model} to {study.recipe.name}, by {wanted.measure}: {MEASURED[wanted.measure]}.\n",
        markdown_table(KIND_HEADER, by_kind(study, wanted.measure, pruned)),
        f"Ways to a coverage of {wanted.coverage:.1%}; sums of {wanted.measure} over what is sparsified:\n",
        markdown_table(
            ("method", "coverage", "projections", "sum"),
            [[one.method, f"{one.coverage:.2%}", str(one.projections), f"{one.error:.5g}"] for one in choices],
        ),
        *(f"* {reason}\n" for reason in impossible.values()),
        "The most sensitive:\n",
        markdown_table(
            ("projection", wanted.measure, "sparsified"),
            [[each.name, f"{each.error:.4g}", "yes" if each.name in pruned else "no"] for each in most],
        ),
    ]
    return "\n".join(parts)
