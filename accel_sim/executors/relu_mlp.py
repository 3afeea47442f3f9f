"""Which gated MLPs of a live model have a ReLU: proved by what they compute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from accel_sim.capture.gated_mlps import PROJECTIONS, gated_mlps
from accel_sim.errors import AccelSimError
from accel_sim.executors.ffn import Activation, GatedFFN
from accel_sim.executors.torch_ffn import TorchFFN

_PROBE = np.concatenate([np.linspace(-4, 4, 161), [-30, 30]]).astype(np.float32)
_TOLERANCE = 1e-2
"""Of the probe's largest output; a wrong form is off by its whole size, bfloat16 by a few thousandths."""


@dataclass(frozen=True, eq=False)
class GatedMLP:
    """One block's MLP: `down_proj(a(gate_proj(x)) ⊙ up_proj(x))`, or with a ReLU on up as well."""

    path: str
    """Its name in the model."""
    module: nn.Module
    activation: Activation
    threshold: float

    def as_tensors(self) -> TorchFFN:
        """Its weights where they are; down is copied, transposed."""
        gate, up, down = (getattr(self.module, name) for name in PROJECTIONS)
        biases = (_bias(each) for each in (gate, up, down))
        return TorchFFN(
            gate.weight.detach(),
            up.weight.detach(),
            down.weight.detach().t().contiguous(),
            *biases,
            self.activation,
            self.threshold,
        )

    def as_arrays(self) -> GatedFFN:
        """Its weights on the CPU: bfloat16 as it is, other floats as float32."""
        return GatedFFN.of(
            *(_array(getattr(self.module, name).weight) for name in PROJECTIONS),
            **{
                f"{name.removesuffix('_proj')}_bias": _bias(getattr(self.module, name)).cpu().numpy()
                for name in PROJECTIONS
            },
            activation=self.activation,
            threshold=self.threshold,
        )


def relu_mlps(model: nn.Module) -> list[GatedMLP]:
    """The MLP of every decoder block. Raises AccelSimError, which names the block, for one that is none of ours."""
    return [_mlp_of(path, module) for path, module in gated_mlps(model).items()]


def _mlp_of(name: str, module: nn.Module) -> GatedMLP:
    threshold = _threshold_of(module.act_fn, name)
    for activation in ("relu", "drelu"):
        mlp = GatedMLP(name, module, activation, threshold)
        if _computes(mlp):
            return mlp
    raise AccelSimError(
        f"{name}: {type(module).__name__} computes something else than down_proj(act_fn(gate_proj(x)) * up_proj(x)),"
        " with or without a ReLU on up"
    )


def _threshold_of(act: Callable[[Tensor], Tensor], name: str) -> float:
    """θ of an activation that is x above it and 0 below; ReLU has 0."""
    threshold = float(getattr(act, "threshold", 0.0))
    with torch.no_grad():
        answered = act(torch.from_numpy(_PROBE.copy()))
    if not torch.equal(answered, _cut(torch.from_numpy(_PROBE), threshold)):
        called = getattr(act, "__name__", type(act).__name__)
        raise AccelSimError(
            f"{name}: the activation {called} is no ReLU, so its gate skips nothing; expected ReLU, or x above an"
            " attribute `threshold` and 0 below (a SiLU model must be trained to ReLU first)"
        )
    return threshold


def _cut(gate: Tensor, threshold: float) -> Tensor:
    return torch.where(gate > threshold, gate, 0)


@torch.no_grad()
def _computes(mlp: GatedMLP) -> bool:
    """Whether the module's own answer to random tokens is this form's."""
    gate, up, down = (getattr(mlp.module, name) for name in PROJECTIONS)
    weight = gate.weight
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((4, weight.shape[1]), np.float32))
    x = x.to(weight.device, weight.dtype)
    # from the weights: called as a module, a projection may do more (a hook that puts a ReLU on up)
    gated, raised = (linear(x, each.weight, each.bias) for each in (gate, up))
    product = _cut(gated, mlp.threshold) * (raised.relu() if mlp.activation == "drelu" else raised)
    expected, answered = linear(product, down.weight, down.bias), mlp.module(x)
    return bool((answered - expected).abs().max() <= _TOLERANCE * expected.abs().max())


def _bias(projection: nn.Linear) -> Tensor:
    if projection.bias is None:
        return torch.zeros(projection.weight.shape[0], device=projection.weight.device)
    return projection.bias.detach().float()


def _array(weight: Tensor) -> np.ndarray:
    weight = weight.detach().cpu()
    return weight.view(torch.uint16).numpy() if weight.dtype == torch.bfloat16 else weight.float().numpy()
