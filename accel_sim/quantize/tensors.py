"""Per-token INT8 quantisation of torch tensors on a device: to the bit what `quantize.int8` gives on the host.

On a CUDA device where Triton is installed one kernel reads the floats once and writes the codes; elsewhere torch's own
functions do it, pass by pass. Nothing here waits for the device, so a value that is no number cannot raise: it leaves
NOT_FINITE among the codes and a scale that is not finite, for whoever looks at them on the host.
"""

from __future__ import annotations

import importlib.util
from typing import Literal

import torch
from torch import Tensor

from accel_sim.quantize.int8 import LARGEST_CODE

NOT_FINITE = -128
"""The code of a NaN or an infinity; no number has it."""


def quantize_on_device(x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes int8 [T, K] and scales float32 [T] of floats [T, K], on the device of `x`.

    A token with a NaN or an infinity has a scale that is not finite, and NOT_FINITE where they were.
    """
    if quantises_with(x.device) == "triton":
        from accel_sim.quantize.triton_int8 import quantize

        return quantize(x)
    x = x.float()
    scales = token_scales(x)
    codes = (x / scales).round_().clamp_(-LARGEST_CODE, LARGEST_CODE)
    return torch.where(x.isfinite(), codes, NOT_FINITE).to(torch.int8), scales[:, 0]


def quantises_with(device: torch.device) -> Literal["triton", "torch"]:
    """Which of the two `quantize_on_device` takes: the same codes, not the same speed."""
    return "triton" if device.type == "cuda" and importlib.util.find_spec("triton") is not None else "torch"


def token_scales(x: Tensor) -> Tensor:
    """max|x|/127 of each row, 1 for a row of zeros: float32 [T, 1] of float32 [T, K]."""
    scales = x.abs().amax(dim=1, keepdim=True) / LARGEST_CODE
    return torch.where(scales == 0, 1.0, scales)
