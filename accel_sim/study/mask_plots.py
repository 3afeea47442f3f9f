"""The pictures of a mask study: each model's error by machine and layer, the gain of skipping, and needed weights."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from accel_sim.occupancy import DRAWN_MODELS, MASK_MODELS
from accel_sim.study.figures import LINE, SERIES_COLOURS, logarithmic_batches, new_figure, style
from accel_sim.study.masks import WHOLE, MaskError, MaskStudy
from accel_sim.study.text import percent

MODEL_COLOURS = {"real": "#222222", "iid": "#d1495b", "marginal": "#e9b44c", "token": "#0b5d8a"}
_MODEL_MARKERS = {"iid": "x", "marginal": "+", "token": "o"}
_ZERO_LINE = {"color": LINE, "linewidth": 1.1, "zorder": 2}
_PERCENT = PercentFormatter(xmax=1)


def draw_errors_by_machine(study: MaskStudy, title: str) -> Figure:
    """Bars: the error of cycles of every model on every machine, a panel for each variant of the data.

    Bars are means over the seeds, whiskers reach from the lowest to the highest.
    """
    data, machines = _names(study)
    with style():
        figure = new_figure((1.2 + max(3.0, 1.15 * len(machines)) * len(data), 4.6), title)
        panels = figure.subplots(1, len(data), sharey=True, squeeze=False)[0]
        for axes, name in zip(panels, data, strict=True):
            for place, model in enumerate(DRAWN_MODELS):
                errors = [study.error(name, machine, model) for machine in machines]
                _bars(axes, [index + (place - 1) * 0.27 for index in range(len(machines))], errors, model)
            axes.axhline(0, **_ZERO_LINE)
            axes.set_xticks(range(len(machines)), [machine.replace("_", "\n") for machine in machines], fontsize=9)
            axes.set_title(name)
            axes.grid(axis="x", visible=False)
            axes.margins(y=0.2)
        panels[0].yaxis.set_major_formatter(_PERCENT)
        panels[0].set_ylabel("error of cycles against the real masks")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        return figure


def draw_errors_by_layer(study: MaskStudy, title: str) -> Figure:
    """The error of cycles by depth, for the machine that is misjudged most: on the natural data, and on any."""
    data, _ = _names(study)
    whole = [error for error in study.errors if error.part == WHOLE]
    worst = [max((one for one in whole if one.data == data[0]), key=_size), max(whole, key=_size)]
    shown = list(dict.fromkeys((error.data, error.machine) for error in worst))
    with style():
        figure = new_figure((1.0 + 5.2 * len(shown), 4.4), title)
        panels = figure.subplots(1, len(shown), squeeze=False)[0]
        for axes, (name, machine) in zip(panels, shown, strict=True):
            for model in DRAWN_MODELS:
                _by_depth(axes, study, name, machine, model)
            axes.axhline(0, **_ZERO_LINE)
            axes.yaxis.set_major_formatter(_PERCENT)
            axes.set(xlabel="decoder block", title=f"{machine}, {name}")
        panels[0].set_ylabel("error of cycles against the real masks")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        return figure


def draw_zero_skipping(study: MaskStudy, title: str) -> Figure:
    """Speed-up over the same machine without skipping, against the fraction of zeros, and what each model says."""
    _, machines = _names(study)
    with style():
        figure = new_figure((7.6, 4.8), title)
        axes = figure.subplots()
        for machine, colour in zip(machines, SERIES_COLOURS * len(machines), strict=False):
            times = [time for time in study.times if time.machine == machine]
            x, y = [time.zero_fraction for time in times], [time.speedup_over_fixed for time in times]
            axes.plot(x, y, ".-", color=colour, linewidth=1.6, label=f"{machine}, window of {times[0].window} features")
            for model, marker in _MODEL_MARKERS.items():
                errors = [study.error(time.data, machine, model).speedup_error.mean for time in times]
                said = [value * (1 + error) for value, error in zip(y, errors, strict=True)]
                axes.plot(x, said, marker, color=colour, markersize=6, markerfacecolor="none", linestyle="none")
        axes.axhline(1, **_ZERO_LINE)
        axes.xaxis.set_major_formatter(_PERCENT)
        axes.set(xlabel="zeros among the activations", ylabel="speed-up over fixed, same pattern (×)")
        models = [
            Line2D([], [], marker=marker, linestyle="none", color=LINE, markerfacecolor="none", label=f"{model} says")
            for model, marker in _MODEL_MARKERS.items()
        ]
        lines = [*axes.get_legend_handles_labels()[0], *models]
        figure.legend(handles=lines, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
        return figure


def draw_needed(study: MaskStudy, title: str) -> Figure:
    """The share of the weights that a batch needs, by the real masks and by each model: a row a machine."""
    data = list(dict.fromkeys(one.data for one in study.needed))
    machines = list(dict.fromkeys(one.machine for one in study.needed))
    with style():
        figure = new_figure((1.0 + 2.9 * len(data), 1.2 + 2.7 * len(machines)), title)
        panels = figure.subplots(len(machines), len(data), sharex=True, sharey=True, squeeze=False)
        for row, machine in zip(panels, machines, strict=True):
            for axes, name in zip(row, data, strict=True):
                for model in MASK_MODELS:
                    _share_by_batch(axes, study, name, machine, model)
                axes.set_title(f"{machine}, {name}", fontsize=10)
                axes.set_ylim(0, 1.04)
                axes.yaxis.set_major_formatter(_PERCENT)
            row[0].set_ylabel("weights needed")
        for axes in panels[-1]:
            logarithmic_batches(axes, [one.batch for one in study.needed])
        figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        return figure


def _names(study: MaskStudy) -> tuple[list[str], list[str]]:
    """The variants of the data and the machines, in order."""
    return [*dict.fromkeys(time.data for time in study.times)], [*dict.fromkeys(time.machine for time in study.times)]


def _size(error: MaskError) -> float:
    return abs(error.cycles_error.mean)


def _bars(axes: Axes, places: Sequence[float], errors: Sequence[MaskError], model: str) -> None:
    spreads = [error.cycles_error for error in errors]
    heights = [spread.mean for spread in spreads]
    whiskers = [[one.mean - one.low for one in spreads], [one.high - one.mean for one in spreads]]
    axes.bar(places, heights, 0.25, color=MODEL_COLOURS[model], label=model, zorder=3)
    axes.errorbar(places, heights, yerr=whiskers, fmt="none", ecolor="#222222", elinewidth=1, capsize=2, zorder=4)
    for place, spread in zip(places, spreads, strict=True):
        down = spread.mean < 0
        axes.annotate(
            percent(spread.mean),
            (place, spread.low if down else spread.high),
            xytext=(0, -3 if down else 3),
            textcoords="offset points",
            ha="center",
            va="top" if down else "bottom",
            fontsize=7,
            rotation=90,
        )


def _by_depth(axes: Axes, study: MaskStudy, data: str, machine: str, model: str) -> None:
    found = [
        error
        for error in study.errors
        if (error.data, error.machine, error.masks, error.part) == (data, machine, model, "layer")
    ]
    depth = [int(error.name) for error in found]
    spreads = [error.cycles_error for error in found]
    colour = MODEL_COLOURS[model]
    axes.plot(depth, [one.mean for one in spreads], "o-", color=colour, markersize=3, linewidth=1.3, label=model)
    axes.fill_between(
        depth, [one.low for one in spreads], [one.high for one in spreads], color=colour, alpha=0.25, linewidth=0
    )


def _share_by_batch(axes: Axes, study: MaskStudy, data: str, machine: str, model: str) -> None:
    found = [one for one in study.needed if (one.data, one.machine, one.masks) == (data, machine, model)]
    look = {"color": MODEL_COLOURS[model], "linewidth": 2.2 if model == "real" else 1.2, "label": model}
    if model != "real":
        look |= {"marker": _MODEL_MARKERS[model], "markersize": 5, "markerfacecolor": "none"}
    axes.plot([one.batch for one in found], [one.share for one in found], **look)
