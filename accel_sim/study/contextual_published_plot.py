"""The picture of the paper's end-to-end speed-ups beside ours, a panel a model."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from accel_sim.study.contextual_published import VARIANTS, PublishedStudy
from accel_sim.study.figures import SERIES_COLOURS, new_figure, style

_BAND = [name for name, (_, setting) in VARIANTS.items() if setting.prefill and setting.predictor and name != "ideal"]
"""Variants that could be the truth: other readings and settings, none that leaves something out."""


def draw_published(study: PublishedStudy, title: str) -> Figure:
    """Speed-up of prompt and answer against s: printed, simulated with the band of readings, and on our machines."""
    models = list(dict.fromkeys(cell.model for cell in study.cells))
    with style():
        figure = new_figure((12.0, 4.6), title)
        panels = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
        for axes, model in zip(panels, models, strict=True):
            _panel(axes, study, model)
        panels[0].set_ylabel("speed-up of prompt and answer (×)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
        return figure


def _panel(axes: Axes, study: PublishedStudy, model: str) -> None:
    cells = [cell for cell in study.cells if cell.model == model]
    x, colours = [cell.s for cell in cells], iter(SERIES_COLOURS)
    printed, ours = next(colours), next(colours)
    band = [
        [speedup for cell, speedup in zip(study.cells, variant.speedups, strict=True) if cell.model == model]
        for variant in study.variants
        if variant.name in _BAND
    ]
    low, high = ([pick(column) for column in zip(*band, strict=True)] for pick in (min, max))
    axes.fill_between(x, low, high, color=ours, alpha=0.15, linewidth=0, label="other readings of its tables")
    axes.plot(x, [cell.published for cell in cells], color=printed, marker="o", label="Table 1")
    axes.plot(x, [cell.simulated for cell in cells], color=ours, marker="s", label="simulated card")
    for machine in dict.fromkeys(unit.machine for unit in study.units):
        units = [unit for unit in study.units if (unit.machine, unit.model) == (machine, model)]
        axes.plot(
            [unit.s for unit in units],
            [unit.end_to_end for unit in units],
            color=next(colours),
            marker="^",
            linestyle="--",
            label=machine,
        )
    axes.set(title=model, xlabel="target sparsity s")
    axes.set_xticks(x)
