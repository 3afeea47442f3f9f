"""Evaluations as files: JSON with an evaluation a row, and Markdown tables with how they came about."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel_sim.evaluation.bootstrap import CONFIDENCE
from accel_sim.evaluation.corpora import ALL
from accel_sim.evaluation.result import Evaluation, Interval
from accel_sim.evaluation.settings import EvaluationSettings
from accel_sim.evaluation.windows import Cuts
from accel_sim.files import replacing

_DIGITS = 7
"""Significant ones of a float in a data file."""


@dataclass(frozen=True)
class Provenance:
    """How evaluations came about."""

    model: str
    model_sha256: str
    """Of the configuration and a sample of the parameters."""
    dtype: str
    device: str
    settings: EvaluationSettings
    cuts: Cuts
    notes: tuple[str, ...] = ()


def write_json(evaluations: Sequence[Evaluation], provenance: Provenance, path: Path) -> None:
    """A list with one object an evaluation, which :func:`read_evaluations` reads back. OSError passes through."""
    how = {
        "model": provenance.model,
        "model_sha256": provenance.model_sha256,
        "dtype": provenance.dtype,
        "device": provenance.device,
        "window": provenance.settings.window,
        "seed": provenance.settings.seed,
        "calibration_tokens": provenance.settings.calibration_tokens,
        "calibration_sha256": provenance.cuts.calibration_sha256,
    }
    rows = []
    for each in evaluations:
        row = each.model_dump(mode="json")
        blocks = row.pop("blocks")
        rows.append(json.dumps(_rounded(row | how | {"blocks": blocks}), ensure_ascii=False))
    with replacing(path) as stream:
        stream.write("[\n" + ",\n".join(f" {row}" for row in rows) + "\n]\n")


def write_markdown(evaluations: Sequence[Evaluation], provenance: Provenance, path: Path) -> None:
    """Tables of all recipes, and the method under them. OSError passes through."""
    with replacing(path) as stream:
        stream.write(markdown(evaluations, provenance))


def markdown(evaluations: Sequence[Evaluation], provenance: Provenance) -> str:
    overall = [each for each in evaluations if each.text_kind == ALL]
    parts = [f"Quality of {provenance.model} beside {len(overall) - 1} sparsified: {_texts(provenance)}.\n"]
    header = headings(evaluations)
    parts.append(_table(header, [figures(each, header) for each in overall]))
    kinds = provenance.cuts.kinds
    if len(kinds) > 1:
        parts.append("Perplexity, and what it is over dense, by kind of text:\n")
        of = {(each.recipe, each.text_kind): each for each in evaluations}
        rows = [[each.recipe, *(_by_kind(of[each.recipe, kind]) for kind in kinds)] for each in overall]
        parts.append(_table(["recipe", *kinds], rows))
    tasks = task_metrics(overall)
    if tasks:
        parts.append("lm-eval:\n")
        rows = [[each.recipe, *(metric_cell(each, *one) for one in tasks)] for each in overall]
        parts.append(_table(["recipe", *(f"{task} {metric}" for task, metric in tasks)], rows))
    return "\n".join([*parts, _method(provenance)])


def headings(evaluations: Sequence[Evaluation]) -> list[str]:
    """The columns of a table of these evaluations."""
    percent = f"{CONFIDENCE:.0%}"
    columns = ["recipe", "perplexity", percent, "over dense", f"{percent} of it", "KL, nats", "top-1"]
    if any(each.greedy_agreement is not None for each in evaluations):
        columns.append("greedy text")
    if any(each.codes_selected_differently is not None for each in evaluations):
        columns.append("codes differ")
    return columns


def figures(one: Evaluation, header: Sequence[str]) -> list[str]:
    """An evaluation as the cells under :func:`headings`."""
    cells = [
        one.recipe,
        _perplexity(one.perplexity),
        _between(_perplexity, one.perplexity_ci),
        f"{one.over_dense:+.1%}",
        _between(lambda value: f"{value:+.1%}", one.over_dense_ci),
        f"{one.kl:.4f}",
        f"{one.top1_agreement:.1%}",
    ]
    optional = {"greedy text": one.greedy_agreement, "codes differ": one.codes_selected_differently}
    for name in header[len(cells) :]:
        value = optional[name]
        cells.append("–" if value is None else f"{value:.1%}" if name == "greedy text" else f"{value:.2%}")
    return cells


def task_metrics(evaluations: Sequence[Evaluation]) -> list[tuple[str, str]]:
    """Every task and metric that was measured, without standard errors."""
    found = [
        (task, metric) for each in evaluations for task, metrics in (each.tasks or {}).items() for metric in metrics
    ]
    return [one for one in dict.fromkeys(found) if not one[1].endswith("_stderr")]


def metric_cell(one: Evaluation, task: str, metric: str) -> str:
    metrics: Mapping[str, float] = (one.tasks or {}).get(task, {})
    if metric not in metrics:
        return "–"
    error = metrics.get(f"{metric}_stderr")
    return f"{metrics[metric]:.4f}" + (f" ±{error:.4f}" if error is not None else "")


def _by_kind(one: Evaluation) -> str:
    return f"{_perplexity(one.perplexity)} ({one.over_dense:+.1%})"


def _perplexity(value: float) -> str:
    return f"{value:,.2f}" if value < 1000 else f"{value:,.0f}"


def _between(write: Any, interval: Interval) -> str:
    return f"{write(interval[0])} to {write(interval[1])}"


def _texts(provenance: Provenance) -> str:
    settings, kinds = provenance.settings, provenance.cuts.kinds
    return f"{settings.windows} × {settings.window} tokens of {_and(kinds)}" + (" each" if len(kinds) > 1 else "")


def _method(provenance: Provenance) -> str:
    settings, cuts = provenance.settings, provenance.cuts
    lines = [
        f"perplexity: exp of the mean −log p over every token but a window's first; {provenance.dtype} on "
        f"{provenance.device}",
        f"intervals: {CONFIDENCE:.0%}, bootstrap of {settings.resamples:,} resamples over blocks of {settings.block} "
        f"tokens, drawn apart for every kind of text, seed {settings.seed}; over dense: both models on the same blocks",
        "KL: KL(dense ‖ sparse) over the vocabulary, mean over the tokens; top-1: tokens for which both models find "
        "the same token likeliest",
    ]
    if settings.generation:
        lines.append(
            f"greedy text: share of {settings.new_tokens} new tokens before the first that differs from the dense "
            f"model's, mean over {settings.prompts_of_kind} prompts of {settings.prompt_tokens} tokens of each kind of "
            "text"
        )
    lines += provenance.notes
    rows = [
        [kind, next(each.cut.source for each in cuts.windows if each.kind == kind), f"`{cuts.sha256(kind)}`"]
        for kind in cuts.kinds
    ]
    if cuts.calibration:
        sources = list(dict.fromkeys(each.cut.source for each in cuts.calibration))
        what = f"{len(cuts.calibration)} × {settings.window} tokens, the texts in turn: {'; '.join(sources)}"
        rows.append(["calibration", what, f"`{cuts.calibration_sha256}`"])
    listed = "".join(f"* {line}\n" for line in lines)
    return f"{listed}\n{_table(['text', 'source', 'sha256 of the cuts'], rows, left=3)}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    lines = [header, ["---"] * left + ["---:"] * (len(header) - left), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value
