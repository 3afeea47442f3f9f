"""The pictures of a decode study, all against the size of the batch."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from accel_sim.study.decode import DecodePoint, DecodeStudy
from accel_sim.study.figures import LINE, SERIES_COLOURS, logarithmic_batches, new_figure, style

MARKERS = "os^Dv*"
"""One a machine, for readers who cannot tell the colours apart."""


def draw_speedup(study: DecodeStudy, title: str) -> Figure:
    """Speed-up over dense, and below what the gathering machines gain by: the share of the weights that is needed."""
    with style():
        figure = new_figure((12.0, 4.8), title)
        left, right = figure.subplots(1, 2)
        _lines(left, study, lambda point: point.speedup)
        left.axhline(1, color=LINE, linewidth=1.1, zorder=1)
        left.set(ylabel="speed-up over dense, by cycles (×)", title="What the batch leaves of the gain")
        _lines(right, study, lambda point: point.weights_needed)
        right.set(ylabel="weights needed by the batch", ylim=(0, 1.05), title="Weight rows and columns that are needed")
        right.yaxis.set_major_formatter(PercentFormatter(xmax=1))
        _legend(figure, left)
        return figure


def draw_rates(study: DecodeStudy, title: str) -> Figure:
    """Tokens a second, and energy a token."""
    with style():
        figure = new_figure((12.0, 4.8), title)
        left, right = figure.subplots(1, 2)
        _lines(left, study, lambda point: point.tokens_per_s)
        left.set(yscale="log", ylabel="tokens per second", title="Throughput")
        _lines(right, study, lambda point: point.energy_per_token_pj / 1e9)
        right.set(yscale="log", ylabel="energy per token (mJ)", title="Energy")
        _legend(figure, left)
        return figure


def _lines(axes: Axes, study: DecodeStudy, quantity: Callable[[DecodePoint], float]) -> None:
    """A line a machine, each with a marker of its own; points that DRAM limits are hollow."""
    for number, machine in enumerate(study.machines):
        colour, marker = SERIES_COLOURS[number % len(SERIES_COLOURS)], MARKERS[number % len(MARKERS)]
        points = study.of(machine)
        x, y = [point.batch for point in points], [quantity(point) for point in points]
        axes.plot(x, y, color=colour, linewidth=1.5, marker=marker, markersize=5, label=machine)
        fills = ["white" if point.bottleneck == "dram" else colour for point in points]
        axes.scatter(x, y, s=34, marker=marker, color=fills, edgecolor=colour, linewidth=1.3, zorder=3)
    logarithmic_batches(axes, [point.batch for point in study.points])


def _legend(figure: Figure, axes: Axes) -> None:
    round_marker = {"marker": "o", "linestyle": "", "color": LINE, "markersize": 6}
    marks = [
        Line2D([], [], markerfacecolor="white", label="limited by DRAM", **round_marker),
        Line2D([], [], label="limited by something else", **round_marker),
    ]
    lines = [*axes.get_legend_handles_labels()[0], *marks]
    figure.legend(handles=lines, loc="outside lower center", ncols=min(len(lines), 7), frameon=False, fontsize=9)
