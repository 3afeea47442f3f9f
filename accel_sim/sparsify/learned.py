"""Mitigations that are fitted layer by layer to the dense layer's own outputs: L-PTS and LS of arXiv 2509.22166."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, cos, pi
from typing import Literal

import torch
from torch import Tensor

from accel_sim.errors import AccelSimError

RATE = 0.03
"""Of AdamW, in standard deviations of a feature; the paper's 1e-4 is of its own units and thousands of steps."""
ROWS = 256
"""Tokens a step."""
EPOCHS = 8
PATIENCE = 2
"""Epochs without a better fit after which learning stops."""


def fit_output(dense: Tensor, sparse: Tensor, kind: Literal["shift", "scale_and_shift"]) -> tuple[Tensor, Tensor]:
    """(scale [F], shift [F]) float32 of least ‖dense − (sparse·(1 + scale) + shift)‖² over outputs [T, F].

    The paper learns them with AdamW for this very error, layer by layer: L-PTS at the output (`shift`; the scale is
    zero), LS with it (`scale_and_shift`). The error is quadratic and outputs do not mix, so simple regression, output
    by output, IS the optimum that AdamW approaches. An output that never varies keeps its scale.

    Raises AccelSimError for shapes that differ and for values that are not finite.
    """
    if dense.dim() != 2 or dense.shape != sparse.shape or not len(dense):
        raise AccelSimError(f"output fit: dense {list(dense.shape)}, sparse {list(sparse.shape)}; expected both [T, F]")
    dense, sparse = dense.detach().double(), sparse.detach().double()
    shift = dense.mean(0) - sparse.mean(0)
    scale = torch.zeros_like(shift)
    if kind == "scale_and_shift":
        centred = sparse - sparse.mean(0)
        variance = centred.square().mean(0)
        covariance = (centred * (dense - dense.mean(0))).mean(0)
        scale = torch.where(variance > 0, covariance / variance.clamp(min=torch.finfo(torch.double).tiny) - 1, 0)
        shift = dense.mean(0) - (1 + scale) * sparse.mean(0)
    if not bool(torch.isfinite(scale + shift).all()):
        raise AccelSimError("output fit: outputs that are not finite")
    return scale.float(), shift.float()


def learn_shift(
    x: Tensor,
    weight: Tensor,
    prune: Callable[[Tensor], Tensor],
    *,
    epochs: int = EPOCHS,
    rows: int = ROWS,
    rate: float = RATE,
    patience: int = PATIENCE,
    seed: int = 0,
) -> Tensor:
    """η [K] float32, subtracted before selection and added back after it: L-PTS at the input.

    Fitted to the dense outputs X·Wᵀ of x [T, K] and weight [F, K], as the projection reads them; `prune` maps [n, K] to
    the same with zeros where nothing is kept. AdamW as in the paper (betas 0.9 and 0.95, gradient norm at most 1,
    warm-up over 3 % of the steps, then a cosine) lowers ‖(prune(X − η) + η − X)·Wᵀ‖², what is kept taken as given in
    the gradient. It starts at 0 or at the features' means, whichever is better, and steps in their standard deviations,
    so that one rate serves all layers. Returned is the best η, of the start and after each epoch: never worse than no
    shift on these rows. The same `seed` gives the same η.

    Raises AccelSimError for shapes that do not fit and for values that are not finite.
    """
    if x.dim() != 2 or weight.dim() != 2 or x.shape[1] != weight.shape[1] or not len(x):
        shapes = f"activations {list(x.shape)}, weight {list(weight.shape)}"
        raise AccelSimError(f"learned shift: {shapes}; expected [T, K] and [F, K]")
    x, weight = x.detach().float(), weight.detach().float()
    unit, mean = torch.std_mean(x, dim=0, correction=0)
    gram = weight.mT @ weight
    if not bool(torch.isfinite(unit).all() and torch.isfinite(gram).all()):
        raise AccelSimError("learned shift: activations or weights that are not finite")
    candidates = [torch.zeros_like(mean), mean]
    losses = [_error(x, gram, prune, eta) for eta in candidates]
    start = candidates[losses.index(min(losses))]
    # A feature that never varies takes no steps: its unit is 0.
    steps = torch.zeros_like(unit, requires_grad=True)
    optimizer = torch.optim.AdamW([steps], lr=rate, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_cosine(epochs * ceil(len(x) / rows)))
    random = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for chosen in torch.randperm(len(x), generator=random).split(rows):
            dropped = _dropped(x[chosen.to(x.device)], prune, start + unit * steps.detach())
            # d‖dropped·Wᵀ‖²/dη: a dropped element falls by what its η grows, a kept one is not in it.
            steps.grad = -2 * unit * ((dropped @ gram) * (dropped != 0)).sum(0)
            torch.nn.utils.clip_grad_norm_([steps], 1.0)
            optimizer.step()
            schedule.step()
        candidates.append(start + unit * steps.detach())
        losses.append(_error(x, gram, prune, candidates[-1]))
        if len(losses) - losses.index(min(losses)) > patience:
            break
    return candidates[losses.index(min(losses))]


def _dropped(x: Tensor, prune: Callable[[Tensor], Tensor], eta: Tensor) -> Tensor:
    shifted = x - eta
    return shifted - prune(shifted)


def _error(x: Tensor, gram: Tensor, prune: Callable[[Tensor], Tensor], eta: Tensor) -> float:
    """‖dropped·Wᵀ‖², by way of WᵀW [K, K], which spares the outputs."""
    dropped = _dropped(x, prune, eta)
    return float(((dropped @ gram) * dropped).sum(dtype=torch.double))


def _warm_cosine(steps: int) -> Callable[[int], float]:
    """Factor of the learning rate at each of so many steps."""
    warm = max(1.0, 0.03 * steps)
    return lambda step: min(1.0, (step + 1) / warm) * (1 + cos(pi * min(1.0, step / steps))) / 2
