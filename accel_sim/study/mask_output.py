"""A mask study as files: pictures (PNG and SVG), the data behind them (JSON, CSV), and the tables (Markdown)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accel_sim.files import replacing
from accel_sim.occupancy import DRAWN_MODELS, MASK_MODELS
from accel_sim.study.figures import light_bytes
from accel_sim.study.mask_plots import (
    draw_errors_by_layer,
    draw_errors_by_machine,
    draw_needed,
    draw_zero_skipping,
)
from accel_sim.study.masks import WHOLE, MaskError, MaskStudy, Spread
from accel_sim.study.text import csv_text, json_text, markdown_table, percent

SCHEMA_VERSION = 1
HOW_THRESHOLDED = (
    "`natural`: the trace as it is. `50% zeros` and the like: magnitude-thresholded, each site at its own quantile of"
    " |x|; not a ReLU model."
)
WHAT_AN_ERROR_IS = "cycles with drawn masks / cycles with real masks − 1: mean, lowest and highest over the seeds"


def write_mask_study(study: MaskStudy, folder: Path) -> list[Path]:
    """Write everything about a study to `folder` and return the paths.

    OSError (a full disk) passes through with no file half written.
    """
    contents = {"masks.json": json_text(json_content(study)).encode(), "masks.md": markdown(study).encode()}
    rows = [_csv_row(study, error) for error in study.errors if error.part != "layer"]
    if rows:
        contents["masks.csv"] = csv_text(rows).encode()
    title = textwrap.fill(study.source, 100, break_on_hyphens=False)
    drawn = {"needed": draw_needed} if study.needed else {}
    if study.times:
        drawn |= {"errors_by_machine": draw_errors_by_machine, "zero_skipping": draw_zero_skipping}
    if any(error.part == "layer" for error in study.errors):
        drawn["errors_by_layer"] = draw_errors_by_layer
    for name, draw in drawn.items():
        figure = draw(study, title)
        contents |= {f"{name}.{kind}": light_bytes(figure, kind) for kind in ("png", "svg")}
    for name, content in contents.items():
        with replacing(folder / name, "wb") as stream:
            stream.write(content)
    return [folder / name for name in contents]


def json_content(study: MaskStudy) -> dict[str, Any]:
    """The whole study as plain data; errors of decoder blocks as lists, in order of depth."""
    return {
        "schema_version": SCHEMA_VERSION,
        "source": study.source,
        "data": HOW_THRESHOLDED,
        "error": WHAT_AN_ERROR_IS,
        "seeds": study.seeds,
        "independent_of_masks": ", ".join(study.independent),
        "times": [asdict(time) for time in study.times],
        "errors": list(_errors(study)),
        "needed": list(_needed(study)),
    }


def markdown(study: MaskStudy) -> str:
    """The tables a person reads."""
    parts = [f"Trace against statistics: {study.source}. {HOW_THRESHOLDED}\n"]
    if study.times:
        parts += [
            f"Error of each model: {WHAT_AN_ERROR_IS} ({study.seeds} seeds).\n",
            _times_table(study),
            f"{worst(study)}\n",
            "By kind of projection, mean over the seeds:\n",
            _projections_table(study),
        ]
    if study.needed:
        parts += [
            "Weights that a decode step needs, and what that makes of its cycles (models: error of the cycles):\n",
            _needed_table(study),
        ]
    if study.independent:
        parts.append(
            f"Independent of where the non-zeros are, so right in every model: {', '.join(study.independent)}.\n"
        )
    return "\n".join(parts)


def worst(study: MaskStudy) -> str:
    """The largest error of each model, in one sentence."""
    said = []
    for model in DRAWN_MODELS:
        errors = [error for error in study.errors if error.masks == model and error.part == WHOLE]
        most = max(errors, key=lambda error: abs(error.cycles_error.mean))
        said.append(f"{model} {percent(most.cycles_error.mean)} ({most.machine}, {most.data})")
    return f"Largest errors of cycles: {', '.join(said)}."


def _errors(study: MaskStudy) -> Iterator[dict[str, Any]]:
    for whole in (error for error in study.errors if error.part == WHOLE):
        key = whole.data, whole.machine, whole.masks
        parts = [error for error in study.errors if (error.data, error.machine, error.masks) == key]
        layers = [error for error in parts if error.part == "layer"]
        yield {
            **dict(zip(("data", "machine", "masks"), key, strict=True)),
            **_part(whole),
            "projections": {error.name: _part(error) for error in parts if error.part == "projections"},
            "layers": [int(error.name) for error in layers],
            "layer_cycles": [error.cycles for error in layers],
            "layer_cycles_error": [_triple(error.cycles_error) for error in layers],
        }


def _needed(study: MaskStudy) -> Iterator[dict[str, Any]]:
    """A row for each variant of the data, machine and model; lists in order of the batches."""
    for key in dict.fromkeys((one.data, one.machine, one.masks) for one in study.needed):
        members = [one for one in study.needed if (one.data, one.machine, one.masks) == key]
        yield dict(zip(("data", "machine", "masks"), key, strict=True)) | {
            quantity: [getattr(one, quantity) for one in members] for quantity in ("batch", "share", "cycles")
        }


def _part(error: MaskError) -> dict[str, Any]:
    errors = {"cycles_error": _triple(error.cycles_error), "speedup_error": _triple(error.speedup_error)}
    return {"cycles": error.cycles, **errors}


def _triple(spread: Spread) -> list[float]:
    return [round(value, 5) for value in (spread.mean, spread.low, spread.high)]


def _csv_row(study: MaskStudy, error: MaskError) -> dict[str, Any]:
    time = next(time for time in study.times if (time.data, time.machine) == (error.data, error.machine))
    row = {"data": error.data, "zero_fraction": time.zero_fraction, "machine": error.machine, "pattern": time.pattern}
    row |= {"window": time.window, "masks": error.masks, "projections": error.name, "cycles": error.cycles}
    for quantity in ("cycles_error", "speedup_error"):
        row |= {f"{quantity}_{key}": value for key, value in asdict(getattr(error, quantity)).items()}
    return row


def _times_table(study: MaskStudy) -> str:
    header = ["data", "zeros", "machine", "pattern", "window", "speed-up over fixed", "over dense", *DRAWN_MODELS]
    rows = []
    for time in study.times:
        errors = [study.error(time.data, time.machine, model).cycles_error for model in DRAWN_MODELS]
        speedups = [f"{time.speedup_over_fixed:.3f}", f"{time.speedup:.3f}"]
        first = [time.data, f"{time.zero_fraction:.1%}", time.machine, time.pattern, f"{time.window} features"]
        rows.append([*first, *speedups, *(_with_spread(error) for error in errors)])
    return markdown_table(header, rows)


def _with_spread(error: Spread) -> str:
    mean, low, high = (percent(value) for value in (error.mean, error.low, error.high))
    return mean if low == high else f"{mean} ({low} … {high})"


def _projections_table(study: MaskStudy) -> str:
    names = list(dict.fromkeys(error.name for error in study.errors if error.part == "projections"))
    rows = []
    for time in study.times:
        for model in DRAWN_MODELS:
            errors = [study.error(time.data, time.machine, model, "projections", name) for name in names]
            means = [percent(error.cycles_error.mean) for error in errors]
            rows.append([time.data, time.machine, model, *means])
    return markdown_table(["data", "machine", "model", *names], rows)


def _needed_table(study: MaskStudy) -> str:
    header = ["data", "machine", "batch", *(f"{model}: needed" for model in MASK_MODELS)]
    header += [f"{model}: cycles" for model in MASK_MODELS]
    rows: list[Sequence[str]] = []
    for real in (one for one in study.needed if one.masks == "real"):
        by_model = {
            one.masks: one
            for one in study.needed
            if (one.data, one.machine, one.batch) == (real.data, real.machine, real.batch)
        }
        shares = [f"{by_model[model].share:.1%}" for model in MASK_MODELS]
        cycles = [percent(by_model[model].cycles / real.cycles - 1) for model in DRAWN_MODELS]
        rows.append([real.data, real.machine, str(real.batch), *shares, f"{real.cycles:,}", *cycles])
    return markdown_table(header, rows)
