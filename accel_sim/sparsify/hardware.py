"""What a recipe asks of a machine: the pattern of every projection, and the methods that need circuits or products.

A machine multiplies INT8 codes, whatever precision a recipe computes in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from accel_sim.arch import Arch
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.sparsify.criteria import WeightCriterion
from accel_sim.sparsify.recipe import Phase, Recipe, Treatment
from accel_sim.workload.policy import DENSE, Policy, Rule

_CRITERIA = {
    "clact": "CLACT",
    "amber": "Amber, raw column norm",
    "amber_robust": "Amber, robust norm",
    "wina": "WINA",
    "r_sparse": "R-Sparse score",
    "gradient": "gradient",
    "weight_variance": "variance of weights",
}
"""By the names of `accel_sim.cost.method_bills`; magnitude is what a selector does anyway."""
_WITHOUT_CIRCUIT = {
    "clact_running": "its factors change with every token, a root each, and no circuit is described for that",
    "random": "it is a control, and no circuit draws its numbers",
}
_SHIFTS = {
    "median": "D-PTS, median",
    "mean": "D-PTS, mean",
    "static": "S-PTS",
    "static_vector": "S-PTS, by feature",
    "learned": "L-PTS",
}
_LOW_RANK = "R-Sparse, rank "
_ROTATION = "La RoSA, rotation"
_BY_PROJECTION = (*get_args(WeightCriterion), "gradient")


def methods(treatment: Treatment, phase: Phase | None = None) -> tuple[str, ...]:
    """Names of what a projection needs besides selection by magnitude, where it is pruned in `phase`, or in any.

    Raises AccelSimError for a criterion that no circuit is described for.
    """
    if not treatment.prunes(phase):
        return ()
    if treatment.criterion in _WITHOUT_CIRCUIT:
        raise AccelSimError(f"criterion {treatment.criterion}: {_WITHOUT_CIRCUIT[treatment.criterion]}")
    found = [_CRITERIA.get(treatment.criterion), _SHIFTS.get(treatment.shift)]
    found.append("VAR" if treatment.variance else None)
    found.append("LS" if treatment.output != "none" else None)
    found.append("PCS" if treatment.smoothing else None)
    found.append(f"{_LOW_RANK}{treatment.low_rank.rank}" if treatment.low_rank else None)
    found.append(_ROTATION if treatment.rotation != "none" else None)
    return tuple(filter(None, found))


def selects_by_itself(treatment: Treatment) -> bool:
    """Whether what is selected depends on the projection, so that those reading one input cannot share a selection."""
    return treatment.criterion in _BY_PROJECTION or treatment.rotation == "weights" or treatment.shift == "learned"


@dataclass(frozen=True)
class OnMachine:
    """A recipe as one machine runs it. Built by :func:`on_machine`."""

    recipe: Recipe
    phase: Phase
    policy: Policy
    """Which pattern each projection runs."""
    prunes_weights: bool

    def treatment(self, projection: str, layer: int | None) -> Treatment:
        return self.recipe.treatment(projection, layer)

    def methods(self, projection: str, layer: int | None) -> tuple[str, ...]:
        """At work in a projection that may be pruned; none where the machine prunes weights, before the run."""
        return () if self.prunes_weights else methods(self.treatment(projection, layer), self.phase)

    def methods_built(self, projection: str, layer: int | None) -> tuple[str, ...]:
        """The same of both phases: one machine runs them."""
        return () if self.prunes_weights else methods(self.treatment(projection, layer))

    def differences(self) -> Iterator[str]:
        """Where the machine does something else than the recipe says, in words."""
        chosen = [one for one in self.recipe.treatments if one != Treatment()]
        if any(one.precision == "float" for one in chosen):
            yield "the recipe computes in floats: run on INT8 codes, as the machine does"
        if any(one.score == "floats" and one.prunes(self.phase) for one in chosen) and not self.prunes_weights:
            yield "the recipe scores floats: the machine scores INT8 codes and 8-bit factors"
        if any(one.neurons for one in chosen):
            yield "the recipe predicts neurons: all are computed here, unless --contextual brings predictors"
        if any(one.prunes() and not one.prunes(self.phase) for one in chosen):
            other = "decode" if self.phase == "prefill" else "prefill"
            yield f"what the recipe prunes in {other} alone runs dense here"


def on_machine(recipe: Recipe, arch: Arch, phase: Phase) -> OnMachine:
    """The recipe on `arch`, in a prefill or a decode step.

    Raises AccelSimError for a machine that cannot run it: another operand is pruned there, no such pattern is built in,
    no circuit for what is kept or for how it is scored.
    """
    by_weights = arch.sparsity.operand == "weights"
    for treatment in recipe.treatments:
        _check(recipe, treatment, arch, phase)

    def pattern(treatment: Treatment) -> Pattern | None:
        if by_weights:
            return treatment.weights.pattern if treatment.weights else None
        return treatment.pattern if treatment.prunes(phase) else None

    rules = tuple(
        Rule(layers=rule.layers, projections=rule.projections, pattern=str(pattern(rule.treatment) or DENSE))
        for rule in recipe.rules
    )
    policy = Policy(recipe.name, recipe.description, pattern(recipe.default), rules)
    for wanted in sorted(policy.patterns - set(arch.sparsity.patterns), key=str):
        listed = ", ".join(map(str, arch.sparsity.patterns)) or "none (it is a dense machine)"
        raise AccelSimError(
            f"recipe {recipe.name}: arch {arch.name} has no pattern {wanted}; its sparsity.patterns: {listed}"
        )
    return OnMachine(recipe, phase, policy, by_weights)


def _check(recipe: Recipe, treatment: Treatment, arch: Arch, phase: Phase) -> None:
    where, machine = f"recipe {recipe.name}", f"arch {arch.name}"
    weights, pruned = treatment.weights, treatment.prunes(phase)
    if arch.sparsity.operand == "weights":
        if pruned:
            raise AccelSimError(f"{where}: prunes activations; {machine} prunes weights, by one mask for all tokens")
        if weights and not isinstance(weights.pattern, Pattern):
            raise AccelSimError(f"{where}: weights {weights.pattern}: {machine} runs N:M, and no other sparsity")
        return
    if weights:
        raise AccelSimError(
            f"{where}: prunes weights; {machine} prunes activations (weights_2x4 and weights_8x16 prune weights)"
        )
    if pruned and not isinstance(treatment.pattern, Pattern):
        raise AccelSimError(
            f"{where}: {treatment.pattern}: no selector is described for what has no groups; {machine} runs N:M"
        )
    try:
        methods(treatment)
    except AccelSimError as problem:
        raise AccelSimError(f"{where}: {problem}") from None
