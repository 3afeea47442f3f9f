"""A predictor of published shapes in a few figures: its rank, and the shares of neurons that are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from accel_sim.errors import AccelSimError
from accel_sim.workload.contextual import ContextualOptions, drawn_contextual_workload
from accel_sim.workload.gemm import Workload
from accel_sim.workload.neurons import DrawnNeurons
from accel_sim.workload.rules import Strict
from accel_sim.yaml_file import read_yaml

Share = Annotated[float, Field(ge=0, le=1)]
EXAMPLE = "rank=256,predicted=0.45,realised=0.9"


class DrawnPredictor(Strict):
    """What `--contextual` says: as KEY=VALUE,…, or as a YAML file with these keys."""

    rank: Annotated[int, Field(ge=1)]
    """Features between the predictor's two products, in every layer."""
    predicted: Share
    """Share of the neurons that it leaves out: the predicted sparsity s of the paper's eq. 5."""
    realised: Share
    """Share that contributes nothing, what is left out included: s′ of eq. 5, at least `predicted`."""
    layers: dict[int, Share] = Field(default_factory=dict)
    """`predicted` of the layers that have one of their own."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the neurons that are drawn."""

    def of(self, workload: Workload) -> Workload:
        """`workload` with this predictor in its decode steps. Raises as `drawn_contextual_workload` does."""
        neurons = DrawnNeurons(self.predicted, self.realised, self.seed, self.layers)
        return drawn_contextual_workload(workload, neurons, ContextualOptions(self.rank))


def drawn_predictor(text: str, option: str = "--contextual") -> DrawnPredictor:
    """From `rank=256,predicted=0.45,realised=0.9`, or from the YAML file of that name.

    Raises AccelSimError, naming `option`, for anything else.
    """
    content: Any = _pairs(text, option) if "=" in text else read_yaml(Path(text), option)
    if not isinstance(content, dict):
        raise AccelSimError(f"{option} {text}: expected a mapping of {', '.join(DrawnPredictor.model_fields)}")
    try:
        return DrawnPredictor.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(map(_explain, error.errors()))
        raise AccelSimError(f"{option} {text}: {problems}; such as {EXAMPLE}") from None


def _pairs(text: str, option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key or not value:
            raise AccelSimError(f"{option} {text}: {part!r}: expected KEY=VALUE, such as {EXAMPLE}")
        if key in pairs:
            raise AccelSimError(f"{option} {text}: {key} is given twice")
        pairs[key] = value
    return pairs


def _explain(problem: Any) -> str:
    where = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key; known are {', '.join(DrawnPredictor.model_fields)}"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}" if where else problem["msg"]
