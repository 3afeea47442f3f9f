"""Rows of the report: what each says, how they are stored, and the table in the docs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

BEGIN, END = "<!-- begin: make bench -->", "<!-- end: make bench -->"
"""Between these lines of a page stands the table; everything else in it is written by hand."""
HEAD = ("| | ours | peer | unit | ratio | wanted |", "|---|--:|--:|---|--:|---|")


@dataclass(frozen=True)
class Wanted:
    """What the ratio of a row should be."""

    at: Literal["least", "most", "within"]
    value: float
    """The bound; with `within`, the largest distance of the ratio from 1."""

    def met(self, ratio: float) -> bool:
        if self.at == "within":
            return abs(ratio - 1) <= self.value
        return ratio >= self.value if self.at == "least" else ratio <= self.value

    def __str__(self) -> str:
        if self.at == "within":
            return f"1 ± {self.value:g}"
        return f"{'≥' if self.at == 'least' else '≤'} {self.value:,g}"


@dataclass(frozen=True)
class Row:
    """One comparison: a quantity here and at a peer (a tool, a published figure, or a limit)."""

    group: str
    """Heading it stands under."""
    name: str
    ours: float | None
    peer: float | None
    unit: str
    command: str
    versions: dict[str, str] = field(default_factory=dict)
    faster: bool = False
    """The ratio says how many times faster we are (peer ÷ ours); else it is ours ÷ peer."""
    wanted: Wanted | None = None

    @property
    def ratio(self) -> float | None:
        """None where one of the two is missing."""
        above, below = (self.peer, self.ours) if self.faster else (self.ours, self.peer)
        return None if above is None or not below else above / below

    @property
    def verdict(self) -> str:
        """What was wanted of the ratio, and whether it is so; empty where nothing was."""
        if self.wanted is None or self.ratio is None:
            return ""
        return f"{self.wanted}: {'met' if self.wanted.met(self.ratio) else '**missed**'}"


def not_run(group: str, name: str, why: str, command: str, versions: dict[str, str]) -> Row:
    """A peer that could not be run stands in the report by name, with the reason."""
    return Row(group, f"{name}: not run ({why})", None, None, "", command, versions)


def write_json(rows: Sequence[Row], path: Path) -> None:
    """A list of {name, ours, peer, ratio, unit, command, versions}."""
    keys = ("name", "ours", "peer", "ratio", "unit", "command", "versions")
    described = [{key: getattr(row, key) for key in keys} for row in rows]
    for row, entry in zip(rows, described, strict=True):
        entry["name"] = f"{row.group}: {row.name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def markdown(rows: Sequence[Row]) -> str:
    """A table for every group, in order."""
    parts = []
    for group in dict.fromkeys(row.group for row in rows):
        parts += ["", f"### {group}", "", *HEAD]
        for row in rows:
            if row.group == group:
                ratio = "" if row.ratio is None else f"{_figure(row.ratio)}×{' faster' if row.faster else ''}"
                cells = (row.name, _figure(row.ours), _figure(row.peer), row.unit, ratio, row.verdict)
                parts.append(f"| {' | '.join(cells)} |")
    return "\n".join(parts).strip() + "\n"


def replace_between_markers(page: str, table: str) -> str:
    """The page with `table` in place of what stood between the markers. Raises ValueError when they are not there."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table}{END}{after}"


def _figure(value: float | None) -> str:
    """Whole numbers in full, others to four figures."""
    if value is None:
        return "–"
    if value == int(value) or abs(value) >= 10_000:
        return f"{value:,.0f}"
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"
