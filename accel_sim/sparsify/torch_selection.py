"""Selection of torch tensors: the compiled kernels for what lies in main memory, tensor operations elsewhere.

Both return what `accel_sim.sparsify.selection.keep_reference` does, bit for bit.
"""

from __future__ import annotations

import torch
from numpy.typing import NDArray

from accel_sim.errors import AccelSimError
from accel_sim.sparsify import selection
from accel_sim.sparsify.kept import Kept


def prune_tensor(
    x: torch.Tensor, kept: Kept, factors: torch.Tensor | None = None, threshold: float | None = None
) -> torch.Tensor:
    """x [T, K] of any float type where its score |x|·factor stays, and 0 elsewhere; a new tensor of the same type.

    Scores are float32, of x and `factors` (None, [K] or [T, K]) taken as float32. Where gradients are wanted, they pass
    through what stays (the mask counts as constant). See `selection.prune` for the rest, errors included.
    """
    _require_matrix("x", x)
    if x.dtype == torch.float64 or (torch.is_grad_enabled() and x.requires_grad):
        return torch.where(keep_tensor(scores_of(x, factors), kept, threshold), x, 0)
    if x.device.type == "cpu":
        pruned = selection.prune(_array(x), kept, None if factors is None else _array(factors), threshold)
        return torch.from_numpy(pruned).to(x.dtype)
    return torch.where(keep_by_tensor_operations(scores_of(x, factors), kept, threshold), x, 0)


def keep_tensor(scores: torch.Tensor, kept: Kept, threshold: float | None = None) -> torch.Tensor:
    """Mask bool [T, K] of scores [T, K], any float type taken as float32, on their device; see `selection.keep`."""
    _require_matrix("scores", scores)
    if scores.device.type == "cpu":
        return torch.from_numpy(selection.keep(_array(scores), kept, threshold))
    return keep_by_tensor_operations(scores, kept, threshold)


def token_medians(x: torch.Tensor) -> torch.Tensor:
    """The lower median of each token of x [T, K], as [T, 1] of the same type; what `x.median(dim=1)` finds, sooner."""
    _require_matrix("x", x)
    if x.device.type != "cpu" or x.dtype == torch.float64:
        return x.detach().median(dim=1, keepdim=True).values
    return torch.from_numpy(selection.medians(_array(x))).to(x.dtype)


def scores_of(x: torch.Tensor, factors: torch.Tensor | None) -> torch.Tensor:
    """|x|·factor as float32 [T, K], one product, rounded once."""
    magnitudes = x.detach().to(torch.float32).abs()
    return magnitudes if factors is None else magnitudes * factors.detach().to(x.device, torch.float32)


def keep_by_tensor_operations(scores: torch.Tensor, kept: Kept, threshold: float | None = None) -> torch.Tensor:
    """`keep_tensor` on any device: no two keys are equal, so the N-th largest one parts what stays from the rest.

    A key is a score's bits, in the order of its value, and below them the feature, counted from the end.
    """
    _require_matrix("scores", scores)
    threshold = selection.checked_threshold(kept, threshold)
    scores = scores.detach().to(torch.float32) + 0.0  # −0 becomes 0
    if not bool((torch.isfinite(scores) & (scores >= 0)).all()):
        selection.keep_reference(_array(scores), kept, threshold)  # raises, naming the place
    if threshold is not None:
        return scores > float(threshold)
    tokens, features = scores.shape
    n, m = selection.slots(kept, features)
    from_the_end = m - 1 - torch.arange(features, device=scores.device) % m
    keys = scores.view(torch.int32).to(torch.int64) * m + from_the_end
    padded = torch.nn.functional.pad(keys, (0, -features % m), value=-1).reshape(tokens, -(-features // m), m)
    lowest = padded.topk(n, dim=2).values.amin(dim=2, keepdim=True)
    return (padded >= lowest).reshape(tokens, -1)[:, :features].contiguous()


def _array(tensor: torch.Tensor) -> NDArray:
    """As a float32 array, sharing memory where it can be shared."""
    return tensor.detach().to("cpu", torch.float32).numpy()


def _require_matrix(name: str, tensor: torch.Tensor) -> None:
    if not tensor.is_floating_point() or tensor.ndim != 2 or tensor.shape[1] == 0:
        raise AccelSimError(f"{name}: got {tensor.dtype} {list(tensor.shape)}, expected floats [token, feature]")
