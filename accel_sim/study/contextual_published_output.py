"""The paper's tables beside ours as files: Markdown for people, JSON for scripts, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accel_sim.files import replacing
from accel_sim.study.contextual_published import AIM, Cell, PublishedStudy, UnitCell, middle
from accel_sim.study.contextual_published_plot import draw_published
from accel_sim.study.figures import light_bytes
from accel_sim.study.text import json_text, markdown_table

SCHEMA_VERSION = 1


def write_published(study: PublishedStudy, folder: Path) -> list[Path]:
    """Write everything about a study to `folder` and return the paths.

    OSError (a full disk) passes through with no file half written.
    """
    figure = draw_published(study, _title(study))
    contents = {
        "published.md": markdown(study).encode(),
        "published.json": json_text(data(study)).encode(),
        "published.png": light_bytes(figure, "png"),
    }
    for name, content in contents.items():
        with replacing(folder / name, "wb") as stream:
            stream.write(content)
    return [folder / name for name in contents]


def data(study: PublishedStudy) -> dict[str, Any]:
    """Plain data: cells of the card, variants of its model, cells of our machines, and what they rest on."""
    return {
        "schema_version": SCHEMA_VERSION,
        "source": study.tables.source,
        "gpu": study.tables.gpu.model_dump(),
        "run": study.tables.run.model_dump(),
        "assumptions": assumptions(study),
        "cells": [asdict(cell) | {"error": cell.error} for cell in study.cells],
        "seconds": [
            {"model": model, "prefill": parts.prefill, "dense": parts.dense, "sparse": parts.sparse}
            for model, parts in study.parts.items()
        ],
        "variants": [asdict(variant) for variant in study.variants],
        "units": [asdict(unit) for unit in study.units],
        "clock_hz": dict(study.clock_hz),
    }


def verdict(cells: Sequence[Cell]) -> str:
    """How far off the card's model is, in a sentence."""
    errors = [cell.error for cell in cells]
    worst = max(cells, key=lambda cell: abs(cell.error))
    within = sum(abs(error) <= AIM for error in errors)
    return (
        f"{within} of {len(cells)} cells are within {AIM:.0%} of Table 1: {sum(map(abs, errors)) / len(errors):.1%} on"
        f" average, at worst {worst.error:+.1%} ({worst.model} at s = {worst.s:g})"
    )


def assumptions(study: PublishedStudy) -> list[str]:
    """Everything that the figures take for granted."""
    tables, run = study.tables, study.tables.run
    gate = tables.gate_sparsity
    layers = ", ".join(f"{layer} by {less:g}" for layer, less in tables.earlier_layers.items())
    return [
        f"{tables.gpu.name} by its data sheet: {tables.gpu.bandwidth_bytes_per_s / 1e9:g} GB/s,"
        f" {tables.gpu.fp16_flops_per_s / 1e12:g} TFLOP/s ({tables.gpu.source})",
        f"one prompt of {run.prompt_tokens} tokens, {run.generated_tokens} generated: a prefill, whose logits give the"
        f" first, and {run.steps} decode steps with {run.contexts[0]} to {run.contexts[-1]} positions in the cache"
        f" ({run.source}); the paper's answers may stop earlier",
        f"weights and caches of {run.element_bytes} bytes; a decode step's dense products take their bytes over the"
        " bandwidth, caches included; activations, embeddings, norms and sampling take nothing",
        "prefill: two operations a multiply-accumulate of every product at the card's peak, dense on both sides",
        f"a column s predicts s × {gate:g} of the neurons inactive, s by the gate's own sparsity, as the authors' code"
        f" does ({tables.gate_sparsity_source}); s is less in layers {layers}",
        f"sequential pipeline: the gate runs at the predicted sparsity, up and down at {gate:g}",
        "a matrix takes its dense time × Table 4's at its own sparsity, relative times on straight lines between the"
        " table's points and 1 at none; the paper measured all three matrices together, at one sparsity",
        "the predictor (rank as printed) takes its bytes over the bandwidth",
        "left out: vLLM's scheduling and launches in eager mode, which weigh more on the shorter, sparse step; the"
        " kernel that applies the predictor's bits; clocks below the data sheet's",
    ]


