"""The picture of a sensitivity study: which projections are sensitive, and what each coverage costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from accel_sim.errors import AccelSimError
from accel_sim.evaluation.coverage import Candidate, covered, greedy_order, pruned_for
from accel_sim.evaluation.knapsack import front
from accel_sim.evaluation.sensitivity_study import Measure, SensitivityStudy
from accel_sim.study.figures import LINE, SERIES_COLOURS, new_figure, style

MEASURED = {"error": "‖Y − Y′‖ / ‖Y‖", "divergence": "KL(dense ‖ sparse) in nats a token"}


def draw_sensitivity(study: SensitivityStudy, measure: Measure, pruned: frozenset[str], title: str) -> Figure:
    """Every projection's sensitivity by block, those left dense crossed out; the sum of what is sparsified against the
    coverage, by each way to choose."""
    candidates = study.candidates(measure)
    with style(**{"axes.grid": False}):
        figure = new_figure((12.0, 0.14 * study.layers_in_model + 2.6), title)
        left, right = figure.subplots(1, 2)
        _map(left, candidates, measure, pruned)
        _curves(right, study, candidates, pruned)
        return figure


def _map(axes: Axes, candidates: Sequence[Candidate], measure: Measure, pruned: frozenset[str]) -> None:
    columns = list(dict.fromkeys(map(kind_of, candidates)))
    rows = sorted({each.layer for each in candidates}, key=lambda layer: -1 if layer is None else layer)
    values = np.full((len(rows), len(columns)), np.nan)
    for each in candidates:
        values[rows.index(each.layer), columns.index(kind_of(each))] = each.error
    positive = values[values > 0]
    scale = LogNorm(positive.min(), positive.max()) if positive.size and positive.min() < positive.max() else None
    image = axes.imshow(values, aspect="auto", cmap="viridis", norm=scale, interpolation="nearest")
    for each in candidates:
        if each.name not in pruned:
            place = columns.index(kind_of(each)), rows.index(each.layer)
            axes.plot(*place, marker="x", color="white", markersize=5, markeredgewidth=1.2)
    axes.set_xticks(range(len(columns)), [name.rpartition(".")[2] for name in columns], rotation=30, ha="right")
    axes.set(ylabel="decoder block", title="Sensitivity of each projection; × is left dense")
    axes.figure.colorbar(image, ax=axes, label=MEASURED[measure])


def _curves(axes: Axes, study: SensitivityStudy, candidates: Sequence[Candidate], pruned: frozenset[str]) -> None:
    total = study.total_macs
    in_order = greedy_order(candidates)
    reached = np.cumsum([0, *(each.macs for each in in_order)]) / total
    axes.step(
        reached, np.cumsum([0, *(each.error for each in in_order)]), where="pre", color=SERIES_COLOURS[1],
        linewidth=1.4, label="greedy",
    )  # fmt: skip
    exact = front([each.macs for each in candidates], [each.error for each in candidates])
    axes.step(exact.weights / total, exact.costs, where="pre", color=SERIES_COLOURS[0], linewidth=1.4, label="knapsack")
    points = amber_points(study, candidates)
    if points:
        axes.plot(*zip(*points, strict=True), "o", color=SERIES_COLOURS[3], markersize=3.5, label="Amber's rule")
    chosen = covered(candidates, pruned, total), sum(each.error for each in candidates if each.name in pruned)
    axes.plot(*chosen, "D", color=LINE, markersize=6, label="this recipe")
    axes.grid(color="#ececec")
    axes.set(
        xlabel="coverage: share of the linear multiply-accumulates", ylabel="sum over what is sparsified",
        title="What a coverage costs",
    )  # fmt: skip
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.legend(frameon=False, fontsize=9)


def amber_points(study: SensitivityStudy, candidates: Sequence[Candidate]) -> list[tuple[float, float]]:
    """(coverage, sum) of Amber's rule for each number of blocks that it skips; none where it does not apply."""
    found = {}
    for percentage in range(101):
        try:
            pruned = pruned_for("amber", candidates, percentage / 100, study.total_macs)
        except AccelSimError:
            break
        reached = covered(candidates, pruned, study.total_macs)
        found[reached] = sum(each.error for each in candidates if each.name in pruned)
    return sorted(found.items())


def kind_of(candidate: Candidate) -> str:
    """The projection's path inside its block, the same in every block."""
    return candidate.name.partition(f".{candidate.layer}.")[2] or candidate.name
