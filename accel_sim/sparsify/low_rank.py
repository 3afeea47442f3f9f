"""Low-rank factors that carry what selection drops: Y = X̂·Wᵀ + (X − X̂)·A·B (R-Sparse, arXiv 2504.19449).

A [K, r] and B [r, F] stand for Wᵀ; at full rank they are Wᵀ, and the product is the dense one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from accel_sim.errors import AccelSimError

RIDGE = 2.0
"""Times K/T of the Gram matrix' mean diagonal, added to its diagonal. A few thousand tokens do not tell a thousand
directions apart: without it, SmolLM2's factors of 2,048 tokens (rank 64, 8:16) were worse than the plain SVD on other
text for half the projections; with it, better or equal for all."""


def svd_factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A [K, r], B [r, F] float32 of least ‖W − (A·B)ᵀ‖: the truncated SVD of weight [F, K].

    The singular values are shared out evenly. Raises AccelSimError for a rank above min(F, K) or below 1.
    """
    _check_rank(weight, rank)
    left, values, right = _truncated(weight.detach().double().mT, rank)
    root = values.sqrt()
    return (left * root).float(), (root[:, None] * right).float()


def fitted_factors(weight: Tensor, dropped: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A [K, r], B [r, F] float32 of least ‖D·(Wᵀ − A·B)‖ on what the calibration dropped, D = X − X̂ [T, K].

    R-Sparse learns its factors on calibration text; this is the optimum in closed form: with DᵀD = L·Lᵀ the norm is
    ‖Lᵀ·(Wᵀ − A·B)‖, so the truncated SVD of Lᵀ·Wᵀ, times L⁻ᵀ, is best (SVD-LLM's whitening, arXiv 2403.07378). A ridge
    that fades as tokens grow in number (RIDGE) keeps directions that calibration hardly saw as they are in the plain
    SVD, and L invertible. Where nothing was dropped the factors are :func:`svd_factors`.

    Raises AccelSimError for a rank above min(F, K) or below 1, and for shapes or values that cannot be.
    """
    _check_rank(weight, rank)
    if dropped.dim() != 2 or dropped.shape[1] != weight.shape[1]:
        raise AccelSimError(
            f"low rank: dropped {list(dropped.shape)} for a weight {list(weight.shape)}; expected [T, K]"
        )
    gram = dropped.double().mT @ dropped.double()
    tokens, features = dropped.shape
    ridge = RIDGE * features / max(1, tokens) * float(gram.diagonal().mean())
    if ridge == 0:
        return svd_factors(weight, rank)
    gram.diagonal().add_(ridge)
    lower, failed = torch.linalg.cholesky_ex(gram)
    if int(failed):
        raise AccelSimError("low rank: dropped activations that are not finite")
    left, values, right = _truncated(lower.mT @ weight.detach().double().mT, rank)
    root = values.sqrt()
    down = torch.linalg.solve_triangular(lower.mT, left * root, upper=True)
    return down.float(), (root[:, None] * right).float()


def _truncated(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return left[:, :rank], values[:rank], right[:rank]


def _check_rank(weight: Tensor, rank: int) -> None:
    most = min(weight.shape)
    if not 1 <= rank <= most:
        outputs, features = weight.shape
        raise AccelSimError(f"low rank: rank {rank} of a weight [{outputs}, {features}]; expected from 1 to {most}")