def markdown(study: PublishedStudy) -> str:
    """The card, the sensitivity of its model, our machines, and every assumption."""
    parts = [f"{_title(study)}\n", f"{verdict(study.cells)}.\n", _card_table(study)]
    parts += ["Where the card's time goes, in seconds for prompt and answer:\n", _seconds_table(study)]
    parts += ["The same with one thing read or set otherwise:\n", _variant_table(study)]
    if study.units:
        parts += [_units_title(study), _unit_table(study.units)]
    parts += ["Taken for granted of the card:\n", "".join(f"* {line}\n" for line in assumptions(study))]
    return "\n".join(parts)


def _title(study: PublishedStudy) -> str:
    return (
        f"End-to-end speed-up of contextual sparsity, {study.tables.source}, Table 1: printed, and simulated with"
        f" nothing fitted to it ({study.tables.gpu.name}, batch 1)"
    )


def _card_table(study: PublishedStudy) -> str:
    header = ["model", "s", "score (dense)", "Table 1", "simulated", "error", "decode steps alone"]
    rows = [
        [
            cell.model,
            f"{cell.s:g}",
            f"{cell.score:.2f} ({cell.dense_score:.2f})",
            f"{cell.published:.2f}",
            f"{cell.simulated:.3f}",
            f"{cell.error:+.1%}",
            f"{cell.decode_speedup:.3f}",
        ]
        for cell in study.cells
    ]
    return markdown_table(header, rows)


def _seconds_table(study: PublishedStudy) -> str:
    names = ("attention", "head", "cache", "ffn", "predictor")
    header = ["model", "run", "prefill", *names, "sum"]
    rows = []
    for model, parts in study.parts.items():
        column = f"s = {middle(study.tables, model):g}"
        for run, seconds in (("dense", parts.dense), (column, parts.sparse)):
            each = [seconds.get(name, 0.0) for name in names]
            rows.append([model, run, *(f"{one:.3f}" for one in (parts.prefill, *each, parts.prefill + sum(each)))])
    return markdown_table(header, rows)


def _variant_table(study: PublishedStudy) -> str:
    header = ["variant", "what", "mean error", "worst", f"within {AIM:.0%}"]
    rows = [
        [
            each.name,
            each.what,
            f"{each.mean_error:.1%}",
            f"{each.worst_error:+.1%}",
            f"{each.within_aim} of {len(study.cells)}",
        ]
        for each in study.variants
    ]
    return markdown_table(header, rows)


def _units_title(study: PublishedStudy) -> str:
    clocks = ", ".join(f"{name} at {clock / 1e6:.0f} MHz" for name, clock in study.clock_hz.items())
    return (
        f"The same shapes and sparsities on machines of ours ({clocks}; INT8, neurons drawn, batch 1, each over its own"
        " dense counterpart, whole model):\n"
    )


def _unit_table(units: Sequence[UnitCell]) -> str:
    header = ["machine", "model", "s", "prompt and answer", "decode step", "MLPs", "tokens/s (dense)"]
    header += ["energy of dense", "predictor, of the cycles", "limited by"]
    rows = [
        [
            unit.machine,
            unit.model,
            f"{unit.s:g}",
            f"{unit.end_to_end:.2f}",
            f"{unit.decode_speedup:.2f}",
            f"{unit.mlp_speedup:.2f}",
            f"{unit.tokens_per_s:.1f} ({unit.dense_tokens_per_s:.1f})",
            f"{unit.energy_ratio:.3f}",
            f"{unit.predictor_share:.1%}",
            unit.bottleneck,
        ]
        for unit in units
    ]
    return markdown_table(header, rows)
