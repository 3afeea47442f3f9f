"""The executor on a CUDA device: three Triton kernels and a reduction, without an index list and without a copy."""

from __future__ import annotations

import torch
from torch import Tensor

from accel_sim.errors import AccelSimError
from accel_sim.executors.masks import Outcome, Pipeline
from accel_sim.executors.torch_ffn import TorchFFN, checked_activations, checked_scores

CHUNK = 128
"""Neurons of one partial sum of down: fixed, so that a result does not depend on the device."""
_MOST_FEATURES_AT_ONCE, _OUTPUTS_AT_ONCE = 1024, 256
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class TritonExecutor:
    """Runs one FFN; weights fp32, fp16 or bf16, sums fp32, outputs in the dtype of the activations.

    Raises AccelSimError where triton is not installed, and for weights on a CPU unless Triton interprets.
    """

    def __init__(self, ffn: TorchFFN, check_values: bool = True) -> None:
        try:
            from accel_sim.executors import triton_kernels
        except ModuleNotFoundError as error:
            raise AccelSimError(
                f"executor 'triton': {error.name} is not installed; pip install 'accel_sim[gpu]'"
            ) from None
        if ffn.gate.device.type != "cuda" and not triton_kernels.INTERPRETED:
            raise AccelSimError(
                f"executor 'triton': weights on {ffn.gate.device}; it needs a CUDA device, or TRITON_INTERPRET=1 in the"
                " environment before triton is imported (slow: for checking)"
            )
        if ffn.gate.dtype not in _DTYPES:
            raise AccelSimError(f"executor 'triton': weights of {ffn.gate.dtype}; expected one of {_DTYPES}")
        self.ffn, self._kernels, self._check_values = ffn, triton_kernels, check_values

    @torch.no_grad()
    def run(self, x: Tensor, mask: Tensor | None = None, pipeline: Pipeline = "sequential") -> Outcome:
        """Outputs [T, d] in the dtype of x [T, d], under `mask` [T, D]: bool, scores, or None."""
        ffn, kernels = self.ffn, self._kernels
        x = checked_activations(x, ffn, self._check_values).contiguous()
        scores = checked_scores(mask, x, ffn, pipeline, self._check_values)
        h = scores if pipeline == "sequential" else torch.empty_like(scores)
        sizes = (x.shape[0], ffn.neurons, ffn.features)
        tokens_at_once = _power_of_two(x.shape[0])
        blocks = {"BLOCK_T": tokens_at_once, "BLOCK_K": _features_at_once(ffn.features, tokens_at_once)}
        every_neuron = (ffn.neurons,)
        kernels.gate_kernel[every_neuron](ffn.gate, ffn.gate_bias, x, scores, h, ffn.threshold, *sizes, **blocks)
        rectified = ffn.activation == "drelu"
        kernels.up_kernel[every_neuron](ffn.up, ffn.up_bias, x, scores, h, *sizes, RECTIFIED=rectified, **blocks)
        return Outcome(self._down(x, h), None)

    def _down(self, x: Tensor, h: Tensor) -> Tensor:
        ffn, kernels = self.ffn, self._kernels
        tokens, features = x.shape
        chunks = -(-ffn.neurons // CHUNK)
        width = min(_OUTPUTS_AT_ONCE, _power_of_two(features))
        pieces = -(-features // width)
        partial = torch.empty((chunks, tokens, features), device=x.device)
        y = torch.empty_like(x)
        sizes = (tokens, ffn.neurons, features)
        kernels.down_kernel[(chunks, pieces)](
            ffn.down, h, partial, *sizes, CHUNK=CHUNK, BLOCK_T=_power_of_two(tokens), BLOCK_K=width
        )
        kernels.reduce_kernel[(tokens, pieces)](partial, ffn.down_bias, y, chunks, tokens, features, BLOCK_K=width)
        return y


def _power_of_two(number: int) -> int:
    """The least that is not below `number`."""
    return 1 << max(0, number - 1).bit_length()


def _features_at_once(features: int, tokens: int) -> int:
    """Features of a block, so that a block of all tokens stays in registers."""
    return max(16, min(_power_of_two(features), _MOST_FEATURES_AT_ONCE // tokens))
