"""How much the model's loss depends on each input feature of each projection: the `gradient` criterion's factors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from accel_sim.capture.products import Product, ProductWatcher
from accel_sim.capture.projections import LinearParameter
from accel_sim.errors import AccelSimError


def gradient_factors(model: nn.Module, input_ids: Tensor, parameters: Sequence[LinearParameter]) -> dict[str, Tensor]:
    """|Σ_t dL/dX_tj| [K] float32 by projection path, over all tokens of `input_ids` int64 [B, T].

    L is the summed next-token loss of the causal language model, X what the projection reads, and the gradient what
    flows through this projection alone, as in the release of arXiv 2509.22166 (its text has no such criterion). One
    sequence at a time; the model, its gradients and which of its parameters want one stay as they were. Experts that
    no token was routed to are left out.

    Raises AccelSimError for sequences of one token, and for gradients that are not finite.
    """
    if input_ids.dim() != 2 or not len(input_ids) or input_ids.shape[1] < 2:
        raise AccelSimError(
            f"gradients: tokens {list(input_ids.shape)}; expected [B, T] with at least two in a sequence"
        )
    # A zero vector that is added to all of a projection's rows has exactly the wanted sum as its gradient.
    zeros: dict[str, Tensor] = {}

    def add_zero(product: Product) -> Tensor:
        x = product.activation
        if product.name not in zeros:
            zeros[product.name] = torch.zeros(x.shape[-1], device=x.device, requires_grad=True)
        return nn.functional.linear(x + zeros[product.name].to(x.dtype), product.weight, product.bias)

    with torch.enable_grad(), _frozen(model):
        for sequence in input_ids.to(model.device).split(1):
            with ProductWatcher(parameters, add_zero):
                logits = model(input_ids=sequence, use_cache=False).logits
            nn.functional.cross_entropy(logits[0, :-1].float(), sequence[0, 1:], reduction="sum").backward()
    factors = {name: zero.grad.abs() for name, zero in zeros.items() if zero.grad is not None}
    for name, factor in factors.items():
        if not bool(torch.isfinite(factor).all()):
            raise AccelSimError(f"gradients: {name}: the loss has no finite gradient here")
    return factors


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Without gradients of the parameters, which nobody asks for."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
