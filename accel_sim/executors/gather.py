"""The gather form: index lists, gathered rows, dense products (SVDP Alg. 4, which runs on a matrix engine by CANN)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from accel_sim.executors.masks import FetchedRows, Outcome, Pipeline
from accel_sim.executors.torch_ffn import TorchFFN, checked_activations, checked_mask


class GatherExecutor:
    """Runs one FFN on the CPU or a CUDA device, in the dtype of its weights.

    Gathering copies every needed row before it is multiplied, and a batch multiplies the union of its tokens' rows.
    """

    def __init__(self, ffn: TorchFFN, check_values: bool = True) -> None:
        self.ffn, self._check_values = ffn, check_values

    @torch.no_grad()
    def run(self, x: Tensor, mask: Tensor | None = None, pipeline: Pipeline = "sequential") -> Outcome:
        """Outputs [T, d] in the dtype of x [T, d], under `mask` [T, D]: bool, scores, or None.

        Down takes the rows of up: a third index list would cost more than the products that are zero.
        """
        ffn = self.ffn
        given = checked_activations(x, ffn, self._check_values)
        mask = checked_mask(mask, given, ffn, pipeline, self._check_values)
        wanted = _wanted(mask, (x.shape[0], ffn.neurons), x.device)
        x = given.to(ffn.gate.dtype)
        rows = _needed(wanted)
        gate = linear(x, ffn.gate.index_select(0, rows)) + ffn.gate_bias[rows]
        kept = wanted.index_select(1, rows) & (gate > ffn.threshold)
        gate = torch.where(kept, gate, 0)
        gated = rows.numel()
        if pipeline == "sequential":
            places = _needed(kept)
            rows, gate, kept = rows[places], gate.index_select(1, places), kept.index_select(1, places)
        up = linear(x, ffn.up.index_select(0, rows)) + ffn.up_bias[rows]
        if ffn.activation == "drelu":
            up = up.relu()
        product = torch.where(kept, gate * up, 0).to(x.dtype)
        y = product @ ffn.down.index_select(0, rows) + ffn.down_bias
        return Outcome(y.to(given.dtype), FetchedRows(gated, rows.numel(), rows.numel()))


def _wanted(mask: Tensor | None, shape: tuple[int, int], device: torch.device) -> Tensor:
    """bool [T, D]."""
    if mask is None:
        return torch.ones(shape, dtype=torch.bool, device=device)
    return mask if mask.dtype == torch.bool else mask > 0


def _needed(wanted: Tensor) -> Tensor:
    """Ascending indices of the columns of bool [T, n] that some token wants."""
    return wanted.any(dim=0).nonzero().squeeze(1)
