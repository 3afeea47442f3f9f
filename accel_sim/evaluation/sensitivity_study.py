"""A model's sensitivities to one recipe, and the narrower recipes that follow from them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from torch import Tensor, nn

from accel_sim.capture.projections import check_positions
from accel_sim.errors import AccelSimError
from accel_sim.evaluation.coverage import Candidate, Method, covered, pruned_for
from accel_sim.evaluation.journal import Journal
from accel_sim.evaluation.sensitivity import Divergences, Treated, relative_errors
from accel_sim.evaluation.skipping import sparsifying_only
from accel_sim.sparsify import Recipe

Measure = Literal["error", "divergence"]
"""`error`: of the projection's own outputs. `divergence`: of the whole model's distributions."""
MEASURES: tuple[Measure, ...] = ("error", "divergence")


@dataclass(frozen=True)
class Sensitivity:
    """What sparsifying one projection alone does."""

    projection: str
    """Module path, with * for the index of an expert."""
    layer: int | None
    macs: int
    """Multiply-accumulates a token."""
    error: float
    """‖Y − Y′‖₂ / (‖Y‖₂ + ε) of its outputs."""
    divergence: float | None
    """Mean KL(dense ‖ sparse) of the model's next-token distributions, in nats a token; None where not measured."""


@dataclass(frozen=True)
class SensitivityStudy:
    """Every projection that a recipe sparsifies, and what that does."""

    model: str
    recipe: Recipe
    tokens: int
    """That the errors are of."""
    divergence_tokens: int
    """That the divergences are of; 0 where they were not measured."""
    layers_in_model: int
    total_macs: int
    """Multiply-accumulates a token of all linear projections of the decoder blocks, routers apart."""
    sensitivities: tuple[Sensitivity, ...]
    """In the model's order."""

    def candidates(self, measure: Measure) -> tuple[Candidate, ...]:
        """The projections with what one measure says of them. Raises AccelSimError for one that was not made."""
        if measure == "divergence" and not self.divergence_tokens:
            raise AccelSimError("measure divergence: was not made; expected error")
        return tuple(
            Candidate(each.projection, each.layer, each.macs, getattr(each, measure)) for each in self.sensitivities
        )

    def choose(self, method: Method, measure: Measure, coverage: float) -> frozenset[str]:
        """Names of the projections to sparsify so that at least the share `coverage` of the multiply-accumulates is."""
        return pruned_for(method, self.candidates(measure), coverage, self.total_macs)

    def covered(self, pruned: frozenset[str]) -> float:
        """Share of the linear projections' multiply-accumulates that is sparsified."""
        return covered(self.candidates("error"), pruned, self.total_macs)

    @property
    def reach(self) -> float:
        """The coverage when everything is sparsified that the recipe sparsifies."""
        return sum(each.macs for each in self.sensitivities) / self.total_macs

    def recipe_for(self, pruned: frozenset[str], name: str, about: str) -> Recipe:
        """The recipe, for `pruned` alone."""
        return sparsifying_only(self.recipe, self.candidates("error"), pruned, self.layers_in_model, name, about)


@dataclass(frozen=True)
class Amount:
    """How much is measured."""

    divergences: bool = False
    divergence_sequences: int = 1
    """Of the sequences, the first so many are what divergences are measured on."""
    seconds: float | None = None
    """After so much time no further divergence is begun."""


def measure_sensitivities(
    model: nn.Module,
    model_id: str,
    recipe: Recipe,
    sequences: Tensor,
    amount: Amount = Amount(),
    journal: Journal | None = None,
    on_progress: Callable[[str, int, int], Any] = lambda what, done, total: None,
) -> SensitivityStudy:
    """Sensitivities of every projection that `recipe` sparsifies, on `sequences` int64 [B, T].

    The recipe is fitted to the same sequences. What `journal` holds is not measured again. `on_progress` is called with
    what is being done, how much of it is done and how much there is. Raises AccelSimError as `sparsify` does, for a
    recipe that sparsifies nothing in a prefill, for sequences longer than the model has positions, and, with what is
    done in the journal, when the time is up.
    """
    begin = time.monotonic()
    check_positions(model, sequences.shape[1], f"sequences of {sequences.shape[1]} tokens")
    on_progress("fitting the recipe", 0, 1)
    treated = Treated(model, recipe, sequences)
    if not treated.targets:
        raise AccelSimError(f"recipe {recipe.name}: sparsifies no projection of {model_id} in a prefill")
    errors = journal.get("errors") if journal else None
    if errors is None:
        total = len(sequences)
        errors = relative_errors(
            treated, sequences, lambda done: on_progress("errors of the projections' outputs", done, total)
        )
        if journal:
            journal.add("errors", errors)
    divergences: dict[str, float] = {}
    measured_on = sequences[: amount.divergence_sequences] if amount.divergences else sequences[:0]
    if amount.divergences:
        deadline = None if amount.seconds is None else begin + amount.seconds
        divergences = _divergences(treated, measured_on, deadline, journal, on_progress)
    return SensitivityStudy(
        model=model_id,
        recipe=recipe,
        tokens=sequences.numel(),
        divergence_tokens=measured_on.numel(),
        layers_in_model=len(treated.blocks.modules),
        total_macs=treated.total_macs,
        sensitivities=tuple(
            Sensitivity(each.name, each.layer, each.macs, errors[each.name], divergences.get(each.name))
            for each in treated.targets
        ),
    )


def _divergences(
    treated: Treated,
    sequences: Tensor,
    deadline: float | None,
    journal: Journal | None,
    on_progress: Callable[[str, int, int], Any],
) -> dict[str, float]:
    """Mean over the sequences, by projection."""
    found: dict[str, list[float]] = {target.name: [] for target in treated.targets}
    total, done = len(sequences) * len(treated.targets), 0
    for number, sequence in enumerate(sequences):
        measurement: Divergences | None = None
        for target in treated.targets:
            key = f"divergence of {target.name} on sequence {number}"
            value = journal.get(key) if journal else None
            if value is None:
                if deadline is not None and time.monotonic() > deadline:
                    kept = "the same command goes on from there" if journal else "nothing was kept"
                    raise AccelSimError(f"the time is up with {done} of {total} divergences measured; {kept}")
                measurement = measurement or Divergences(treated, sequence)
                value = measurement.of(target)
                if journal:
                    journal.add(key, value)
            found[target.name].append(value)
            done += 1
            on_progress("divergences of the model", done, total)
    return {name: fmean(values) for name, values in found.items()}
