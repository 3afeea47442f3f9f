"""How well neurons are predicted, layer by layer, and what the model loses by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from accel_sim.evaluation.predictions import mean_quality
from accel_sim.evaluation.result import Evaluation
from accel_sim.sparsify.contextual.metrics import PredictorQuality
from accel_sim.workload.roles import layer_of


@dataclass(frozen=True)
class PredictedModel:
    """One recipe with predictors."""

    recipe: str
    evaluation: Evaluation
    """On all text; what it calls dense is the model without predictors."""
    gates: Mapping[str, PredictorQuality]
    """By gate projection, in the order of the layers."""

    @property
    def mean(self) -> PredictorQuality:
        """Over the layers."""
        return mean_quality(self.gates.values())

    def layers(self) -> list[tuple[int, PredictorQuality]]:
        """Index of the decoder block and its gate's quality."""
        return [(layer_of(name), quality) for name, quality in self.gates.items()]
