"""Which points are worth having: those that no other point beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_sim.errors import AccelSimError
from accel_sim.study.points import Point


@dataclass(frozen=True)
class Objective:
    """One quantity of a point, and whether more of it is better."""

    quantity: str
    """Name of a `Point` field."""
    maximise: bool = False


TRADE_OFF = (Objective("speedup_iso_area", maximise=True), Objective("area_um2"), Objective("quality_loss"))
"""Quality belongs here: on speed and area alone the smallest pattern wins by construction, because all patterns of one
density share a ceiling while area grows with M."""
ENERGY_AND_AREA = (Objective("energy_pj"), Objective("area_um2"))


def non_dominated(costs: ArrayLike) -> NDArray[np.bool_]:
    """Which rows of `costs` float [P, D], all to be minimised, are not dominated: bool [P].

    A row is dominated when another one is no larger in every column and smaller in at least one; equal rows do not
    dominate each other. Raises AccelSimError for a NaN, which cannot be compared.
    """
    values = np.asarray(costs, dtype=np.float64)
    if np.isnan(values).any():
        raise AccelSimError(f"Pareto front: point {np.argwhere(np.isnan(values))[0][0]} has no value in one objective")
    keep = np.zeros(len(values), dtype=bool)
    front = np.empty((0, values.shape[1]))
    # In lexicographic order no row can be dominated by a later one, so one pass against the front so far is enough.
    for row in np.lexsort(values.T[::-1]):
        no_larger = (front <= values[row]).all(axis=1)
        keep[row] = not (no_larger & (front < values[row]).any(axis=1)).any()
        if keep[row]:
            front = np.vstack([front, values[row]])
    return keep


def front(points: Sequence[Point], objectives: Sequence[Objective] = TRADE_OFF) -> tuple[bool, ...]:
    """For each of `points`, which must have done the same work, whether none of the others beats it.

    Raises AccelSimError for a point whose quality is not known, where quality is an objective.
    """
    costs = [[_cost(point, objective) for objective in objectives] for point in points]
    return tuple(non_dominated(np.reshape(costs, (len(points), len(objectives)))).tolist())


def _cost(point: Point, objective: Objective) -> float:
    value = getattr(point, objective.quantity)
    if value is None:
        raise AccelSimError(
            f"design {point.label} on {point.workload}: nothing is known of its {objective.quantity} (its weights are"
            " pruned, and the workload does not hold them); capture with --weights, or give perplexities with --quality"
        )
    return -value if objective.maximise else value
