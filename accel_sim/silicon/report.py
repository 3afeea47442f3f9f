"""The comparison as a page, as JSON and as a picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import BaseModel

from accel_sim.files import replacing
from accel_sim.silicon.comparison import MODELS, OUTLIER, QUANTITIES, WANTED, Comparison, ErrorRow, FittedFamily
from accel_sim.silicon.shapes import KINDS
from accel_sim.study.figures import LINE, SERIES_COLOURS, light_bytes, new_figure, style


def write_report(comparison: Comparison, out: Path) -> list[Path]:
    """silicon.md, silicon.json and silicon.png in the folder `out`."""
    return write_files(out / "silicon", page_lines(comparison), comparison, draw(comparison))


def write_files(stem: Path, page: Iterable[str], data: BaseModel, picture: Figure) -> list[Path]:
    """The page, its data and its picture as `stem` with .md, .json and .png behind it."""
    contents = {
        ".md": ("\n".join(page) + "\n").encode(),
        ".json": (data.model_dump_json(indent=1) + "\n").encode(),
        ".png": light_bytes(picture, "png"),
    }
    for suffix, content in contents.items():
        with replacing(stem.with_suffix(suffix), "wb") as stream:
            stream.write(content)
    return [stem.with_suffix(suffix) for suffix in contents]


def verdict(row: ErrorRow) -> str:
    """Whether the model does what it is held to, in words."""
    return judged(row.median, "simulator", MODELS[1:])


def judged(median: dict[str, float], model: str, others: Sequence[str]) -> str:
    """The same of one of several models (model → median error)."""
    within = f"within {WANTED:.0%}" if median[model] <= WANTED else f"NOT within {WANTED:.0%}"
    worse = [other for other in others if median[model] >= median[other]]
    better = "both" if len(others) == 2 else " and ".join(others)
    return within + (f", WORSE than {' and '.join(worse)}" if worse else f", better than {better}")


def page_lines(comparison: Comparison) -> Iterator[str]:
    """Markdown."""
    machine = comparison.machine
    yield f"# {machine.device}, measured and predicted"
    yield ""
    yield f"Measured by `{comparison.command}`: driver {machine.driver}, torch {machine.torch}, CUDA {machine.cuda},"
    yield f"{machine.sparse_library}; selection: {machine.selection}. Predicted by the machinery of `simulate` on"
    yield f"`{comparison.arch}`. Fitted on a third ({comparison.split}); every error below is on the other two thirds,"
    yield "|predicted / measured − 1|."
    yield ""
    if comparison.inexact:
        yield f"**INT8 results differ from the functional mode**: {', '.join(comparison.inexact)}."
    else:
        yield f"INT8 results equal the functional mode bit for bit on {comparison.exact_shapes} checked shapes."
    yield from _error_tables(comparison)
    yield from ("", "## Fitted parameters", "", *fit_lines(comparison.fits))
    yield from _outliers(comparison)
    yield from _extrapolations(comparison)
    if comparison.refused:
        yield from ("", "## Not measured", "", *(f"* {line}" for line in comparison.refused))


def _error_tables(comparison: Comparison) -> Iterator[str]:
    yield from ("", "## Errors on held-out shapes", "", "![predicted against measured](silicon.png)", "")
    yield "| | what | shapes | n | simulator median | p90 | constant median | p90 | roofline median | p90 | verdict |"
    yield "|---|---|---|--:|--:|--:|--:|--:|--:|--:|---|"
    for row in comparison.errors:
        cells = [f"{row.median[model]:.1%} | {row.p90[model]:.1%}" for model in MODELS]
        yield f"| {row.dtype} | {row.quantity} | {row.kind} | {row.shapes} | {' | '.join(cells)} | {verdict(row)} |"
    yield ""
    yield from (f"* *{kind}*: {what}." for kind, what in KINDS.items())


def fit_lines(fits: Iterable[FittedFamily]) -> Iterator[str]:
    """A table of what was fitted."""
    yield "| kernels | shapes | launch µs | of tensor peak | of bandwidth | latency ns | error | at a bound |"
    yield "|---|--:|--:|--:|--:|--:|--:|---|"
    for one in fits:
        values = {name: one.parameters[name] if name in one.searched else None for name in one.parameters}
        shown = [
            _number(values["launch_s"], 1e6),
            _number(values["tensor_share"], 1),
            _number(values["memory_share"], 1),
            _number(values["latency_s"], 1e9),
        ]
        yield (
            f"| {one.family} | {one.shapes} | {' | '.join(shown)} | {one.error:.1%} |"
            f" {', '.join(one.at_bound) or 'none'} |"
        )


def _number(value: float | None, scale: float) -> str:
    return "–" if value is None else f"{value * scale:.3g}"


def _outliers(comparison: Comparison) -> Iterator[str]:
    far = [point for point in comparison.points if point.why]
    yield from ("", f"## Held-out times more than {OUTLIER:.0%} off", "")
    yield from (f"* {one.dtype} {one.quantity}, {one.shape} ({one.kind}): {one.why}." for one in far)
    if not far:
        yield "None."


def _extrapolations(comparison: Comparison) -> Iterator[str]:
    yield from ("", "## Extrapolation: the same chip with other patterns", "")
    yield "**Nobody can measure this**: no such chip exists. The parameters are those of its 2:4 kernels; medians of"
    yield "the predicted speed-up over the predicted dense product."
    yield ""
    yield "| | pattern | shapes | n | product alone | selected on the fly |"
    yield "|---|---|---|--:|--:|--:|"
    for one in comparison.extrapolations:
        gains = f"{one.speedup:.2f} | {one.on_the_fly:.2f}"
        yield f"| {one.dtype} | {one.pattern} | {one.kind} | {one.shapes} | {gains} |"


@dataclass(frozen=True)
class Dot:
    """A shape in a picture."""

    measured: float
    predicted: float
    fitted: bool
    """Drawn hollow."""


def scatter(axes: Axes, quantity: str, series: dict[str, list[Dot]], against: str = "measured") -> None:
    """One quantity, predicted and measured (or `against`): a colour a series, and the line where both agree."""
    for number, (label, dots) in enumerate(series.items()):
        for fitted in (True, False):
            some = [dot for dot in dots if dot.fitted == fitted]
            axes.scatter(
                [dot.measured for dot in some],
                [dot.predicted for dot in some],
                s=16,
                facecolors="none" if fitted else SERIES_COLOURS[number],
                edgecolors=SERIES_COLOURS[number],
                label=None if fitted else label,
            )
    ends = [value for dots in series.values() for dot in dots for value in (dot.measured, dot.predicted)]
    axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color=LINE, linewidth=1)
    unit = "×" if quantity.startswith("speed-up") else "s"
    axes.set(title=quantity, xlabel=f"{against} ({unit})", ylabel=f"predicted ({unit})")
    if unit == "s":
        axes.set(xscale="log", yscale="log")


def draw(comparison: Comparison) -> Figure:
    """Predicted against measured, a panel a quantity; held-out shapes filled, fitted ones hollow."""
    quantities = [name for name in QUANTITIES if any(point.quantity == name for point in comparison.points)]
    with style():
        title = f"{comparison.machine.device}: predicted against measured; hollow: fitted, filled: held out"
        figure = new_figure((4.0 * len(quantities), 4.4), title)
        panels = figure.subplots(1, len(quantities), squeeze=False)[0]
        for axes, quantity in zip(panels, quantities, strict=True):
            mine = [point for point in comparison.points if point.quantity == quantity]
            series = {
                dtype: [Dot(one.measured, one.simulator, one.fitted) for one in mine if one.dtype == dtype]
                for dtype in ("int8", "fp16")
            }
            scatter(axes, quantity, series)
        panels[0].legend(frameon=False)
        return figure
