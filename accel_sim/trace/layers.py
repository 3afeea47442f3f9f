"""Decoder blocks chosen by a short text, such as 0-5,29."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby

from accel_sim.errors import AccelSimError

_LAYERS = re.compile(r"\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*")


def check_layers(text: str, option: str = "--layers") -> None:
    """Raise AccelSimError, naming `option`, unless `text` is a list of indices and ranges."""
    if not _LAYERS.fullmatch(text):
        raise AccelSimError(f"{option} {text}: expected indices and ranges such as 0-5,29")


def select_layers(text: str | None, available: Iterable[int], option: str = "--layers") -> tuple[int, ...]:
    """The layers that `text` (such as 0-5,29) names, ascending; all of those available for None.

    Raises AccelSimError, naming `option`, for a text that is no such list, a range that runs backwards, and a layer
    that is not available.
    """
    there = set(available)
    if text is None:
        return tuple(sorted(there))
    check_layers(text, option)
    chosen: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        span = range(int(first), int(last or first) + 1)
        if not span:
            raise AccelSimError(f"{option} {part}: a range goes from its lower to its higher end")
        missing = next((layer for layer in span if layer not in there), None)
        if missing is not None:
            raise AccelSimError(f"{option} {part}: no layer {missing}; there are {ranges(there)}")
        chosen.update(span)
    return tuple(sorted(chosen))


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers in the spelling that `select_layers` reads: 0-5,29."""
    ascending = enumerate(sorted(set(numbers)))
    runs = [[number for _, number in run] for _, run in groupby(ascending, key=lambda pair: pair[1] - pair[0])]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
