"""Predictors of a live model's neurons: where its gated FFNs are, and what is fitted to each.

A neuron that is predicted dead is not computed: its gate counts as zero, and with it the product of gate and up, and
what down_proj would add for it. So it is enough to silence the gate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from accel_sim.capture.gated_mlps import gated_mlps
from accel_sim.errors import AccelSimError
from accel_sim.sparsify.contextual.ffn import GatedFfn
from accel_sim.sparsify.contextual.fit import Fitted, fit_predictor
from accel_sim.sparsify.contextual.metrics import PredictorQuality, measure
from accel_sim.sparsify.contextual.options import PredictorOptions


@dataclass(frozen=True, eq=False)
class GatePredictor:
    """The predictor of one gate projection of a live model."""

    fitted: Fitted
    ffn: Callable[[], GatedFfn]
    """The FFN of the gate, copied when it is asked for."""

    def silence(self, gates: Tensor, x: Tensor) -> Tensor:
        """`gates` [n, D], before the activation function, with zeros for the neurons predicted dead from x [n, d]."""
        return torch.where(self.fitted.predictor.predict(x.float()), gates, 0)

    def quality(self, x: Tensor) -> PredictorQuality:
        """On x [n, d]."""
        return measure(self.fitted.predictor, self.ffn(), x.float())


class GateFits:
    """Fits the predictors of the gates of one model, each when its input comes by."""

    def __init__(self, model: nn.Module, options: dict[str, PredictorOptions], where: str) -> None:
        """`options` by the gate projections' module paths. Raises AccelSimError, which starts with `where`, for a
        projection that is no gate of a gated FFN."""
        self._options = options
        self._ffns = gated_ffns(model) if options else {}
        for name in options:
            if name not in self._ffns:
                gates = ", ".join(dict.fromkeys(each.rpartition(".")[2] for each in self._ffns))
                raise AccelSimError(f"{where}: neurons: {name} is not the gate of a gated FFN; expected {gates}")

    def fit(self, name: str, x: Tensor) -> GatePredictor | None:
        """What is fitted to the gate `name`, which reads x [n, d]; None for a projection without a predictor."""
        if name not in self._options:
            return None
        ffn = self._ffns[name]
        return GatePredictor(fit_predictor(self._options[name], ffn(), x), ffn)


def gated_ffns(model: nn.Module) -> dict[str, Callable[[], GatedFfn]]:
    """By the module path of its gate projection, every block's gated FFN, copied to float32 when it is called.

    Raises AccelSimError for a block that has none.
    """
    form = getattr(model.config.get_text_config(decoder=True), "relu_form", None) or {}
    drelu = form.get("activation") == "drelu"
    return {
        f"{path}.gate_proj": lambda mlp=module: _gated_ffn(mlp, drelu) for path, module in gated_mlps(model).items()
    }


def _gated_ffn(mlp: nn.Module, drelu: bool) -> GatedFfn:
    def copied(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.detach().float()

    gate, up, down = mlp.gate_proj, mlp.up_proj, mlp.down_proj
    return GatedFfn(
        copied(gate.weight),
        copied(up.weight),
        copied(down.weight),
        "drelu" if drelu else mlp.act_fn,
        copied(gate.bias),
        copied(up.bias),
        copied(down.bias),
    )
