"""The pictures of a Pareto study: speed, area and quality in two panels, and energy against area."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from accel_sim.study.figures import LINE, new_figure, style
from accel_sim.study.labels import place_labels
from accel_sim.study.pareto import ENERGY_AND_AREA, TRADE_OFF, Objective, front, non_dominated
from accel_sim.study.points import Point
from accel_sim.study.quality import PERPLEXITY

_LOSS_COLOURS = LinearSegmentedColormap.from_list("loss", ["#0b5d8a", "#3fa7a0", "#e9b44c", "#d1495b"])
"""Blue for little loss to red for much; told apart in print and by colour-blind readers."""
_INK, _PALE_INK, _GREY = "#222222", "#8a8a8a", "#bdbdbd"
_INDISTINCT = 0.012
"""Points nearer than this fraction of both axes, about a marker's radius, are shown as one."""
_BREAK_EVEN = {"color": LINE, "linewidth": 1.3, "linestyle": "--", "zorder": 1}
_SAME_DENSITY = {"color": LINE, "linewidth": 1.1, "linestyle": ":", "zorder": 1}
_NOT_WORTH_IT = {"color": "#d1495b", "alpha": 0.06, "linewidth": 0, "zorder": 0}
_STAIRCASE = {"color": "#0b5d8a", "linewidth": 1.0, "alpha": 0.45, "zorder": 1}
_QUALITY_AXES = {
    "output": "quality loss: relative output error ‖XW − X̂W‖² / ‖XW‖²",
    "input": "quality loss: relative activation error ‖X − X̂‖² / ‖X‖²",
    PERPLEXITY: "perplexity, as measured",
}


@dataclass(frozen=True)
class _Panel:
    """One set of axes and where the points are in it."""

    axes: Axes
    x: Sequence[float]
    y: Sequence[float]


def draw_trade_off(points: Sequence[Point], title: str) -> Figure:
    """Left: speed-up against area overhead, coloured by quality. Right: speed-up at equal area against quality.

    `points` are designs that did the same work; those that another beats in area, speed and quality are grey.
    """
    with style():
        figure = new_figure((13.0, 5.8), title)
        left, right = figure.subplots(1, 2)
        paint = _Paint(points, TRADE_OFF)
        panels = [_area_panel(left, points), _quality_panel(right, points)]
        guides = [
            Line2D([], [], label="break-even at equal area", **_BREAK_EVEN),
            Patch(label="a larger dense array is faster", **_NOT_WORTH_IT),
            Line2D([], [], label="equal performance per mm²", **_SAME_DENSITY),
        ]
        _finish(figure, panels, points, paint, guides)
        return figure


def draw_energy_area(points: Sequence[Point], title: str) -> Figure:
    """Energy of the work against area; the designs that none beats in both are in colour and joined by a line."""
    with style():
        figure = new_figure((8.2, 5.8), title)
        axes = figure.subplots()
        paint = _Paint(points, ENERGY_AND_AREA)
        area = [point.area_um2 / 1e6 for point in points]
        unit, picojoules = _energy_unit(max(point.energy_pj for point in points))
        energy = [point.energy_pj / picojoules for point in points]
        _set_limits(axes, area, energy)
        _staircase(axes, area, energy, high_is_good=False)
        axes.set(xlabel="area, SRAM included (mm²)", ylabel=f"energy of the work ({unit})", title="Energy against area")
        guides = [Line2D([], [], label="least energy at each area", **_STAIRCASE)]
        _finish(figure, [_Panel(axes, area, energy)], points, paint, guides)
        return figure


class _Paint:
    """How each point looks: coloured by its quality loss, or grey when it is dominated."""

    def __init__(self, points: Sequence[Point], objectives: Sequence[Objective]) -> None:
        self.kept = front(points, objectives)
        losses = [point.quality_loss for point in points]
        lowest, highest = min(losses), max(losses)
        self.scale = ScalarMappable(Normalize(lowest, highest if highest > lowest else lowest + 1e-9), _LOSS_COLOURS)
        self.fills = [self.scale.to_rgba(loss) if kept else _GREY for loss, kept in zip(losses, self.kept, strict=True)]
        self.inks = [_INK if kept else _PALE_INK for kept in self.kept]

    def markers(self, panel: _Panel) -> None:
        """One marker a point; where several coincide, rings around each other show them all, the best innermost."""
        for group in _coincident(panel):
            ordered = sorted(group, key=lambda index: (not self.kept[index], index))
            for ring, index in enumerate(ordered):
                panel.axes.scatter(
                    panel.x[group[0]],
                    panel.y[group[0]],
                    s=(2 * _radius(ring)) ** 2,
                    color=[self.fills[index]],
                    edgecolor="white",
                    linewidth=1.2,
                    zorder=3 + self.kept[index] - ring / 100,
                )


def _radius(ring: int) -> float:
    """Radius of a marker with `ring` others inside it, in points."""
    return 5 + 2.75 * ring


def _area_panel(axes: Axes, points: Sequence[Point]) -> _Panel:
    """Speed-up by time over area overhead, with what each area would have to yield to be worth it."""
    overhead = [100 * point.area_overhead for point in points]
    speedup = [point.speedup_time for point in points]
    needed = sorted({(100 * point.area_overhead, point.break_even) for point in points} | {(0.0, 1.0)})
    _set_limits(axes, overhead, [*speedup, *(height for _, height in needed)])
    reach = axes.get_xlim()[1]
    axes.plot([0, reach], [1, 1 + reach / 100], **_SAME_DENSITY)
    x, y = np.array(_extended(needed, reach)).T
    if (np.diff(y) > -1e-3).all():
        axes.plot(x, y, **_BREAK_EVEN)
        axes.fill_between(x, y, axes.get_ylim()[0], **_NOT_WORTH_IT)
    else:  # designs with different memory systems or dense machines have no line in common, only a mark each
        axes.scatter(x[:-1], y[:-1], marker="_", s=220, color=LINE, linewidth=1.3, zorder=2)
    axes.set(xlabel="area over the dense machine's, SRAM included (%)", ylabel="speed-up by time (×)")
    axes.set_title("What the area buys")
    return _Panel(axes, overhead, speedup)


