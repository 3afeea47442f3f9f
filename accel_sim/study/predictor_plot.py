"""The picture of predictors: what each layer's can tell, and what the model loses at the sparsity that is realised."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from accel_sim.study.figures import SERIES_COLOURS, new_figure, style
from accel_sim.study.labels import place_labels
from accel_sim.study.predictor_study import PredictedModel

_MARKERS = "os^Dv"
_TOLD_APART = 0.015
"""Least difference of two curves that is drawn."""


def draw_predictors(found: Sequence[PredictedModel], title: str) -> Figure:
    """Left: ROC-AUC by layer, a line for all recipes whose scores tell the same, named after the first; none for those
    that know. Right: KL against the share of neurons that is not computed."""
    with style():
        figure = new_figure((13.0, 5.6), title)
        left, right = figure.subplots(1, 2)
        places, drawn = [], []
        for number, one in enumerate(found):
            look = {
                "color": SERIES_COLOURS[number % len(SERIES_COLOURS)],
                "marker": _MARKERS[number // len(SERIES_COLOURS) % len(_MARKERS)],
            }
            known = [(layer, each.roc_auc) for layer, each in one.layers() if each.roc_auc is not None]
            curve = [area for _, area in known]
            if min(curve) < 1 and not any(_alike(curve, other) for other in drawn):
                drawn.append(curve)
                left.plot(*zip(*known, strict=True), markersize=3.5, linewidth=1.2, label=one.recipe, **look)
            places.append((one.mean.predicted_sparsity, one.evaluation.kl))
            right.plot(*places[-1], linestyle="", markersize=6, **look)
        left.set(title="What the scores can tell", xlabel="decoder block", ylabel="ROC-AUC, held-out text")
        left.legend(frameon=False, fontsize=8, ncols=2, loc="lower right")
        right.set(
            title="What the model loses",
            xlabel="predicted inactive, share of all neurons",
            ylabel="KL from the same model with all neurons, nats a token",
        )
        if all(loss > 0 for _, loss in places):
            right.set_yscale("log")
        right.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        figure.draw_without_rendering()  # labels are placed by where things are
        names = [one.recipe for one in found]
        place_labels(right, places, names, ["#222222"] * len(names), [3.5] * len(names))
    return figure


def _alike(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and max(abs(a - b) for a, b in zip(one, other, strict=True)) < _TOLD_APART
