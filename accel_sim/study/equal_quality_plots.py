"""The picture of a study at equal quality: what coverage costs, and what each machine gains for it."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from accel_sim.study.equal_quality import EqualQuality
from accel_sim.study.figures import LINE, SERIES_COLOURS, new_figure, style

_LEAST = 1e-3
"""Losses below this are drawn at it: the axis is logarithmic."""


def draw_equal_quality(study: EqualQuality, title: str) -> Figure:
    """Perplexity over dense against coverage, and speed-up at equal area against perplexity over dense."""
    with style():
        figure = new_figure((12.0, 4.8), title)
        left, right = figure.subplots(1, 2)
        for number, path in enumerate(study.paths):
            colour = SERIES_COLOURS[number % len(SERIES_COLOURS)]
            look = {"color": colour, "marker": "o", "markersize": 4, "linewidth": 1.4, "label": path.machine}
            losses = [max(point.over_dense, _LEAST) for point in path.points]
            left.plot([point.coverage for point in path.points], losses, **look)
            right.plot(losses, [point.speedup_iso_area for point in path.points], **look)
            ends = [[max(getattr(point, end), _LEAST) for point in path.points] for end in _ENDS]
            left.fill_between([point.coverage for point in path.points], *ends, color=colour, alpha=0.12, linewidth=0)
        for budget in study.budgets:
            left.axhline(budget, color=LINE, linewidth=0.8, linestyle=":")
            right.axvline(budget, color=LINE, linewidth=0.8, linestyle=":")
        right.axhline(1, color=LINE, linewidth=1.1)
        _loss_axis(left, "y")
        _loss_axis(right, "x")
        left.set(xlabel="coverage: share of the linear multiply-accumulates", title="What pruning costs")
        left.xaxis.set_major_formatter(PercentFormatter(xmax=1))
        right.set(ylabel="speed-up over dense at equal area (×)", title="What it gains")
        right.legend(frameon=False, fontsize=9)
        return figure


_ENDS = ("over_dense_low", "over_dense_high")


def _loss_axis(axes: Axes, which: str) -> None:
    axis = getattr(axes, f"{which}axis")
    axes.set(**{f"{which}scale": "log", f"{which}label": "perplexity over dense"})
    axis.set_major_formatter(PercentFormatter(xmax=1))
    axes.minorticks_off()
