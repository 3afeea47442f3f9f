"""The 0/1 knapsack that a skip list is: which items to take so that they weigh enough and cost least.

Solved exactly by dominance (Nemhauser and Ullmann, Management Science 15, 1969): item by item, keep every weight that
some choice reaches together with its least cost, and drop what another choice beats in both. Weights are whole numbers,
so there are never more of these than the total weight over the weights' greatest common divisor; of a decoder's
projections that is about a thousand. One run gives the answer for every wanted weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Front:
    """Every choice that no other beats in weight and cost."""

    weights: npt.NDArray[np.int64]
    """[S], ascending; the first is 0, the last the weight of all items."""
    costs: npt.NDArray[np.float64]
    """[S], ascending: the least cost of a choice of at least this weight."""
    _steps: tuple[tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]], ...]
    """An item each: whether a choice has it, and which of the choices before it goes on."""

    def choice(self, wanted: int) -> list[bool]:
        """Which items the cheapest choice of at least the weight `wanted` takes.

        Raises ValueError where all items together weigh less.
        """
        if wanted > self.weights[-1]:
            raise ValueError(f"all items weigh {self.weights[-1]}, less than {wanted}")
        state = int(np.searchsorted(self.weights, wanted))
        taken = []
        for has, before in reversed(self._steps):
            taken.append(bool(has[state]))
            state = int(before[state])
        return taken[::-1]


def front(weights: Sequence[int], costs: Sequence[float]) -> Front:
    """The front of all choices among items of these weights (≥ 1) and costs (≥ 0, finite).

    Of choices that tie, the one without the later item is kept. Raises ValueError for other weights or costs.
    """
    if min(weights, default=1) < 1 or not all(0 <= cost < np.inf for cost in costs):
        raise ValueError("weights must be at least 1, and costs finite and not negative")
    reached, least = np.zeros(1, np.int64), np.zeros(1)
    steps = []
    for weight, cost in zip(weights, costs, strict=True):
        all_weights = np.concatenate([reached, reached + weight])
        all_costs = np.concatenate([least, least + cost])
        # The heaviest first, of equal ones the cheapest: what is dearer than one before it is beaten in both.
        order = np.lexsort((all_costs, -all_weights))
        cheapest_before = np.minimum.accumulate(np.concatenate([[np.inf], all_costs[order][:-1]]))
        kept = order[all_costs[order] < cheapest_before][::-1]
        steps.append((kept >= len(reached), kept % len(reached)))
        reached, least = all_weights[kept], all_costs[kept]
    return Front(reached, least, tuple(steps))
