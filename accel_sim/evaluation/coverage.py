"""Which projections run pruned, so that a wanted share of the multiply-accumulates does, and little quality is lost.

Three ways from each projection's sensitivity to a skip list:

* `greedy`: projections in order of error per multiply-accumulate, as many as are needed. Lists of growing coverage are
  nested.
* `knapsack`: the exact choice of least total error.
* `amber`: the fixed rule of Amber Pruner (arXiv 2508.02128): down_proj always, q_proj and gate_proj except in the most
  sensitive layers, nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Literal

from accel_sim.errors import AccelSimError
from accel_sim.evaluation.knapsack import front
from accel_sim.workload.roles import last_name, named, role

Method = Literal["greedy", "knapsack", "amber"]
METHODS: tuple[Method, ...] = ("greedy", "knapsack", "amber")

_FUSED = ("qkv_proj", "query_key_value", "c_attn", "gate_up_proj")
_RULED = ("q_proj", "query", "gate_proj", "w1")


@dataclass(frozen=True)
class Candidate:
    """A projection that may run pruned. Raises AccelSimError for an error that is not a finite number ≥ 0."""

    name: str
    """Module path."""
    layer: int | None
    macs: int
    """Multiply-accumulates a token."""
    error: float
    """What pruning it alone does: a relative error of its outputs, or a divergence of the model's."""

    def __post_init__(self) -> None:
        if not (isfinite(self.error) and self.error >= 0):
            raise AccelSimError(f"{self.name}: its error is {self.error}; expected a finite number from 0 on")


def pruned_for(
    method: Method, candidates: Sequence[Candidate], coverage: float, total_macs: int | None = None
) -> frozenset[str]:
    """Names of the candidates to prune so that at least the share `coverage` of `total_macs` runs pruned.

    `total_macs` are those of all linear projections of the decoder blocks, a token (None: of the candidates), those
    that can never be pruned included. Raises AccelSimError for a coverage that the method cannot reach, saying what it
    can.
    """
    if not 0 <= coverage <= 1:
        raise AccelSimError(f"coverage {coverage}: expected a share between 0 and 1")
    total = total_macs or sum(each.macs for each in candidates)
    # A share such as 0.6 has no exact binary form; it must not cost a projection more.
    wanted = ceil(coverage * total * (1 - 1e-12))
    return _CHOOSE[method](candidates, wanted, total)


def covered(candidates: Sequence[Candidate], pruned: frozenset[str], total_macs: int | None = None) -> float:
    """Share of the multiply-accumulates that runs pruned."""
    total = total_macs or sum(each.macs for each in candidates)
    return sum(each.macs for each in candidates if each.name in pruned) / total


def greedy_order(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """By error per multiply-accumulate, the least first; equal ones as they come."""
    return tuple(sorted(candidates, key=lambda each: each.error / each.macs))


def _greedy(candidates: Sequence[Candidate], wanted: int, total: int) -> frozenset[str]:
    _check_reach("greedy", candidates, wanted, total)
    pruned, reached = [], 0
    for each in greedy_order(candidates):
        if reached >= wanted:
            break
        pruned.append(each.name)
        reached += each.macs
    return frozenset(pruned)


def _knapsack(candidates: Sequence[Candidate], wanted: int, total: int) -> frozenset[str]:
    _check_reach("knapsack", candidates, wanted, total)
    choices = front([each.macs for each in candidates], [each.error for each in candidates])
    taken = choices.choice(wanted)
    return frozenset(each.name for each, yes in zip(candidates, taken, strict=True) if yes)


def _amber(candidates: Sequence[Candidate], wanted: int, total: int) -> frozenset[str]:
    fused = sorted({last_name(each.name) for each in candidates} & set(_FUSED))
    if fused:
        raise AccelSimError(f"amber: its rule tells projections apart that are one here ({', '.join(fused)})")
    always = [each for each in candidates if role(each.name) == "mlp_output"]
    by_layer: dict[int | None, list[Candidate]] = defaultdict(list)
    for each in candidates:
        if last_name(each.name) in _RULED:
            by_layer[each.layer].append(each)
    if not always and not by_layer:
        raise AccelSimError(f"amber: no down, query or gate projection among {named(each.name for each in candidates)}")
    pruned = [*always, *(each for members in by_layer.values() for each in members)]
    _check_reach("amber", pruned, wanted, total)
    spare = sum(each.macs for each in pruned) - wanted
    skipped: set[str] = set()
    for members in sorted(by_layer.values(), key=lambda members: -sum(each.error for each in members)):
        macs = sum(each.macs for each in members)
        if macs > spare:
            break
        spare -= macs
        skipped |= {each.name for each in members}
    return frozenset(each.name for each in pruned) - skipped


def _check_reach(method: str, most: Sequence[Candidate], wanted: int, total: int) -> None:
    reach = sum(each.macs for each in most)
    if reach < wanted:
        raise AccelSimError(
            f"coverage {wanted / total:.1%}: {method} covers at most {reach / total:.1%} of the multiply-accumulates"
        )


_CHOOSE: dict[Method, Callable[[Sequence[Candidate], int, int], frozenset[str]]] = {
    "greedy": _greedy,
    "knapsack": _knapsack,
    "amber": _amber,
}
