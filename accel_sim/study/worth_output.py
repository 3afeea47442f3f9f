"""What methods are worth, as files: a picture (PNG and SVG), the data behind it (JSON, CSV), and a table (Markdown)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from accel_sim.files import replacing
from accel_sim.study.figures import light_bytes
from accel_sim.study.text import csv_text, json_text, markdown_table
from accel_sim.study.worth import Worth
from accel_sim.study.worth_plot import draw_worth

SCHEMA_VERSION = 1
HEADER = [
    "recipe",
    "perplexity",
    "over dense",
    "KL, nats",
    "over magnitude",
    "published",
    "method's area",
    "whole area",
    "energy",
    "speed-up",
    "at equal area",
    "front",
]
LEGEND = (
    "over magnitude: perplexity over plain magnitude's at the same pattern, and its paired 95 % interval; published:"
    " the same effect in arXiv 2509.22166 on WikiText-2, geometric mean of its models, and on how many of them it is an"
    " improvement (* trained on the text it is measured on); = same sign here, ≠ the other sign, ? the interval here or"
    " the models there do not agree on one; method's area, whole area: over the dense machine; energy, speed-up: of the"
    " linear projections, over it; front: no recipe here is both better and as fast at equal area"
)


def write_worth(found: Sequence[Worth], source: str, folder: Path) -> list[Path]:
    """Write everything to `folder` and return the paths. OSError passes through with no file half written."""
    rows = [_flat(one) for one in found]
    contents = {
        "worth.json": json_text({"schema_version": SCHEMA_VERSION, "source": source, "recipes": rows}).encode(),
        "worth.csv": csv_text(rows).encode(),
        "worth.md": markdown(found, source).encode(),
    }
    figure = draw_worth(found, source)
    contents |= {f"worth.{kind}": light_bytes(figure, kind) for kind in ("png", "svg")}
    for name, content in contents.items():
        with replacing(folder / name, "wb") as stream:
            stream.write(content)
    return [folder / name for name in contents]


def markdown(found: Sequence[Worth], source: str) -> str:
    reasons = "".join(f"* {one.recipe}: {one.reason}\n" for one in found if one.machine is None)
    parts = [f"Which method is worth its gates: {source}.\n", markdown_table(HEADER, list(map(cells, found))), LEGEND]
    if reasons:
        parts.append(f"\nWithout a machine:\n\n{reasons}")
    return "\n".join(parts) + "\n"


def cells(one: Worth) -> list[str]:
    """A row under `HEADER`."""
    machine = one.machine
    costs = ["–"] * 5
    if machine:
        costs = [
            f"{machine.method_area:+.1%}",
            f"{machine.area_overhead:+.1%}",
            f"{machine.energy:.3f}",
            f"{machine.speedup:.3f}×",
            f"{machine.speedup_iso_area:.3f}×",
        ]
    return [
        one.recipe,
        f"{one.perplexity:,.2f}",
        f"{one.over_dense:+.1%}",
        f"{one.kl:.4f}",
        _over(one.over_magnitude),
        _published(one),
        *costs,
        "yes" if one.on_front else "",
    ]


def _over(over: tuple[float, float, float] | None) -> str:
    if over is None or over == (0, 0, 0):
        return "–"
    return f"{over[0]:+.1%} ({over[1]:+.1%} to {over[2]:+.1%})"


def _published(one: Worth) -> str:
    effect = one.published
    if effect is None:
        return "–"
    agrees = effect.agrees(*one.over_magnitude) if one.over_magnitude else None
    sign = {True: "=", False: "≠", None: "?"}[agrees]
    star = "*" if effect.trained_on_the_test_text else ""
    return f"{effect.effect:+.1%}{star}, better on {effect.better} of {effect.models} {sign}"


def _flat(one: Worth) -> dict[str, object]:
    row = asdict(one)
    over, published, machine = row.pop("over_magnitude"), row.pop("published"), row.pop("machine")
    for name, value in zip(("", "_low", "_high"), over or (None,) * 3, strict=True):
        row[f"over_magnitude{name}"] = value
    row |= {f"published_{name}": (published or {}).get(name) for name in ("effect", "better", "models")}
    names = ("arch", "methods", "method_area", "area_overhead", "energy", "coverage", "speedup", "speedup_iso_area")
    row |= {name: (machine or {}).get(name) for name in names}
    row["methods"] = "; ".join(row["methods"] or ())
    return row
