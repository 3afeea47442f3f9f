"""Put labels beside points so that none covers another label or a point."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi, sin

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

_DIRECTIONS = [pi / 180 * degrees for degrees in (90, -90, 0, 180, 40, -40, 140, -140)]
_GAPS = (3, 9, 18, 30, 44, 60)
"""In points, from the edge of the marker; the nearest free place is taken."""
_LEADER_FROM = 9
"""Labels farther away than this get a line to their point."""


def place_labels(
    axes: Axes,
    positions: Sequence[tuple[float, float]],
    texts: Sequence[str],
    colours: Sequence[str],
    radii: Sequence[float],
) -> None:
    """Annotate `positions` (data coordinates) with `texts`; limits and layout of `axes` must be final.

    `radii` are those of the markers, in points. Greedy and deterministic: every label in turn takes the candidate
    place that is least covered by labels and markers and inside the axes, nearer places first.
    """
    scale = axes.figure.dpi / 72
    renderer = axes.figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    centres = axes.transData.transform(np.asarray(positions, dtype=float).reshape(-1, 2))
    taken = [_square(centre, (radius + 1) * scale) for centre, radius in zip(centres, radii, strict=True)]
    for position, text, colour, radius in zip(positions, texts, colours, radii, strict=True):
        label = axes.annotate(text, position, xytext=(0, 0), textcoords="offset points", fontsize=9.5, color=colour)
        label.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
        label.set_zorder(6)

        def box(place: tuple[float, float], label: Annotation = label, radius: float = radius) -> Bbox:
            _move(label, radius + place[0], place[1])
            return label.get_window_extent(renderer).padded(1.5 * scale)

        candidates = [(gap, angle) for gap in _GAPS for angle in _DIRECTIONS]
        covered = [_covered(box(candidate), taken, frame) for candidate in candidates]
        best = candidates[int(np.argmin(np.round(covered, 3)))]
        taken.append(box(best))
        if best[0] > _LEADER_FROM:
            leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.7, "alpha": 0.6, "shrinkB": radius}
            axes.annotate("", position, label.get_position(), textcoords="offset points", arrowprops=leader)


def _square(centre: np.ndarray, half: float) -> Bbox:
    return Bbox.from_extents(*(centre - half), *(centre + half))


def _covered(box: Bbox, taken: Sequence[Bbox], frame: Bbox) -> float:
    """Area that is covered by others, and four times the area that sticks out of the axes."""
    outside = box.width * box.height - _overlap(box, frame)
    return sum(_overlap(box, other) for other in taken) + 4 * outside


def _move(label: Annotation, distance: float, angle: float) -> None:
    x, y = distance * cos(angle), distance * sin(angle)
    label.set_position((x, y))
    label.set_horizontalalignment("center" if abs(x) < 1e-6 else "left" if x > 0 else "right")
    label.set_verticalalignment("center" if abs(y) < 1e-6 else "bottom" if y > 0 else "top")


def _overlap(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0) * max(height, 0)
