"""How every picture of a study looks, and how it becomes a file.

Figures are drawn with matplotlib's Agg canvas on their own; nothing global is changed, and the same data give the same
bytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import AbstractContextManager
from textwrap import fill

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

DOTS_PER_INCH = 200
LINE = "#777777"
SERIES_COLOURS = ["#0b5d8a", "#d1495b", "#3fa7a0", "#e9b44c", "#7a5195", "#8a8a8a", "#58508d"]
"""Of lines side by side, told apart by colour-blind readers where there are few."""
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.labelcolor": "#333333",
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#ececec",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "svg.hashsalt": "accel_sim",
}
_LIGHT_DOTS_PER_INCH = 100
_LIGHT_COLOURS = 128
_CHARACTERS_AN_INCH = 13
"""Of small print."""


def style(**changes: object) -> AbstractContextManager:
    """The style of all pictures, for a `with` block around drawing."""
    return mpl.rc_context(STYLE | changes)


def new_figure(inches: tuple[float, float], title: str) -> Figure:
    """An empty figure with small print above, in as many lines as it needs."""
    figure = Figure(figsize=inches, dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    title = fill(title, int(_CHARACTERS_AN_INCH * inches[0]))
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, color="#555555")
    return figure


def logarithmic_batches(axes: Axes, batches: Iterable[int]) -> None:
    """Make x the size of a batch, in powers of two."""
    ticks = sorted(set(batches))
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(batch) for batch in ticks])
    axes.minorticks_off()
    axes.set_xlabel("batch (sequences)")


def figure_bytes(figure: Figure, file_format: str) -> bytes:
    """The figure as "png" or "svg", without a date or anything else that differs between runs."""
    with style():
        return _saved(figure, file_format, DOTS_PER_INCH)


def light_bytes(figure: Figure, file_format: str) -> bytes:
    """The same in fewer bytes, for pictures that are kept in a repository: 128 colours, text left as text."""
    with style(**{"svg.fonttype": "none"}):
        content = _saved(figure, file_format, _LIGHT_DOTS_PER_INCH)
    if file_format != "png":
        return content
    buffer = io.BytesIO()
    picture = (
        Image.open(io.BytesIO(content))
        .convert("RGB")
        .quantize(_LIGHT_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _saved(figure: Figure, file_format: str, dots_per_inch: int) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None} if file_format == "svg" else {"Software": None}
    figure.savefig(buffer, format=file_format, dpi=dots_per_inch, metadata=metadata, facecolor="white")
    return buffer.getvalue()
