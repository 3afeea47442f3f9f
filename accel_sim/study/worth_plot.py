"""The picture of what methods are worth: perplexity over dense against speed-up at equal area."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter

from accel_sim.study.figures import LINE, SERIES_COLOURS, new_figure, style
from accel_sim.study.labels import place_labels
from accel_sim.study.worth import Worth


def draw_worth(found: Sequence[Worth], title: str) -> Figure:
    """One point a recipe that a machine runs, a colour a pattern; those on the front are joined and named.

    Plain magnitude is named too: what every method has to beat.
    """
    shown = [one for one in found if one.machine]
    patterns = list(dict.fromkeys(one.pattern for one in shown))
    with style():
        figure = new_figure((11.0, 6.5), title)
        axes = figure.subplots()
        for pattern, colour in zip(patterns, SERIES_COLOURS * len(patterns), strict=False):
            own = [one for one in shown if one.pattern == pattern]
            axes.scatter(
                [one.machine.speedup_iso_area for one in own],
                [one.over_dense for one in own],
                s=[42 if one.on_front else 22 for one in own],
                color=colour,
                label=pattern,
                zorder=3,
            )
        front = sorted((one for one in shown if one.on_front), key=lambda one: one.machine.speedup_iso_area)
        x, y = [one.machine.speedup_iso_area for one in front], [one.over_dense for one in front]
        axes.step(x, y, where="pre", color=LINE, linewidth=1.0, zorder=1)
        axes.set_title("Which method is worth its gates")
        axes.set_xlabel("speed-up at equal area, linear projections (the method's circuits paid for)")
        axes.set_ylabel("perplexity over dense")
        if all(one.over_dense > 0 for one in shown):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.legend(title="pattern", frameon=False)
        figure.draw_without_rendering()  # labels are placed by where things are
        named = front + [one for one in shown if one.is_plain and one not in front]
        places = [(one.machine.speedup_iso_area, one.over_dense) for one in named]
        names = [one.recipe for one in named]
        place_labels(axes, places, names, ["#222222"] * len(names), [3.5] * len(names))
    return figure
