"""How a layer's predictor is made."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from accel_sim.errors import AccelSimError
from accel_sim.workload.rules import Strict

Kind = Literal["svd", "sign_bit", "trained", "oracle"]
Bias = Literal["none", "const", "greedy"]
Importance = Literal["gate", "gate_up", "full"]

_WITH_RANK = ("svd", "trained")
_SHARE = r"^\d+(\.\d+)?%$"


class PredictorOptions(Strict):
    """One predictor of a gated FFN: P(x) = H(scores(x) + b), H the strict step (SVDP, arXiv 2603.14110, section 3)."""

    kind: Kind = "svd"
    """Scores from the truncated SVD of the gate (`svd`, the paper's), from a low-rank classifier that learns which
    neurons are active (`trained`, as Deja Vu, 2310.17157), from signs alone (`sign_bit`, as SparseInfer, 2411.12692),
    or the layer's own gate, which no machine has beforehand (`oracle`: what a perfect predictor would give)."""
    rank: Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=_SHARE)] | None = None
    """Of `svd` and `trained`, which need it: a number, or a share of the intermediate size such as 2%, which is about
    what the paper takes."""
    sparsity: float = Field(default=0.5, gt=0, lt=1)
    """Share of (neuron, token) pairs to predict inactive, over the calibration's tokens."""
    relative: bool = False
    """Whether `sparsity` is of the layer's own gate sparsity, as in the paper's code, not of all pairs, as in its text:
    0.5 of a gate that is zero for 90 % of the pairs predicts 45 % inactive."""
    whitening: bool = True
    """Of `svd`: least error of the gate's outputs on the calibration's activations (Algorithm 1), not of the weights
    (naive SVD)."""
    bias: Bias = "greedy"
    """Where a neuron's threshold comes from: no calibration, so `sparsity` is not aimed at (`none`); one quantile of
    all the layer's scores (`const`); each neuron its own, by Algorithm 2 (`greedy`). An oracle has none of these."""
    importance: Importance = "full"
    """What a pair wrongly called inactive costs, in Algorithm 2 and in an oracle above the gate's own sparsity: gate²,
    (gate·up)², or (gate·up)²·‖W_down column‖², the square of what it adds to the output."""
    bins: int | None = Field(default=256, ge=1)
    """Steps of Algorithm 2 in which a neuron's threshold passes all of the calibration's tokens; null: as many as there
    are tokens, which is exact."""
    initial_cap: float = Field(default=0.95, gt=0, le=1)
    """Of the tokens: no neuron starts Algorithm 2 inactive for more, though it be unimportant for all of them. The
    paper's code starts at bin 0.95·256 − 1 at most."""
    turned_off: float = Field(default=0.01, ge=0, le=1)
    """Of the neurons: at most so many are turned off for every token of the calibration by Algorithm 2 (those that
    matter for none are not counted). 1: no limit, as in the paper's text."""
    at_limit: Literal["spare", "stop"] = "spare"
    """What happens at that limit: the other neurons keep their last step and the target is met by what is left, or
    calibration ends short of the target, as in the paper's code."""

    def rank_of(self, neurons: int) -> int | None:
        """The rank for so many neurons, at least 1."""
        if isinstance(self.rank, str):
            return max(1, round(float(self.rank.removesuffix("%")) / 100 * neurons))
        return self.rank

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind in _WITH_RANK and self.rank is None:
            raise AccelSimError(f"rank: kind {self.kind} needs one, such as 2% of the neurons")
        if self.kind not in _WITH_RANK and self.rank is not None:
            raise AccelSimError(f"rank {self.rank}: kind {self.kind} has none; leave it out")
        if self.kind != "svd" and not self.whitening:
            raise AccelSimError(f"whitening: kind {self.kind} has none; leave it out")
        if self.kind == "oracle" and self.bias != "greedy":
            raise AccelSimError("bias: kind oracle has none; leave it out")
        if self.bias == "none" and self.relative:
            raise AccelSimError("relative: bias none aims at no sparsity; leave one of the two out")
        return self
