"""`--contextual`: a predictor in the decode steps of the workload that was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from accel_sim.errors import AccelSimError

if TYPE_CHECKING:
    from accel_sim.workload import ContextualOptions, NeuronMasks, Workload

HELP = (
    "A low-rank predictor in every gated MLP of the decode steps: rank=256,predicted=0.45,realised=0.9, or a YAML file."
)


def contextual(work: Workload, drawn: str | None, trace: Path | None, preset: str | None) -> Workload:
    """`work` with the predictor that `--contextual` describes; `work` itself without one.

    Raises AccelSimError for a description that is none, and for one of drawn neurons where activations are captured.
    """
    if drawn is None:
        return work
    if trace is not None or preset is None:
        raise AccelSimError(
            "--contextual: draws neurons, which goes with --workload; those of a trace are captured, and what is"
            " predicted of them is a fitted predictor's to say"
        )
    from accel_sim.workload.drawn_predictor import drawn_predictor

    return drawn_predictor(drawn).of(work)


def fitted(work: Workload, neurons: NeuronMasks, options: ContextualOptions) -> Workload:
    """`work`, a trace's, with a fitted predictor in its decode steps, applied to the trace's own MLP inputs."""
    from accel_sim.workload import contextual_workload

    return contextual_workload(work, neurons, options)
