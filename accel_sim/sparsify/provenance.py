"""Who makes what a projection reads, and who else reads it: one forward pass, watched by the tensors that go around.

Names of modules play no part. A tensor is known by where its values lie, so a view of it is the same tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from accel_sim.capture.products import Product, ProductWatcher
from accel_sim.capture.projections import LinearParameter
from accel_sim.sparsify.sites import Activation, activation_key

_MULTIPLY = (torch.mul, torch.multiply, torch.Tensor.mul, torch.Tensor.multiply)


@dataclass(frozen=True, eq=False)
class Scaled:
    """The output of a module whose own parameters are one weight [K], and perhaps a bias [K]: a norm."""

    path: str
    module: nn.Module
    args: tuple
    kwargs: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Multiplied:
    """An elementwise product of two tensors."""

    operands: tuple[Activation, Activation]


@dataclass(frozen=True, eq=False)
class Projected:
    """The output of a projection."""

    product: Product


@dataclass(frozen=True, eq=False)
class Provenance:
    """What one forward pass showed."""

    producers: dict[Activation, Scaled | Multiplied | Projected]
    """Of each tensor that one of these made, the last of them."""
    readers: dict[Activation, list[str]]
    """Every operation that read one: the path of a projection, or the name of a function of torch."""
    reads: dict[str, list[Activation]]
    """What each projection read, once a time that it ran."""
    products: dict[str, Product]
    """By the projection's path."""


def watch_provenance(model: nn.Module, parameters: Sequence[LinearParameter], input_ids: Tensor) -> Provenance:
    """Run `input_ids` int64 [B, T] through the model and tell what came from where."""
    watch = _Watch()
    handles = [
        module.register_forward_hook(watch.see_norm(path), with_kwargs=True)
        for path, module in model.named_modules()
        if _has_one_weight_vector(module)
    ]
    try:
        # The watcher sees a function first and tells of its product; then the watch sees the function itself.
        with torch.no_grad(), watch, ProductWatcher(parameters, watch.pending.append):
            model(input_ids=input_ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return Provenance(watch.producers, watch.readers, watch.reads, watch.products)


def _has_one_weight_vector(module: nn.Module) -> bool:
    own = dict(module.named_parameters())
    return "weight" in own and set(own) <= {"weight", "bias"} and all(each.dim() == 1 for each in own.values())


class _Watch(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.pending: list[Product] = []
        self.producers: dict[Activation, Scaled | Multiplied | Projected] = {}
        self.readers: dict[Activation, list[str]] = {}
        self.reads: dict[str, list[Activation]] = {}
        self.products: dict[str, Product] = {}
        self._alive: list[Tensor] = []

    def see_norm(self, path: str) -> Any:
        def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
            if isinstance(output, Tensor):
                self._made(output, Scaled(path, module, args, kwargs))

        return hook

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        given = list(_tensors((args, kwargs)))
        before = [activation_key(each) for each in given if _has_rows(each)]
        result = func(*args, **kwargs)
        made = list(_tensors(result))
        after = [activation_key(each) for each in made if _has_rows(each)]
        products = [each for each in self.pending if any(each.activation is one for one in given)]
        if not made:
            return result  # sizes, types and other things that are no values
        self.pending.clear()
        # A view gives back the tensor that it was given; that is no reading of it.
        names = [each.name for each in products] or [getattr(func, "__name__", str(func))]
        for key in dict.fromkeys(before):
            if key in self.producers and key not in after:
                self.readers.setdefault(key, []).extend(names)
        for product in products:
            self.products[product.name] = product
            self.reads.setdefault(product.name, []).append(activation_key(product.activation))
        if isinstance(result, Tensor):
            if len(products) == 1:
                self._made(result, Projected(products[0]))
            elif func in _MULTIPLY and len(before) == len(given) == 2:
                self._alive.extend(given)  # as long as their keys are looked up
                self._made(result, Multiplied((before[0], before[1])))
        return result

    def _made(self, tensor: Tensor, producer: Scaled | Multiplied | Projected) -> None:
        # Kept alive, so that no later tensor can lie where this one lay.
        self._alive.append(tensor)
        self.producers[activation_key(tensor)] = producer


def _has_rows(tensor: Tensor) -> bool:
    return tensor.dim() > 0 and tensor.numel() > 0 and tensor.layout is torch.strided


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(tuple(values.values()))
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)
