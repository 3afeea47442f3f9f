"""The factor that makes calibration activations white: S·Sᵀ = X·Xᵀ (SVDP, Algorithm 1; SVD-LLM, arXiv 2403.07378)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from accel_sim.errors import AccelSimError

RIDGE = 1e-6
"""Of the Gram matrix' mean diagonal, added beyond its least eigenvalue where it is not positive definite. SVD-LLM adds
an absolute 1e-6, which depends on the activations' unit."""


@dataclass(frozen=True, eq=False)
class WhiteningFactor:
    """S, and what had to be added to find it."""

    lower: Tensor
    """S float64 [d, d], lower triangular."""
    ridge: float
    """Added to the diagonal of XᵀX before it was factored; 0 where it was positive definite."""


def whitening_factor(x: Tensor) -> WhiteningFactor:
    """The Cholesky factor of XᵀX + ridge·I, in float64, of activations x [n, d], a row a token.

    Fewer tokens than features (or features that always agree) give a singular XᵀX; then, as in SVD-LLM, the ridge
    lifts its least eigenvalue above zero. Raises AccelSimError for no tokens and values that are not finite.
    """
    if x.dim() != 2 or not x.numel():
        raise AccelSimError(f"whitening: activations {list(x.shape)}; expected [n, d] with at least one token")
    wide = x.detach().double()
    gram = wide.mT @ wide
    if not bool(torch.isfinite(gram).all()):
        raise AccelSimError("whitening: activations that are not finite")
    lower, failed = torch.linalg.cholesky_ex(gram)
    if not int(failed):
        return WhiteningFactor(lower, 0.0)
    mean = float(gram.diagonal().mean())
    least = float(torch.linalg.eigvalsh(gram)[0])
    ridge = max(0.0, -least) + RIDGE * (mean or 1.0)  # activations that are all zero prefer no direction
    gram.diagonal().add_(ridge)
    return WhiteningFactor(torch.linalg.cholesky(gram), ridge)
