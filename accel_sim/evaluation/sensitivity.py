"""How much a model suffers when one of its projections is sparsified and all others stay as they are.

Two measures. The relative error e = ‖Y − Y′‖₂ / (‖Y‖₂ + ε) of the projection's own outputs (arXiv 2508.02128, the rule
for skipping layers): all projections in one dense pass, each treated beside it. And the divergence KL(dense ‖ sparse)
of the model's next-token distributions with that one projection sparsified: a pass for every projection.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from accel_sim.capture.products import Product, ProductWatcher
from accel_sim.capture.projections import LinearParameter, decoder_blocks, decoder_of, find_projections
from accel_sim.evaluation.prefix import Prefix
from accel_sim.sparsify import Recipe
from accel_sim.sparsify.context import Context
from accel_sim.sparsify.live import remove, sparsifier_of, sparsify
from accel_sim.sparsify.product import TreatedProduct
from accel_sim.workload.roles import is_prunable

EPSILON = 1e-12
"""ε: a projection whose outputs are all zero has no error, and is not divided by zero."""


@dataclass(frozen=True)
class Target:
    """A projection that a recipe sparsifies; one projection of all experts of a block is one."""

    name: str
    """Module path, with * for the expert's index."""
    layer: int | None
    macs: int
    """Multiply-accumulates a token; of experts, those that a token is routed to."""


class Treated:
    """A model, and what a recipe makes of each of its products; the model itself stays dense."""

    def __init__(self, model: nn.Module, recipe: Recipe, calibration: Tensor | None = None) -> None:
        """`calibration` int64 [B, T] is what the recipe is fitted to. Raises AccelSimError as `sparsify` does."""
        self.model = model
        self.blocks = decoder_blocks(model)
        self.parameters = tuple(each for each in find_projections(model, self.blocks) if is_prunable(each.path()))
        self._products: Mapping[str, TreatedProduct] = {}
        try:
            sparsify(model, recipe, calibration)
            self._products = {
                name: product for name, product in sparsifier_of(model).products.items() if _sparsifies(product)
            }
        finally:
            remove(model)
        pruned = {
            name_of(parameter) for parameter in self.parameters if not self._products.keys().isdisjoint(parameter.paths)
        }
        self.targets = tuple(
            Target(name_of(each), each.layer, each.macs_per_token)
            for each in self.parameters
            if name_of(each) in pruned
        )

    @property
    def total_macs(self) -> int:
        """Multiply-accumulates a token of all linear projections of the decoder blocks, routers apart."""
        return sum(each.macs_per_token for each in self.parameters)

    def outputs(self, product: Product, context: Context) -> Tensor | None:
        """What the recipe makes of a product, float32 [n, F]; None where it leaves it alone, or there are no rows."""
        treated = self._products.get(product.name)
        x = product.activation
        if treated is None or not x.numel():
            return None
        return treated.multiply(
            treated.prepare(x.reshape(-1, x.shape[-1]), context, product.name), product.bias, context
        )


def relative_errors(
    treated: Treated, sequences: Iterable[Tensor], on_progress: Callable[[int], Any] = lambda sequence: None
) -> dict[str, float]:
    """e of every target by its name, over all tokens of `sequences`, int64 [T] each.

    `on_progress` is called after each sequence with how many are done.
    """
    error: dict[str, float] = defaultdict(float)
    norm: dict[str, float] = defaultdict(float)
    with torch.no_grad():
        for number, sequence in enumerate(sequences, start=1):
            context = _context(sequence)

            def see(product: Product, context: Context = context) -> None:
                sparse = treated.outputs(product, context)
                if sparse is not None:
                    dense = _dense_outputs(product)
                    name = name_of(product.parameter)
                    error[name] += float((dense - sparse).square().sum(dtype=torch.float64))
                    norm[name] += float(dense.square().sum(dtype=torch.float64))

            # The LM head takes long, and has nothing to say of the errors below it.
            with ProductWatcher(treated.parameters, see):
                decoder_of(treated.model)(input_ids=_batch(treated.model, sequence), use_cache=False)
            on_progress(number)
    return {target.name: sqrt(error[target.name]) / (sqrt(norm[target.name]) + EPSILON) for target in treated.targets}


class Divergences:
    """KL(dense ‖ sparse) of one sequence, projection by projection.

    What comes before the projection's block is the same as in the dense model, so it is not computed again, provided
    that the model allows for it: the dense logits must come out bit for bit.
    """

    def __init__(self, treated: Treated, sequence: Tensor) -> None:
        """Runs the dense model on `sequence` int64 [T]."""
        self._treated, self._sequence = treated, sequence
        self._prefix = Prefix(treated.blocks.modules)
        with torch.no_grad():
            with self._prefix.recording():
                dense = _logits(treated.model, sequence)
            middle = len(treated.blocks.modules) // 2
            with self._prefix.skipping_to(middle):
                self.reuses_prefix = torch.equal(dense, _logits(treated.model, sequence))
            self._dense = torch.log_softmax(dense.float(), dim=-1)

    def of(self, target: Target) -> float:
        """Mean over the tokens, in nats, with `target` alone sparsified."""
        context = _context(self._sequence)

        def replace(product: Product) -> Tensor | None:
            sparse = self._treated.outputs(product, context)
            if sparse is None:
                return None
            x = product.activation
            return sparse.reshape(*x.shape[:-1], sparse.shape[-1]).to(x.dtype)

        parameters = [each for each in self._treated.parameters if name_of(each) == target.name]
        first = target.layer if self.reuses_prefix and target.layer is not None else 0
        with torch.no_grad(), self._prefix.skipping_to(first), ProductWatcher(parameters, replace):
            sparse = torch.log_softmax(_logits(self._treated.model, self._sequence).float(), dim=-1)
        divergence = (self._dense.exp() * (self._dense - sparse)).sum(dim=-1, dtype=torch.float64).mean()
        return max(0.0, float(divergence))  # rounding can leave an equal distribution a hair below zero


def name_of(parameter: LinearParameter) -> str:
    """Module path, with * for the index of stacked experts."""
    if parameter.experts is None:
        return parameter.path()
    owner, _, leaf = parameter.path().rpartition(".")
    return f"{owner}.*.{leaf}"


def _sparsifies(product: TreatedProduct) -> bool:
    return product.treatment.prunes("prefill") or product.treatment.weights is not None


def _context(sequence: Tensor) -> Context:
    return Context("prefill", batch=1, length=len(sequence))


def _dense_outputs(product: Product) -> Tensor:
    """y [n, F], with the bias."""
    x = product.activation
    bias = None if product.bias is None else product.bias.float()
    return torch.nn.functional.linear(x.reshape(-1, x.shape[-1]).float(), product.weight.float(), bias)


def _logits(model: nn.Module, sequence: Tensor) -> Tensor:
    """[T, V]"""
    return model(input_ids=_batch(model, sequence), use_cache=False).logits[0]


def _batch(model: nn.Module, sequence: Tensor) -> Tensor:
    return sequence.to(model.device)[None]
