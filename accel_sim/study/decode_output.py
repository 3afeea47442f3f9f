"""A decode study as files: pictures (PNG and SVG), the data behind them (JSON, CSV), and what they show (Markdown)."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from pathlib import Path

from accel_sim.files import replacing
from accel_sim.study.decode import DecodeStudy, verdict
from accel_sim.study.decode_plots import draw_rates, draw_speedup
from accel_sim.study.figures import light_bytes
from accel_sim.study.text import csv_text, json_text, markdown_table

SCHEMA_VERSION = 1


def write_decode_study(study: DecodeStudy, folder: Path) -> list[Path]:
    """Write everything about a study to `folder` and return the paths.

    OSError (a full disk) passes through with no file half written.
    """
    rows = [asdict(point) for point in study.points]
    header = {"schema_version": SCHEMA_VERSION, "source": study.source, "scope": study.scope}
    verdicts = [verdict(study.of(machine)) for machine in study.machines]
    contents = {
        "decode.json": json_text(header | {"verdicts": verdicts, "points": rows}).encode(),
        "decode.csv": csv_text(rows).encode(),
        "decode.md": markdown(study).encode(),
    }
    title = textwrap.fill(f"{study.source}; scope {study.scope}", 150, break_on_hyphens=False)
    for name, draw in (("speedup", draw_speedup), ("rates", draw_rates)):
        figure = draw(study, title)
        contents |= {f"{name}.{kind}": light_bytes(figure, kind) for kind in ("png", "svg")}
    for name, content in contents.items():
        with replacing(folder / name, "wb") as stream:
            stream.write(content)
    return [folder / name for name in contents]


def markdown(study: DecodeStudy) -> str:
    """One table a machine, and one sentence each on where its gain ends."""
    parts = [f"Decode steps against the batch: {study.source}; scope {study.scope}.\n"]
    parts.append("\n".join(f"* {verdict(study.of(machine))}" for machine in study.machines) + "\n")
    header = ["machine", "batch", "cycles per step", "speed-up", "by time", "equal area", "tokens/s"]
    header += ["mJ per token", "of dense", "weights needed", "limited by"]
    rows = [
        [
            point.machine,
            str(point.batch),
            f"{point.cycles:,}",
            f"{point.speedup:.3f}",
            f"{point.speedup_time:.3f}",
            f"{point.speedup_iso_area:.3f}",
            f"{point.tokens_per_s:,.0f}",
            f"{point.energy_per_token_pj / 1e9:.4g}",
            f"{point.energy_per_token_pj / point.dense_energy_per_token_pj:.3f}",
            f"{point.weights_needed:.1%}",
            point.bottleneck,
        ]
        for point in study.points
    ]
    return "\n".join([*parts, markdown_table(header, rows), *_mlp_table(study)])


def _mlp_table(study: DecodeStudy) -> list[str]:
    """The MLPs of machines that predict: the predictor's rows of its own."""
    points = [point for point in study.points if point.mlp_cycles]
    if not points:
        return []
    header = ["machine", "batch", "MLP cycles", "of these the predictor's", "MLP speed-up"]
    header += ["predictor, of all cycles", "predictor, mJ per token", "of all energy"]
    rows = [
        [
            point.machine,
            str(point.batch),
            f"{point.mlp_cycles:,}",
            f"{point.predictor_cycles:,}",
            f"{point.mlp_speedup:.3f}",
            f"{point.predictor_cycles / point.cycles:.1%}",
            f"{point.predictor_energy_per_token_pj / 1e9:.4g}",
            f"{point.predictor_energy_per_token_pj / point.energy_per_token_pj:.1%}",
        ]
        for point in points
    ]
    return ["The MLPs' products, with the predictor in front of them:\n", markdown_table(header, rows)]
