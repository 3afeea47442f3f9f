"""What of a token is kept: a pattern N:M, or an unstructured share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from accel_sim.errors import AccelSimError
from accel_sim.pattern import HierarchicalPattern, Pattern, parse_pattern

DENSE = "dense"


@dataclass(frozen=True)
class Unstructured:
    """A share of the elements is pruned wherever they are."""

    pruned: float
    """Between 0 and 1, both excluded."""
    by: Literal["token", "threshold"]
    """`token`: of each token exactly its round_half_even((1 − pruned)·K) highest scores are kept, at least one, ties to
    the lower feature. `threshold`: scores above one threshold a site, the quantile `pruned` of the calibration's scores
    (TEAL, arXiv 2408.14690), so that tokens differ."""

    def __str__(self) -> str:
        share = f"{100 * self.pruned:g}%"
        return f"unstructured {share}" if self.by == "token" else f"threshold {share}"

    def kept_of(self, features: int) -> int:
        """How many of a token's features are kept, where each token keeps equally many."""
        return max(1, round((1 - self.pruned) * features))


Kept = Pattern | Unstructured
"""None stands for dense."""


def parse_kept(value: Any) -> Kept | None:
    """`8:16`, `unstructured 50%`, `threshold 50%` (what is pruned), or `dense` (None).

    Raises AccelSimError for anything else, and for patterns of two levels.
    """
    if value is None or isinstance(value, Pattern | Unstructured):
        return value
    if value == DENSE:
        return None
    found = re.fullmatch(r"\s*(unstructured|threshold)\s+(\d+(?:\.\d+)?)\s*%\s*", value) if _is_text(value) else None
    if found:
        pruned = float(found[2]) / 100
        if not 0 < pruned < 1:
            raise AccelSimError(f"{value!r}: expected between 0% and 100%, both excluded")
        return Unstructured(pruned, "token" if found[1] == "unstructured" else "threshold")
    if not _is_text(value) or ":" not in value:
        raise AccelSimError(f"{value!r}: expected N:M in quotes, 'unstructured 50%', 'threshold 50%', or {DENSE}")
    pattern = parse_pattern(value)
    if isinstance(pattern, HierarchicalPattern):
        raise AccelSimError(f"{value!r}: recipes take patterns of one level")
    return None if pattern.keeps_all else pattern


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
