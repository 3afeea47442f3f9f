"""How one machine's path of nested recipes comes about on a live model, and what measures its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from accel_sim.arch import Arch
from accel_sim.capture.load import LoadedModel
from accel_sim.errors import AccelSimError
from accel_sim.evaluation import Evaluation, Evaluator
from accel_sim.evaluation.journal import Journal
from accel_sim.evaluation.sensitivity_study import Amount, SensitivityStudy, measure_sensitivities
from accel_sim.pattern import Pattern
from accel_sim.simulation import Result, Settings, WorkloadStatistics, simulate
from accel_sim.sparsify import Recipe, Treatment
from accel_sim.study.equal_quality import PathSearch, nested_path
from accel_sim.study.run import label
from accel_sim.workload import Workload


@dataclass(frozen=True)
class Ground:
    """What all machines are compared on."""

    loaded: LoadedModel
    evaluator: Evaluator
    dense: Evaluation
    base: Recipe
    work: Workload
    measure: Literal["error", "divergence"]
    resolution: float
    out: Path
    say: Callable[[str], None]

    def search(self, arch: Arch, pattern: Pattern) -> PathSearch:
        """One machine's path, its sensitivities measured now or read from their journal."""
        name = label(arch, pattern)
        study = self._sensitivities(self.base.with_pattern(pattern), name)
        self._check_workload(study)
        statistics = WorkloadStatistics(self.work)

        def measured(recipe: Recipe) -> Evaluation:
            treatments = (recipe.treatment(each.projection, each.layer) for each in study.sensitivities)
            if all(treatment.effective() == Treatment() for treatment in treatments):
                return self.dense
            return self.evaluator.evaluate(recipe)[-1]

        def simulated(recipe: Recipe) -> Result:
            self.say(f"simulating {recipe.name}")
            settings = Settings(recipe=recipe, quality=False)
            return simulate(arch, self.work, pattern, statistics=statistics, settings=settings)

        steps = nested_path(study, self.measure, name, self.resolution)
        return PathSearch(name, str(pattern), steps, measured, simulated)

    def _sensitivities(self, recipe: Recipe, name: str) -> SensitivityStudy:
        cuts = self.evaluator.cuts
        identity = {
            "model": self.evaluator.fingerprint,
            "recipe": recipe.as_mapping(),
            "calibration": cuts.calibration_sha256,
            "window": self.evaluator.settings.window,
        }
        return measure_sensitivities(
            self.loaded.model,
            self.loaded.id,
            recipe,
            torch.from_numpy(cuts.calibration_ids),
            Amount(divergences=self.measure == "divergence"),
            Journal(self.out / f"{name.replace(' ', '_').replace(':', 'x')}.journal", identity),
            lambda what, done, total: self.say(f"{name}: {what}, {done} of {total}"),
        )

    def _check_workload(self, study: SensitivityStudy) -> None:
        if {gemm.layer for gemm in self.work.gemms if gemm.layer is not None} != set(range(study.layers_in_model)):
            raise AccelSimError(
                f"{self.work.name}: is not all {study.layers_in_model} blocks of {study.model}; capture them all, or"
                " give --workload"
            )
