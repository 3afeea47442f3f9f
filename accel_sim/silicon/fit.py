"""Parameters of one family from measured times: the least mean |log(predicted / measured)|, by a pattern search.

The error counts a factor of two too slow like one too fast, and a few odd shapes do not outweigh the rest as squares
would. The search walks along one parameter at a time, or two at once where none alone helps (bandwidth and latency can
stand in for each other), with a step that halves when nothing helps, within stated bounds, from two fixed starts (a
short latency and a long one) and once more from the better end, since the tiles that a library would take depend on
what is fitted. So the same measurements give the same parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations, product
from math import exp, inf, log

from accel_sim.errors import AccelSimError
from accel_sim.silicon.families import Predictor
from accel_sim.silicon.model import Parameters
from accel_sim.silicon.shapes import Shape

BOUNDS: dict[str, tuple[float, float]] = {
    "launch_s": (1e-7, 1e-4),
    "tensor_share": (0.1, 1.1),
    "memory_share": (0.05, 1.0),
    "latency_s": (1e-8, 2e-6),
}
"""The tensor share may exceed 1: a published rate may be at a lower clock than the card's highest (1.83 and 1.98 GHz of
an H200)."""
START = Parameters(launch_s=3e-6, tensor_share=0.7, memory_share=0.8, latency_s=2e-7)
STARTS = (START, replace(START, latency_s=8e-7))
FIRST_STEP, AGAIN_STEP, LAST_STEP = 0.5, 0.25, 0.02
"""Of the parameters' logarithms: a factor of 1.65 first, 1.28 in the last search, 2 % at the end."""
WORTH = 0.01
"""Part of the error that a step has to take away."""
FEWEST = 4
"""Times a fit needs."""


@dataclass(frozen=True)
class Fit:
    """What was found."""

    parameters: Parameters
    error: float
    """Mean |log(predicted / measured)| on the fitted shapes."""
    evaluations: int
    at_bound: tuple[str, ...]
    """Parameters that a bound stopped: the model wants what cannot be, and the report says so."""


def fit(predictor: Predictor, measured: Mapping[Shape, float]) -> Fit:
    """Raises AccelSimError for fewer than `FEWEST` times."""
    if len(measured) < FEWEST:
        raise AccelSimError(f"fit of {predictor.family}: {len(measured)} measured times, at least {FEWEST} are needed")
    names = predictor.family.searched
    ideal = Parameters()
    starts = dict.fromkeys(replace(ideal, **{name: getattr(start, name) for name in names}) for start in STARTS)
    found = [_search(predictor, measured, start, FIRST_STEP) for start in starts]
    best, _, _ = min(found, key=lambda one: one[1])
    best, error, tried = _search(predictor, measured, best, AGAIN_STEP)
    evaluations = tried + sum(one[2] for one in found)
    at_bound = tuple(name for name in names if getattr(best, name) in BOUNDS[name])
    return Fit(best, error, evaluations, at_bound)


def _search(
    predictor: Predictor, measured: Mapping[Shape, float], best: Parameters, step: float
) -> tuple[Parameters, float, int]:
    """Parameters, their error, and how often an error was worked out. Every shape's tile is chosen once, with the
    parameters that the search starts from."""
    names = predictor.family.searched
    predictor.tiles.clear()
    error, evaluations = _error(predictor, measured, best), 1
    while step >= LAST_STEP:
        for moves in _moves(names):
            tried = best
            for name, direction in moves:
                tried = _moved(tried, name, direction * step)
            if tried == best:
                continue
            evaluations += 1
            found = _error(predictor, measured, tried, enough := error * (1 - WORTH))
            if found < enough:
                best, error = tried, found
                break
        else:
            step /= 2
    return best, error, evaluations


def _moves(names: tuple[str, ...]) -> Iterator[tuple[tuple[str, int], ...]]:
    """One parameter up or down, then two."""
    for number in (1, 2):
        for some in combinations(names, number):
            for directions in product((1, -1), repeat=number):
                yield tuple(zip(some, directions, strict=True))


def _moved(parameters: Parameters, name: str, by: float) -> Parameters:
    low, high = BOUNDS[name]
    value = getattr(parameters, name) * exp(by)
    return replace(parameters, **{name: min(max(value, low), high)})


def _error(predictor: Predictor, measured: Mapping[Shape, float], parameters: Parameters, enough: float = inf) -> float:
    """Small products first: what is already no better than `enough` after some of them is not worked out to the end,
    and counts as infinite."""
    total = 0.0
    for shape in sorted(measured, key=lambda shape: (shape.macs, shape)):
        total += abs(log(predictor.seconds(shape, parameters) / measured[shape]))
        if total >= enough * len(measured):
            return inf
    return total / len(measured)
