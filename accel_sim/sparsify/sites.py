"""Which projections of a live model read the same activations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from accel_sim.capture.products import Product, ProductWatcher
from accel_sim.capture.projections import LinearParameter

Activation = tuple[int, tuple[int, ...], tuple[int, ...], torch.dtype, int | None]


def activation_key(x: Tensor) -> Activation:
    """What tells one activation from another as long as it is alive; equal for another view of the same values."""
    version = None if x.is_inference() else x._version
    strides = () if x.is_contiguous() else x.stride()
    return (x.data_ptr(), (x.numel() // x.shape[-1], x.shape[-1]), strides, x.dtype, version)


def projections_by_site(
    model: nn.Module, parameters: tuple[LinearParameter, ...], input_ids: Tensor
) -> list[list[Product]]:
    """The products of one forward pass over `input_ids` int64 [B, T], those of one activation together."""
    sites: dict[Activation, list[Product]] = {}

    def see(product: Product) -> None:
        known = sites.setdefault(activation_key(product.activation), [])
        if product.name not in (each.name for each in known):
            known.append(product)  # which keeps the activation alive, and so its key its own

    with torch.no_grad(), ProductWatcher(parameters, see):
        model(input_ids=input_ids, use_cache=False)
    return list(sites.values())
