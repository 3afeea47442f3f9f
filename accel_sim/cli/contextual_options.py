"""`--contextual`: a predictor in the decode steps of the workload that was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from accel_sim.errors import AccelSimError

if TYPE_CHECKING:
    from accel_sim.workload import Workload

HELP = (
    "A low-rank predictor in every gated MLP of the decode steps. With --trace: a folder of `accel-sim contextual fit`."
    " With --workload, neurons are drawn: rank=256,predicted=0.45,realised=0.9, or a YAML file."
)


def contextual(work: Workload, predictor: str | None, trace: Path | None, preset: str | None) -> Workload:
    """`work` with the predictor that `--contextual` names; `work` itself without one.

    Raises AccelSimError for what is no description of drawn neurons and no folder of predictors, and for either of them
    with the other's workload.
    """
    if predictor is None:
        return work
    if Path(predictor).is_dir():
        if trace is None:
            raise AccelSimError(
                f"--contextual {predictor}: fitted predictors answer for captured activations, which --trace has;"
                " of published shapes, neurons are drawn: rank=256,predicted=0.45,realised=0.9"
            )
        return _fitted(work, Path(predictor))
    if trace is not None or preset is None:
        raise AccelSimError(
            f"--contextual {predictor}: no folder of predictors, so its neurons are drawn, which goes with --workload;"
            " for a trace give a folder of `accel-sim contextual fit`"
        )
    from accel_sim.workload.drawn_predictor import drawn_predictor

    return drawn_predictor(predictor).of(work)


def _fitted(work: Workload, folder: Path) -> Workload:
    from accel_sim.capture.options import require_libraries
    from accel_sim.workload import ContextualOptions, contextual_workload

    require_libraries()
    from accel_sim.sparsify.contextual.machine import FittedNeurons

    neurons = FittedNeurons(folder)
    return contextual_workload(work, neurons, ContextualOptions(neurons.ranks, neurons.source))
