"""From a layer's weights and what it reads in calibration to its predictor."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from accel_sim.errors import AccelSimError
from accel_sim.sparsify.contextual.ffn import GatedFfn
from accel_sim.sparsify.contextual.importance import gate_sparsity, importance
from accel_sim.sparsify.contextual.metrics import sparsity
from accel_sim.sparsify.contextual.monotonicity import monotonicity
from accel_sim.sparsify.contextual.options import PredictorOptions
from accel_sim.sparsify.contextual.predictor import (
    LowRankPredictor,
    OraclePredictor,
    Predictor,
    SignBitPredictor,
    sign_bits,
)
from accel_sim.sparsify.contextual.svd import low_rank
from accel_sim.sparsify.contextual.thresholds import Thresholds, const_threshold, greedy_thresholds
from accel_sim.sparsify.contextual.trained import train_low_rank
from accel_sim.sparsify.contextual.whitening import whitening_factor

MAJORITY = 0.5
"""Bias of signs before calibration: SparseInfer skips a neuron where more signs differ than agree, not at a tie; scores
are whole numbers."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A layer's predictor, and how its fit went."""

    predictor: Predictor
    options: PredictorOptions
    target: float | None
    """Sparsity that the biases were to give; None where the options have none calibrated."""
    measured_gate_sparsity: float
    """Share of (token, neuron) pairs of the calibration whose gate is zero."""
    predicted_sparsity: float
    """Share of pairs predicted inactive, on the half of the tokens that calibrated the biases."""
    lost: float | None = None
    """Greedy alone: share of those pairs' importance that is predicted inactive."""
    turned_off: int | None = None
    """Greedy alone: neurons that matter, and are predicted inactive for all tokens of that half."""
    monotone: float | None = None
    """Greedy alone: mean Kendall τ_b of marginal costs, 1 where greedy is optimal; None where all cost the same."""
    ridge: float | None = None
    """Whitening alone: what was added to the diagonal of XᵀX."""


def fit_predictor(options: PredictorOptions, ffn: GatedFfn, x: Tensor, seed: int = 0) -> Fitted:
    """The predictor of one layer, from x float32 [n, d], what its gate reads for n tokens of calibration.

    As in the paper's code one half of the tokens gives the scores (the whitening, or what the classifier learns from)
    and the other the biases. The halves are drawn at random by `seed`, so that both have all kinds of text; neighbours
    in a text fall into both. What needs no tokens for its scores (naive SVD, signs, the oracle) leaves the first half
    alone. The gate's sparsity is measured on all tokens. A gate's own bias is part of the low-rank scores' bias.

    Raises AccelSimError for fewer than two tokens, a width that is not the layer's, values that are not finite, and a
    rank that the gate has not.
    """
    if x.dim() != 2 or x.shape[1] != ffn.hidden or len(x) < 2:
        raise AccelSimError(
            f"predictor: activations {list(x.shape)}; expected [n, {ffn.hidden}] with at least two tokens"
        )
    x = x.detach().float()
    if not bool(torch.isfinite(x).all()):
        raise AccelSimError("predictor: activations that are not finite")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).to(x.device)
    for_scores, for_biases = x[order[: len(x) // 2]], x[order[len(x) // 2 :]]
    measured = gate_sparsity(ffn, x)
    target = options.sparsity * measured if options.relative else options.sparsity
    if options.kind == "oracle":
        return _oracle(options, ffn, for_biases, target, measured)
    start, ridge = _uncalibrated(options, ffn, for_scores, seed)
    if options.bias == "none":
        found = sparsity(start.predict(for_biases))
        return Fitted(start, options, None, measured, found, ridge=ridge)
    scores = (start.scores(for_biases) + start.bias).cpu().numpy()
    if options.bias == "const":
        predictor = _shifted(start, const_threshold(scores, target))
        found = sparsity(predictor.predict(for_biases))
        return Fitted(predictor, options, target, measured, found, ridge=ridge)
    costs = importance(ffn, for_biases, options.importance).cpu().numpy()
    thresholds = _greedy(options, scores, costs, target)
    predictor = _shifted(start, thresholds.values)
    return Fitted(
        predictor,
        options,
        target,
        measured,
        sparsity(predictor.predict(for_biases)),
        lost=thresholds.lost,
        turned_off=thresholds.turned_off,
        monotone=monotonicity(scores, costs),
        ridge=ridge,
    )


def _uncalibrated(
    options: PredictorOptions, ffn: GatedFfn, x: Tensor, seed: int
) -> tuple[LowRankPredictor | SignBitPredictor, float | None]:
    """The predictor before its biases are calibrated, and the whitening's ridge."""
    if options.kind == "sign_bit":
        return SignBitPredictor(sign_bits(ffn.gate), torch.full_like(ffn.gate[:, 0], MAJORITY)), None
    if options.kind == "trained":
        up, down = train_low_rank(x, ffn.realised(x), options.rank_of(ffn.intermediate), seed=seed)
        return LowRankPredictor(down, up, torch.zeros_like(ffn.gate[:, 0])), None
    factor = whitening_factor(x) if options.whitening else None
    up, down = low_rank(ffn.gate, options.rank_of(ffn.intermediate), factor.lower if factor else None)
    bias = torch.zeros_like(ffn.gate[:, 0]) if ffn.gate_bias is None else ffn.gate_bias
    return LowRankPredictor(down, up, bias), factor.ridge if factor else None


def _oracle(options: PredictorOptions, ffn: GatedFfn, x: Tensor, target: float, measured: float) -> Fitted:
    floor = const_threshold(importance(ffn, x, options.importance).cpu().numpy(), target)
    predictor = OraclePredictor(ffn, options.importance, max(0.0, float(floor)))
    return Fitted(predictor, options, target, measured, sparsity(predictor.predict(x)))


def _greedy(options: PredictorOptions, scores: np.ndarray, costs: np.ndarray, target: float) -> Thresholds:
    spare = options.at_limit == "spare"
    return greedy_thresholds(scores, costs, target, options.bins, options.initial_cap, options.turned_off, spare)


def _shifted(
    start: LowRankPredictor | SignBitPredictor, thresholds: np.ndarray | np.float32
) -> LowRankPredictor | SignBitPredictor:
    """The predictor whose scores, with the bias that it had, must be above the thresholds."""
    values = torch.as_tensor(np.asarray(thresholds, np.float32)).to(start.bias.device)
    return replace(start, bias=start.bias - values)
