"""A study's figures as text: Markdown tables, JSON with a row a line, CSV, and percentages."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

_DIGITS = 6
"""Significant ones of a float in a data file."""


def percent(value: float) -> str:
    """A signed percentage of one decimal, of two where one would hide it, and 0 where two do."""
    for decimals in (1, 2):
        text = f"{value:+.{decimals}%}"
        if text.strip("+-0.%"):
            return text
    return "0"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns after the first are aligned to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def json_text(content: Mapping[str, Any]) -> str:
    """An object in which every element of a list stands on a line of its own."""
    parts = []
    for key, value in content.items():
        if isinstance(value, list):
            rows = ",\n".join("  " + _compact(row) for row in value)
            parts.append(f" {json.dumps(key)}: [\n{rows}\n ]" if rows else f" {json.dumps(key)}: []")
        else:
            parts.append(f" {json.dumps(key)}: {_compact(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows, which have the same keys, under a line of those."""
    stream = io.StringIO(newline="")
    table = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows({key: rounded(value) for key, value in row.items()} for row in rows)
    return stream.getvalue()


def rounded(value: Any) -> Any:
    """Floats, also inside lists and objects, to the digits of a data file."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, (list, tuple)) else value


def _compact(value: Any) -> str:
    return json.dumps(rounded(value), ensure_ascii=False, separators=(", ", ": "))
