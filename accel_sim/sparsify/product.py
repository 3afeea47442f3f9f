"""One projection's product under a treatment.

What it reads is smoothed, rotated, shifted, selected, scaled and quantised; what was taken away comes back behind the
product: the shift as a rank-1 term η·(W·1), what selection dropped as a product of low rank.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from accel_sim.quantize.int8 import LARGEST_CODE
from accel_sim.sparsify.arithmetic import dequantize, exact_product, hardware_factors, quantize
from accel_sim.sparsify.context import Context
from accel_sim.sparsify.neurons import GatePredictor
from accel_sim.sparsify.recipe import Treatment
from accel_sim.sparsify.torch_selection import keep_tensor, prune_tensor, token_medians

SMALLEST_VARIANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Pruned:
    """What a projection multiplies: the same for all that read one input under one treatment."""

    kept: Tensor
    """x̂ float32 [n, K]; with `scales`, codes as integers."""
    scales: Tensor | None = None
    """float32 [n, 1] of the codes."""
    shift: Tensor | None = None
    """η that was subtracted, in units of x: [n, 1], one number, or [K]."""
    variance: Tensor | None = None
    """ν [n, 1]."""
    dropped: Tensor | None = None
    """x − x̂ float32 [n, K], where a low-rank product needs it."""


@dataclass(frozen=True, eq=False)
class WeightCodes:
    """INT8 weights: `values` [F, K], integers in float32, `scales` float32 [F]."""

    values: Tensor
    scales: Tensor


@dataclass(frozen=True, eq=False)
class TreatedProduct:
    """A treatment and everything of it that is known before the run, on the model's device."""

    treatment: Treatment
    weight: Tensor
    """W [F, K], smoothed, rotated, pruned."""
    smoothing: Tensor | None = None
    """s [K]; x is divided by it."""
    rotation: Tensor | None = None
    """Q [K, K]; x is multiplied by it."""
    factors: Tensor | None = None
    """float32 [K] of criteria with a static table."""
    threshold: float | None = None
    """Of `threshold N%`."""
    shift: Tensor | None = None
    """η of static and learned shifts: one number, or [K]."""
    shift_back: Tensor | None = None
    """[F]: W·η where η is [K], W·1 for any other shift."""
    low_rank: tuple[Tensor, Tensor] | None = None
    """A [K, r], B [r, F]."""
    weight_codes: WeightCodes | None = None
    """Of w8a8."""
    tensor_scale: float | None = None
    """Of w8a8 with one static scale for all activations."""
    output_scale: Tensor | None = None
    """[F]; y is multiplied by 1 + it."""
    output_shift: Tensor | None = None
    """[F]"""
    predictor: GatePredictor | None = None
    """Of the outputs that are computed at all."""

    @property
    def input_key(self) -> Hashable:
        """Equal for products that can share what they multiply."""
        read = self.treatment.model_copy(update={"weights": None, "output": "none", "neurons": None})
        tensors = (self.smoothing, self.rotation, self.factors, self.shift)
        return (read, *map(_identity, tensors), self.threshold, self.tensor_scale)

    def prepare(self, x: Tensor, context: Context, owner: Hashable = None) -> Pruned:
        """What is multiplied in place of x [n, K]. `owner` tells the running norms of one projection from another's."""
        x = x.float()
        if self.smoothing is not None:
            x = x / self.smoothing
        if self.rotation is not None:
            x = x @ self.rotation
        prunes = self.treatment.prunes(context.phase)
        if self.treatment.precision == "float":
            return self._prune(x, context, owner) if prunes else Pruned(x)
        if self.treatment.score == "floats":
            pruned = self._prune(x, context, owner) if prunes else Pruned(x)
            codes, scales = quantize(pruned.kept, self.tensor_scale)
            return replace(pruned, kept=codes, scales=scales)
        # As the hardware does it: shift, scores and variance are of codes. A shift that differs by feature is taken off
        # before quantisation, because the unit of a code differs from token to token.
        codes, scales = quantize(x - self.shift if prunes and self._shifts_by_feature else x, self.tensor_scale)
        if not prunes:
            return Pruned(codes, scales)
        pruned = self._prune(codes, context, owner, scales)
        if context.selections is not None:
            by_floats = self._prune(x, context, ("floats", owner))
            context.selections.count(self._shifted(codes, scales)[0], pruned.kept, by_floats.kept)
        return pruned

    def multiply(self, pruned: Pruned, bias: Tensor | None, context: Context) -> Tensor:
        """y float32 [n, F] with the bias [F]."""
        if pruned.scales is None:
            y = torch.nn.functional.linear(pruned.kept, self.weight.float())
        else:
            codes = self.weight_codes
            y = dequantize(exact_product(pruned.kept, codes.values), pruned.scales, codes.scales)
        if pruned.variance is not None:
            y = y * pruned.variance
        if pruned.shift is not None:
            y = y + (self.shift_back if self._shifts_by_feature else pruned.shift * self.shift_back)
        if pruned.dropped is not None:
            down, up = self.low_rank
            y = y + (pruned.dropped @ down) @ up
        if self.treatment.prunes(context.phase):
            y = y if self.output_scale is None else y * (1 + self.output_scale)
            y = y if self.output_shift is None else y + self.output_shift
        return y if bias is None else y + bias

    def silence(self, y: Tensor, x: Tensor, context: Context, owner: str) -> Tensor:
        """y [n, F] with zeros for the neurons that are predicted dead from x [n, K], as the projection reads it."""
        if self.predictor is None or not self.treatment.predicts(context.phase):
            return y
        if context.predictions is not None:
            context.predictions.setdefault(owner, []).append(self.predictor.quality(x))
        return self.predictor.silence(y, x)

    @property
    def _shifts_by_feature(self) -> bool:
        return self.shift is not None and self.shift.dim() == 1

    def _prune(self, x: Tensor, context: Context, owner: Hashable, scales: Tensor | None = None) -> Pruned:
        """Shift, select and measure x [n, K], of floats, or of codes with these scales."""
        x, eta = self._shifted(x, scales)
        kept = self._select(x, context, owner, scales)
        dropped = None
        if self.low_rank is not None:
            dropped = x - kept if scales is None else (x - kept) * scales
        return Pruned(kept, scales, eta, _variance(x, kept) if self.treatment.variance else None, dropped)

    def _shifted(self, x: Tensor, scales: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """x − η in units of x, and η in units of the activations; of codes saturated at ±127."""
        eta = self.shift_of(x, scales)
        if eta is None:
            return x, self.shift if scales is not None and self._shifts_by_feature else None
        if scales is None:
            return x - eta, eta
        return (x - eta).clamp_(-LARGEST_CODE, LARGEST_CODE), eta * scales

    def shift_of(self, x: Tensor, scales: Tensor | None = None) -> Tensor | None:
        """η in units of x [n, K], floats or the codes of `scales`: [n, 1], one number or [K]; of codes a whole number.

        None where nothing is subtracted.
        """
        if self.treatment.shift == "median":
            return token_medians(x)
        if self.treatment.shift == "mean":
            mean = x.mean(dim=1, keepdim=True)
            return mean if scales is None else mean.round_()
        if self.shift is None or scales is None:
            return self.shift
        if self._shifts_by_feature:  # it is off already
            return None
        return (self.shift / scales).round_().clamp_(-LARGEST_CODE, LARGEST_CODE)

    def _select(self, x: Tensor, context: Context, owner: Hashable, scales: Tensor | None = None) -> Tensor:
        """x [n, K], floats or codes of `scales`, with zeros where nothing is kept."""
        pattern, criterion = self.treatment.pattern, self.treatment.criterion
        if criterion == "random":
            return torch.where(keep_tensor(context.random_scores(x), pattern), x, 0)
        factors = self.factors
        if criterion in ("clact", "clact_running"):
            values = x if scales is None else x * scales  # codes of different tokens have different units
            factors = context.column_norms(values, criterion == "clact_running", owner)
        if factors is not None and scales is not None:
            factors = hardware_factors(factors)
        return prune_tensor(x, pattern, factors, self.threshold)


def _variance(x: Tensor, kept: Tensor) -> Tensor:
    """ν = √(Var[x] / Var[x̂]) of each row, zeros included (arXiv 2509.22166, eq. 5)."""
    return (x.var(dim=1, keepdim=True) / kept.var(dim=1, keepdim=True).clamp_min(SMALLEST_VARIANCE)).sqrt_()


def _identity(tensor: Tensor | None) -> Hashable:
    return tensor if tensor is None else float(tensor) if tensor.numel() == 1 else id(tensor)
