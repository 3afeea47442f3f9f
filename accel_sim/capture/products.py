"""See every product of an activation with a known weight while a model runs, and put another result in its place.

The watcher stands between the model and torch's functions (`torch.overrides.TorchFunctionMode`) and knows a weight by
where it lies in memory. So it does not matter whether a module is an `nn.Linear`, GPT-2's `Conv1D`, a bare parameter
of a router, or one expert's slice of a stack, nor what anything is called.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch.overrides import TorchFunctionMode

from accel_sim.capture.projections import LinearParameter
from accel_sim.errors import AccelSimError

Layout = Literal["outputs_features", "features_outputs"]

# Function → where its activation, weight and bias are: position and keyword.
_Place = tuple[int, str]
_MATMUL: tuple[_Place, _Place, None] = ((0, "input"), (1, "other"), None)
_MM: tuple[_Place, _Place, None] = ((0, "input"), (1, "mat2"), None)
_ADDMM: tuple[_Place, _Place, _Place] = ((1, "mat1"), (2, "mat2"), (0, "input"))
_PRODUCTS: dict[Any, tuple[_Place, _Place, _Place | None]] = {
    torch.nn.functional.linear: ((0, "input"), (1, "weight"), (2, "bias")),
    torch.matmul: _MATMUL,
    torch.Tensor.matmul: _MATMUL,
    torch.Tensor.__matmul__: _MATMUL,
    torch.mm: _MM,
    torch.Tensor.mm: _MM,
    torch.addmm: _ADDMM,
    torch.Tensor.addmm: _ADDMM,
    torch.bmm: _MM,
    torch.Tensor.bmm: _MM,
}


@dataclass(frozen=True)
class Product:
    """One product activation · weight that the model is about to compute."""

    parameter: LinearParameter
    expert: int | None
    """Which of the stacked experts, if it is one."""
    layout: Layout
    """How the parameter is stored."""
    activation: torch.Tensor
    """[…, K]"""
    tokens: torch.Tensor | None
    """int64 [n], which of the chunk's tokens the rows are, if the product itself tells."""
    outputs: int
    """F."""
    bias: torch.Tensor | None

    @property
    def name(self) -> str:
        """Module path of the projection, with the expert's index if it is one."""
        return self.parameter.path(self.expert)

    @property
    def weight(self) -> torch.Tensor:
        """[F, K], a view of the parameter."""
        stored = self.parameter.now()
        stored = stored if self.expert is None else stored[self.expert]
        return stored if self.layout == "outputs_features" else stored.mT


class ProductWatcher(TorchFunctionMode):
    """While active, calls `on_product` before each product with one of `parameters`.

    What it returns, [..., F] with the bias added, takes the place of the product; None leaves the product alone.
    """

    def __init__(
        self, parameters: Sequence[LinearParameter], on_product: Callable[[Product], torch.Tensor | None]
    ) -> None:
        super().__init__()
        there = [each for each in parameters if not each.offloaded]
        self._parameters = sorted(there, key=lambda each: each.tensor.data_ptr())
        self._starts = [each.tensor.data_ptr() for each in self._parameters]
        self._offloaded = [each for each in parameters if each.offloaded]
        self._on_product = on_product

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        replaced = self._see(func, args, kwargs) if func in _PRODUCTS else None
        if replaced is None:
            return func(*args, **kwargs)
        unknown = kwargs.keys() & {"alpha", "beta", "out"}
        if unknown:
            raise AccelSimError(f"a product with {', '.join(sorted(unknown))} cannot be replaced")
        return replaced

    def _see(self, func: Any, args: tuple, kwargs: dict) -> torch.Tensor | None:
        places = _PRODUCTS[func]
        activation, weight, bias = (_argument(args, kwargs, place) for place in places)
        if not isinstance(weight, torch.Tensor) or not isinstance(activation, torch.Tensor):
            return None
        if weight.dim() == 3 and activation.dim() == 3:
            return self._see_experts(activation, weight)
        product = self._recognise(activation, weight, bias, func is torch.nn.functional.linear)
        if product is not None:
            return self._on_product(product)
        if places is _MATMUL and weight.dim() > 1:
            # Mamba multiplies the other way round: W [F, K] · Xᵀ [K, T].
            product = self._recognise(weight.mT, activation, None, transposes=True)
            replaced = self._on_product(product) if product is not None else None
            return None if replaced is None else replaced.mT
        return None

    def _see_experts(self, activation: torch.Tensor, weight: torch.Tensor) -> torch.Tensor | None:
        """All experts in one batched product [E, T, K] · [E, K, F], where rows of tokens that are not theirs are zero
        (Llama 4): the rows that are not zero, expert by expert."""
        if self._recognise(activation[0], weight[0], None, transposes=False) is None:
            return None
        output = None
        for expert, rows in enumerate(activation):
            tokens = rows.any(dim=1).nonzero()[:, 0]
            product = self._recognise(rows[tokens], weight[expert], None, transposes=False)
            replaced = self._on_product(replace(product, tokens=tokens)) if product is not None else None
            if replaced is not None:
                output = activation @ weight if output is None else output
                output[expert, tokens] = replaced
        return output

    def _recognise(
        self, activation: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, transposes: bool
    ) -> Product | None:
        """The product, if `weight` is one of the parameters; `transposes` says that it is used as [F, K]."""
        if weight.dim() != 2:
            return None
        parameter = self._parameter_at(weight.data_ptr())
        if parameter is None:
            return None
        stored = parameter.now()
        expert = None
        offset = (weight.data_ptr() - stored.data_ptr()) // weight.element_size()
        if parameter.experts is not None:
            expert, offset = divmod(offset, stored.stride(0))
            stored = stored[expert]
        # A weight that is only a part of the parameter is not counted, so that coverage tells of it.
        if offset or weight.numel() != stored.numel():
            return None
        as_stored = weight.shape == stored.shape and weight.stride() == stored.stride()
        layout: Layout = "outputs_features" if as_stored == transposes else "features_outputs"
        outputs = weight.shape[0] if transposes else weight.shape[1]
        return Product(parameter, expert, layout, activation, None, outputs, bias)

    def _parameter_at(self, address: int) -> LinearParameter | None:
        """The parameter whose memory the address lies in."""
        position = bisect_right(self._starts, address) - 1
        if position >= 0 and address < self._starts[position] + self._parameters[position].tensor.nbytes:
            return self._parameters[position]
        for parameter in self._offloaded:
            tensor = parameter.now()
            if not tensor.is_meta and tensor.data_ptr() <= address < tensor.data_ptr() + tensor.nbytes:
                return parameter
        return None


def _argument(args: tuple, kwargs: dict, place: _Place | None) -> Any:
    if place is None:
        return None
    position, name = place
    return args[position] if position < len(args) else kwargs.get(name)
