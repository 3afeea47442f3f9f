"""A live model that runs a recipe: every product with a treated weight is replaced while the decoder runs.

The model's modules and weights stay as they are. A hook on the decoder turns the replacement on before its forward pass
and off behind it, so the LM head is never touched, and whatever calls the model (`generate`, a trainer, an evaluation
harness) runs it sparsified.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from accel_sim.capture.products import Product, ProductWatcher
from accel_sim.capture.projections import LinearParameter, decoder_blocks, find_projections
from accel_sim.errors import AccelSimError
from accel_sim.sparsify.context import Context, Selections
from accel_sim.sparsify.fitting import Calibration, check_calibration, fit
from accel_sim.sparsify.gradients import gradient_factors
from accel_sim.sparsify.product import Pruned, TreatedProduct
from accel_sim.sparsify.recipe import Recipe, Treatment
from accel_sim.sparsify.sites import activation_key, projections_by_site
from accel_sim.workload.roles import role

_ATTRIBUTE = "_accel_sim_sparsifier"
_SITE_TOKENS = 8
"""Enough for a forward pass that shows who reads what."""


def sparsify(model: nn.Module, recipe: Recipe, calibration: Tensor | None = None) -> nn.Module:
    """Make a causal language model of transformers run `recipe`; returns the same model.

    `calibration` is int64 [B, T]: the tokens that static scales, thresholds, rotations and learned parameters are
    fitted to, in one forward pass over all of them. What a recipe did to the model before is removed first;
    :func:`remove` gives the model back as it was. For inference: no gradient flows through a treated product.

    Raises AccelSimError for a rule that matches no projection, and where a recipe needs calibration and has none.
    """
    remove(model)
    sparsifier = Sparsifier(model, recipe, calibration)
    setattr(model, _ATTRIBUTE, sparsifier)
    return model


def remove(model: nn.Module) -> nn.Module:
    """The model as it was before :func:`sparsify`, bit for bit; nothing happens to one that was not sparsified."""
    found = sparsifier_of(model)
    if found is not None:
        found.stop()
        delattr(model, _ATTRIBUTE)
    return model


def sparsifier_of(model: nn.Module) -> Sparsifier | None:
    """What runs a recipe in `model`."""
    return getattr(model, _ATTRIBUTE, None)


class Sparsifier:
    """The treated products of one model under one recipe, and the hooks that run them."""

    def __init__(self, model: nn.Module, recipe: Recipe, calibration: Tensor | None) -> None:
        self.recipe = recipe
        self.selections: Selections | None = None
        """Set it to count how often codes and floats select differently."""
        parameters = _parameters(model, recipe)
        self.products = _fit_all(model, recipe, parameters, calibration)
        self._watcher = ProductWatcher(parameters, self._replace)
        self._context = Context("prefill", 1, 1)
        self._running: dict[Any, Tensor] = {}
        self._last: tuple[Any, Tensor, dict[Any, Pruned]] | None = None
        decoder = _decoder(model)
        self._handles = [
            decoder.register_forward_pre_hook(self._enter, with_kwargs=True),
            decoder.register_forward_hook(self._leave, always_call=True),
        ]

    def stop(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def _enter(self, decoder: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        self._context = self._context_of(args, kwargs)
        self._last = None
        self._watcher.__enter__()

    def _leave(self, *_: Any) -> None:
        self._watcher.__exit__(None, None, None)
        self._last = None

    def _context_of(self, args: tuple, kwargs: dict[str, Any]) -> Context:
        given = args[0] if args else kwargs.get("input_ids")
        shown = kwargs.get("inputs_embeds") if given is None else given
        batch, length = shown.shape[:2]
        past = kwargs.get("past_key_values")
        before = past.get_seq_length() if past is not None else 0
        if not before:
            self._running = {}
        mask = kwargs.get("attention_mask")
        told = mask is None or (isinstance(mask, Tensor) and mask.dim() == 2)
        real = mask[:, -length:].bool() if told and mask is not None else None
        return Context(
            phase="decode" if before and length == 1 else "prefill",
            batch=batch,
            length=length,
            real=None if real is None or bool(real.all()) else real,
            layout_known=told,
            squares=self._running,
            selections=self.selections,
        )

    def _replace(self, product: Product) -> Tensor | None:
        treated = self.products.get(product.name)
        x = product.activation
        if treated is None or not x.numel():
            return None
        with torch.no_grad():
            rows = x.detach().reshape(-1, x.shape[-1])
            pruned = self._prepared(treated, rows, x, product.name)
            y = treated.multiply(pruned, product.bias, self._context)
        return y.reshape(*x.shape[:-1], y.shape[-1]).to(x.dtype)

    def _prepared(self, treated: TreatedProduct, rows: Tensor, x: Tensor, name: str) -> Pruned:
        """What is multiplied; worked out once for the projections that read one activation in the same way."""
        if x.is_inference():  # nothing tells whether such a tensor was changed in place since the last projection
            return treated.prepare(rows, self._context, name)
        key = activation_key(x)
        if self._last is None or self._last[0] != key:
            self._last = key, x, {}
        shared = self._last[2]
        if treated.input_key not in shared:
            shared[treated.input_key] = treated.prepare(rows, self._context, name)
        return shared[treated.input_key]


def _decoder(model: nn.Module) -> nn.Module:
    found = model.get_decoder() if hasattr(model, "get_decoder") else None
    return model if found is None else found


def _parameters(model: nn.Module, recipe: Recipe) -> tuple[LinearParameter, ...]:
    """The projections that a recipe may treat. Raises AccelSimError for a rule that matches none of them."""
    blocks = decoder_blocks(model)
    parameters = tuple(each for each in find_projections(model, blocks) if role(each.path()) != "router")
    names = [(name, each.layer) for each in parameters for name in _paths(each)]
    for number, rule in enumerate(recipe.rules):
        rule.check(f"recipe {recipe.name}: rules[{number}]", type(model).__name__, names, len(blocks.modules))
    return parameters


def _paths(parameter: LinearParameter) -> list[str]:
    return [parameter.path(expert) for expert in range(parameter.experts or 0)] or [parameter.path()]


def _fit_all(
    model: nn.Module, recipe: Recipe, parameters: tuple[LinearParameter, ...], calibration: Tensor | None
) -> dict[str, TreatedProduct]:
    """Every treated product by its projection's path, fitted in the order in which the decoder runs them.

    A projection whose weights are pruned passes what it then gives on to the next ones, as SparseGPT does; all others
    are fitted to what the dense model reads.
    """
    if calibration is None:
        check_calibration(recipe)
    treatments = {name: recipe.treatment(name, each.layer).effective() for each in parameters for name in _paths(each)}
    treatments = {name: treatment for name, treatment in treatments.items() if treatment != Treatment()}
    decoder = _decoder(model)
    first = calibration[:1, :_SITE_TOKENS] if calibration is not None else torch.arange(1, _SITE_TOKENS + 1)[None]
    sites = projections_by_site(decoder, parameters, first.to(model.device))
    siblings = {product.name: [each.weight for each in site] for site in sites for product in site}
    fitted: dict[str, TreatedProduct] = {}
    with torch.no_grad():
        if calibration is None:
            seen = {product.parameter.name: product for site in sites for product in site}
            for parameter in parameters:
                for expert, name in enumerate(_paths(parameter)):
                    if name in treatments:
                        product = replace(seen[parameter.name], expert=expert if parameter.experts else None)
                        fitted[name] = fit(treatments[name], product.weight, Calibration(None))
            return fitted
    gradients = {}
    if any(treatment.criterion == "gradient" for treatment in treatments.values()):
        gradients = gradient_factors(model, calibration, parameters)

    def see(product: Product) -> Tensor | None:
        name, x = product.name, product.activation
        if name not in treatments or name in fitted or not x.numel():
            return None
        rows = x.reshape(-1, x.shape[-1])
        known = Calibration(rows, siblings.get(name, [product.weight]), gradients.get(name))
        treated = fitted[name] = fit(treatments[name], product.weight, known)
        if treated.treatment.weights is None:
            return None
        context = Context("prefill", *x.shape[:2]) if x.dim() == 3 else Context("prefill", 1, len(rows))
        y = treated.multiply(treated.prepare(rows, context, name), product.bias, context)
        return y.reshape(*x.shape[:-1], y.shape[-1]).to(x.dtype)

    with torch.no_grad(), ProductWatcher(parameters, see):
        decoder(input_ids=calibration.to(model.device), use_cache=False)
    missing = sorted(set(treatments) - set(fitted))
    if missing:
        raise AccelSimError(
            f"recipe {recipe.name}: {len(missing)} projections read no calibration token ({missing[0]}, …);"
            " give more calibration text, or treat experts without what must be fitted"
        )
    return fitted
