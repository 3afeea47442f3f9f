"""What all reports share: the terminal, the one style of tables, and how figures are written."""

from __future__ import annotations

import re
import sys

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from accel_sim.simulation import Result
from accel_sim.simulation.result import QualityLoss

NARROW = 125
"""Columns of a terminal below which tables leave out what can be worked out from the rest."""
UNKNOWN = "—"
_PIPED_WIDTH = 170
_ANY_WIDTH = 10_000
_PICOJOULES = {"µJ": 1e6, "mJ": 1e9}


class _Screen(Console):
    """A console that shows every figure of a table: a terminal too narrow for them breaks its lines, and cuts none."""

    def print(self, *objects, **options) -> None:
        width = self.width
        self.width = max(width, *(self._least_width(one) for one in objects if isinstance(one, Table)), 0)
        super().print(*objects, **options)
        self.width = width

    def _least_width(self, table: Table) -> int:
        """Columns that a table takes when only what may be folded is."""
        options = self.options.update(width=_ANY_WIDTH)
        slack = 0
        for column in table.columns:
            cells = [Measurement.get(self, options, cell) for cell in (column.header, *column.cells, column.footer)]
            least = column.min_width or max(cell.minimum for cell in cells)
            slack += 0 if column.no_wrap else max(0, max(cell.maximum for cell in cells) - least)
        return Measurement.get(self, options, table).maximum - slack


def console(stderr: bool = False) -> Console:
    """The terminal's width, or one that fits every table where the output is piped."""
    stream = sys.stderr if stderr else sys.stdout
    return _Screen(stderr=stderr, highlight=False, width=None if stream.isatty() else _PIPED_WIDTH)


def table_of(title: str) -> Table:
    """An empty table in the one style of all reports."""
    return Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def short(name: str) -> str:
    """A module path without what all of them begin with."""
    return name.removeprefix("model.")


def without_block(name: str) -> str:
    """`layers.0.self_attn.scores` of `layers.0.self_attn.scores[128-255]`, one block of queries among several."""
    return re.sub(r"\[\d+-\d+\]$", "", name)


def energy_unit(result: Result) -> str:
    """The unit that suits all energies of a result."""
    return "mJ" if result.dense_energy_pj >= 1e5 * _PICOJOULES["µJ"] else "µJ"


def energy(picojoules: float, unit: str) -> str:
    return f"{picojoules / _PICOJOULES[unit]:,.2f}"


def quality(loss: QualityLoss | None) -> str:
    """A loss with its standard error, where there is one."""
    if loss is None:
        return UNKNOWN
    error = f" ±{loss.standard_error:.4f}" if loss.standard_error is not None else ""
    return f"{loss.value:.4f}{error}"


def shares(what: str, parts: dict[str, float], total: float) -> str:
    """`what: name 61 %, name 20 %, …`, largest first, nothing that rounds to zero."""
    ranked = sorted(parts.items(), key=lambda part: -part[1])
    shown = ", ".join(f"{name} {part / total:.1%}" for name, part in ranked if part / total >= 0.0005)
    return f"{what}: {shown}"


def times(ratio: float) -> str:
    """`once`, or `2.5 times`."""
    text = f"{ratio:.3g}"
    return "once" if text == "1" else f"{text} times"


def count(number: int, what: str) -> str:
    """`1 panel`, `2 panels`."""
    return f"{number:,} {what}" + "s" * (number != 1)


def size(length: int) -> str:
    """Bytes with three figures or more: `1,184 B`, `35 kB`, `12.35 MB`."""
    if length < 10_000:
        return f"{length:,} B"
    return f"{length / 1e3:,.0f} kB" if length < 1e6 else f"{length / 1e6:,.2f} MB"


def span(low: int, high: int) -> str:
    """`12`, or `12–34` where the two differ."""
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"
