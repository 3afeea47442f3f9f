"""Low-rank factors of a gate: truncation-aware SVD, and the naive one (SVDP, Algorithm 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from accel_sim.errors import AccelSimError


def low_rank(weight: Tensor, rank: int, factor: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A [D, r], B [r, d] float32 of weight W [D, d]: least ‖(W − A·B)·S‖ for a `factor` S [d, d], else ‖W − A·B‖.

    With S·Sᵀ = X·Xᵀ that norm is ‖W·X − A·B·X‖, the error of the gate's outputs. The paper has U, Σ, V of W·S,
    A = U_r·Σ_r and B = V_rᵀ·S⁻¹. Since Σ_r·V_rᵀ = U_rᵀ·W·S, the same product is U_r·(U_rᵀ·W): taken so, A is
    orthonormal and nothing is divided by S, however close to singular. Computed in float64.

    Raises AccelSimError for a rank below 1 or above min(D, d), shapes that do not fit, and values that are not finite.
    """
    if weight.dim() != 2:
        raise AccelSimError(f"low rank: weight {list(weight.shape)}; expected [D, d]")
    most = min(weight.shape)
    if not 1 <= rank <= most:
        raise AccelSimError(f"low rank: rank {rank} of a gate {list(weight.shape)}; expected from 1 to {most}")
    wide = weight.detach().double()
    if factor is not None and factor.shape != (wide.shape[1], wide.shape[1]):
        raise AccelSimError(f"low rank: whitening factor {list(factor.shape)}; expected {[wide.shape[1]] * 2}")
    matrix = wide if factor is None else wide @ factor.to(wide)
    if not bool(torch.isfinite(matrix).all()):
        raise AccelSimError("low rank: a gate or a whitening factor that is not finite")
    up = torch.linalg.svd(matrix, full_matrices=False).U[:, :rank]
    return up.float().contiguous(), (up.mT @ wide).float()
