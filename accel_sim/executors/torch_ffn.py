"""A gated FFN and a low-rank predictor as tensors, and the checks that the torch executors share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from accel_sim.errors import AccelSimError
from accel_sim.executors.ffn import Activation, GatedFFN
from accel_sim.executors.masks import check_pipeline
from accel_sim.executors.predictor import LowRank


@dataclass(frozen=True, eq=False)
class TorchFFN:
    """As :class:`GatedFFN`: gate, up and down (transposed) [D, d] of one float dtype, biases float32."""

    gate: Tensor
    up: Tensor
    down: Tensor
    gate_bias: Tensor
    up_bias: Tensor
    down_bias: Tensor
    activation: Activation = "relu"
    threshold: float = 0.0

    @classmethod
    def of(cls, ffn: GatedFFN, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> TorchFFN:
        """On `device`, in `dtype`, by default that of the weights. On the CPU they share memory where they can.

        Raises AccelSimError where torch sees no such device.
        """
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise AccelSimError(f"device {device!r}: torch sees no CUDA device")
        stored = "float32" if ffn.gate.dtype.kind == "f" else "bfloat16"
        target = dtype or getattr(torch, stored)
        if stored == "bfloat16" and target != torch.bfloat16:
            ffn = ffn.in_float32()
        elif target == torch.bfloat16:
            ffn = ffn.in_bfloat16()

        def weight(name: str) -> Tensor:
            tensor = torch.from_numpy(getattr(ffn, name))
            tensor = tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor
            return tensor.to(device, target)

        biases = (torch.from_numpy(bias).to(device) for bias in (ffn.gate_bias, ffn.up_bias, ffn.down_bias))
        return cls(*map(weight, ("gate", "up", "down")), *biases, ffn.activation, ffn.threshold)

    @property
    def neurons(self) -> int:
        """D."""
        return self.gate.shape[0]

    @property
    def features(self) -> int:
        """d."""
        return self.gate.shape[1]


@dataclass(frozen=True, eq=False)
class TorchLowRank:
    """A predictor A·B·x + b as tensors (SVDP §3.1): its bias is compared in the dtype that it is stored in."""

    down: Tensor
    """B [r, d]."""
    up: Tensor
    """A [D, r]."""
    bias: Tensor
    """b [D]."""

    @classmethod
    def of(cls, thin: LowRank, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> TorchLowRank:
        """On `device`, in `dtype`; the paper runs its predictors in fp16."""
        return cls(*(torch.from_numpy(part).to(device, dtype) for part in (thin.down, thin.up, thin.bias)))

    def scores(self, x: Tensor) -> Tensor:
        """[T, D] in the predictor's dtype, for x [T, d]: above 0 where a neuron may be active."""
        return torch.addmm(self.bias, x.to(self.down.dtype) @ self.down.T, self.up.T)


def checked_activations(x: Tensor, ffn: TorchFFN, values: bool) -> Tensor:
    """`x` [T, d] without gradient; with `values`, no NaN or infinity in it (which waits for the device)."""
    if x.dim() != 2 or x.shape[1] != ffn.features or not x.is_floating_point():
        raise AccelSimError(f"x: got {x.dtype} {list(x.shape)}, expected floats [tokens, {ffn.features}]")
    if x.device != ffn.gate.device:
        raise AccelSimError(f"x: on {x.device}, the weights are on {ffn.gate.device}")
    if values:
        finite = torch.isfinite(x)
        if not bool(finite.all()):
            token, feature = (~finite).nonzero()[0].tolist()
            raise AccelSimError(
                f"x: token {token}, feature {feature} is {x[token, feature].item()}; expected finite values"
            )
    return x.detach()


def checked_mask(mask: Tensor | None, x: Tensor, ffn: TorchFFN, pipeline: str, values: bool) -> Tensor | None:
    """`mask` [T, D] on the device of x: bool, or scores, above 0 where a neuron may be active. See `masks.check_mask`.

    None leaves the skipping to the gate. With `values`, no NaN among scores (which waits for the device).
    """
    check_pipeline(pipeline)
    if mask is None:
        if pipeline == "parallel":
            raise AccelSimError("pipeline 'parallel' without a mask would skip no row of gate and up; give a mask")
        return None
    shape = (x.shape[0], ffn.neurons)
    if mask.shape != shape or not (mask.dtype == torch.bool or mask.is_floating_point()):
        found = f"{mask.dtype} {list(mask.shape)}"
        raise AccelSimError(f"mask: got {found}, expected bool or float scores {list(shape)}")
    if values and mask.is_floating_point() and bool(torch.isnan(mask).any()):
        token, neuron = torch.isnan(mask).nonzero()[0].tolist()
        raise AccelSimError(f"mask: the score of token {token}, neuron {neuron} is nan; expected numbers")
    return mask.detach().to(x.device)
