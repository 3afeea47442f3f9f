"""Orthogonal bases to select in: X·Q is pruned and multiplied with (W·Q)ᵀ, which changes nothing where all is kept.

The order of the axes is free, and decides how well N:M does. Sorted by size, a group's axes are about equally large,
and half of the largest go; so they are dealt out such that every group of M = 2, 4, 8, … spans all sizes. On
SmolLM2's inputs at 8:16 the sorted order loses 1.4 to 31 times as much of the outputs; unstructured shares do not care.
"""

from __future__ import annotations

import torch
from torch import Tensor

from accel_sim.errors import AccelSimError


def principal_axes(x: Tensor) -> Tensor:
    """Q [K, K] float32, orthogonal: the principal axes of activations x [T, K], dealt out by variance.

    The mean is removed before the axes are found, not when Q is used (La RoSA, arXiv 2507.01299). Fewer tokens than
    features still give a whole basis, arbitrary where nothing was seen. Raises AccelSimError for no tokens and for
    values that are not finite.
    """
    if x.dim() != 2 or not len(x):
        raise AccelSimError(f"principal axes: activations {list(x.shape)}; expected [T, K] with at least one token")
    centred = x.double() - x.double().mean(0)
    covariance = centred.mT @ centred
    if not bool(torch.isfinite(covariance).all()):
        raise AccelSimError("principal axes: activations that are not finite")
    axes = torch.linalg.eigh(covariance).eigenvectors.flip(1)
    return _dealt_out(_with_fixed_signs(axes)).float()


def right_singular_vectors(weight: Tensor) -> Tensor:
    """V [K, K] float32, orthogonal: the right singular vectors of weight [F, K], dealt out by singular value.

    The columns of W·V are orthogonal, which WINA's error bound asks for (arXiv 2505.19427); where F < K the
    other K − F columns span what W ignores, and W·V is zero there. Raises AccelSimError for values that are not finite.
    """
    if not bool(torch.isfinite(weight).all()):
        raise AccelSimError("right singular vectors: a weight that is not finite")
    basis = torch.linalg.svd(weight.detach().double(), full_matrices=True).Vh.mT
    return _dealt_out(_with_fixed_signs(basis)).float()


def _with_fixed_signs(basis: Tensor) -> Tensor:
    """Each column's largest entry positive: a vector and its opposite are the same axis, and libraries differ."""
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    return basis * torch.where(largest < 0, -1.0, 1.0)


def _dealt_out(basis: Tensor) -> Tensor:
    """Columns, largest first, in the order of van der Corput's sequence.

    Its M numbers from any multiple of M on lie one in each M-th part of the range, for every M that is a power of two.
    """
    features = basis.shape[1]
    positions = torch.arange(features)
    digits = range(features.bit_length())
    mirrored = sum(((positions >> digit) & 1) << (len(digits) - 1 - digit) for digit in digits)
    return basis[:, mirrored.argsort().argsort().to(basis.device)]