def _extended(line: Sequence[tuple[float, float]], reach: float) -> list[tuple[float, float]]:
    """`line` from its first point on, its last slope kept up to `reach`; flat where it is a single point."""
    (x0, y0), (x1, y1) = (line[-2] if len(line) > 1 else line[-1]), line[-1]
    slope = (y1 - y0) / (x1 - x0) if x1 > x0 else 0.0
    return [*line, (reach, y1 + slope * (reach - x1))]


def _quality_panel(axes: Axes, points: Sequence[Point]) -> _Panel:
    loss = [point.quality_loss for point in points]
    speedup = [point.speedup_iso_area for point in points]
    _set_limits(axes, loss, [*speedup, 1.0])
    axes.axhline(1, **_BREAK_EVEN)
    axes.axhspan(axes.get_ylim()[0], 1, **_NOT_WORTH_IT)
    _staircase(axes, loss, speedup, high_is_good=True)
    if any(point.quality_standard_error for point in points):
        errors = [point.quality_standard_error or 0.0 for point in points]
        axes.errorbar(loss, speedup, xerr=errors, fmt="none", ecolor=LINE, elinewidth=1, zorder=2)
    axes.set(xlabel=_quality_axis(points), ylabel="speed-up at equal area (×)", title="What it costs in quality")
    return _Panel(axes, loss, speedup)


def _staircase(axes: Axes, x: Sequence[float], y: Sequence[float], *, high_is_good: bool) -> None:
    """The panel's own two-dimensional front: small x is good."""
    values = np.column_stack([x, y]).astype(float)
    kept = values[non_dominated(values * (1, -1 if high_is_good else 1))]
    kept = kept[np.argsort(kept[:, 0], kind="stable")]
    axes.step(kept[:, 0], kept[:, 1], where="post", **_STAIRCASE)


def _set_limits(axes: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    """Limits with room for the labels around the outermost points."""
    for values, set_limits in ((x, axes.set_xlim), (y, axes.set_ylim)):
        low, high = min(values), max(values)
        span = (high - low) or 0.2 * abs(high) or 1.0
        set_limits(low - 0.1 * span, high + 0.16 * span)


def _energy_unit(largest_pj: float) -> tuple[str, float]:
    """The unit that shows `largest_pj` as one to a thousand, and how many pJ it is."""
    return next(((unit, pj) for unit, pj in (("J", 1e12), ("mJ", 1e9), ("µJ", 1e6)) if largest_pj >= pj), ("nJ", 1e3))


def _quality_axis(points: Sequence[Point]) -> str:
    kinds = sorted({point.quality_kind for point in points})
    return " / ".join(_QUALITY_AXES.get(kind, kind) for kind in kinds)


def _finish(
    figure: Figure, panels: Sequence[_Panel], points: Sequence[Point], paint: _Paint, guides: Sequence[Artist]
) -> None:
    """Markers, colour bar, legend; then the labels, once the layout stands still."""
    bar = figure.colorbar(paint.scale, ax=[panel.axes for panel in panels], fraction=0.03, pad=0.015)
    bar.set_label(_quality_axis(points), fontsize=9)
    bar.outline.set_visible(False)
    round_marker = {"marker": "o", "linestyle": "", "markersize": 9, "markeredgecolor": "white"}
    handles = [
        Line2D([], [], markerfacecolor=_LOSS_COLOURS(0.2), label="on the Pareto front", **round_marker),
        Line2D([], [], markerfacecolor=_GREY, label="dominated", **round_marker),
        *guides,
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    figure.canvas.draw()
    figure.set_layout_engine("none")
    for panel in panels:
        paint.markers(panel)
        groups = _coincident(panel)
        place_labels(
            panel.axes,
            [(panel.x[group[0]], panel.y[group[0]]) for group in groups],
            [_joined([points[index].label for index in group]) for group in groups],
            [_INK if any(paint.kept[index] for index in group) else _PALE_INK for group in groups],
            [_radius(len(group) - 1) for group in groups],
        )


def _coincident(panel: _Panel) -> list[list[int]]:
    """Indices of the points, those that cannot be told apart in this panel together, in order of appearance."""
    low, high = np.array([panel.axes.get_xlim(), panel.axes.get_ylim()]).T
    groups: list[tuple[np.ndarray, list[int]]] = []
    for index, position in enumerate(zip(panel.x, panel.y, strict=True)):
        place = (np.array(position) - low) / (high - low)
        near = next((members for centre, members in groups if np.abs(centre - place).max() < _INDISTINCT), None)
        if near is None:
            groups.append((place, [index]))
        else:
            near.append(index)
    return [members for _, members in groups]


def _joined(labels: Sequence[str]) -> str:
    """`flexible 2:4` and `flexible 4:8` as `flexible 2:4, 4:8`; other labels by commas."""
    machines: dict[str, list[str]] = {}
    for label in labels:
        machine, _, pattern = label.partition(" ")
        machines.setdefault(machine, []).append(pattern)
    return ", ".join(f"{machine} {', '.join(patterns)}".strip() for machine, patterns in machines.items())
