"""A live model that runs a recipe: every product with a treated weight is replaced while the decoder runs.

The model's modules and weights stay as they are. A hook on the decoder turns the replacement on before its forward pass
and off behind it, so the LM head is never touched, and whatever calls the model (`generate`, a trainer, an evaluation
harness) runs it sparsified.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from accel_sim.capture.load import run_experts_one_by_one
from accel_sim.capture.products import Product, ProductWatcher
from accel_sim.capture.projections import decoder_of
from accel_sim.sparsify.calibration import fit_model, treatable
from accel_sim.sparsify.context import Context, Predictions, Selections
from accel_sim.sparsify.product import Pruned, TreatedProduct
from accel_sim.sparsify.recipe import Recipe
from accel_sim.sparsify.sites import activation_key

_ATTRIBUTE = "_accel_sim_sparsifier"


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
        self.predictions: Predictions | None = None
        """Set it to collect how well neurons are predicted."""
        self._context = Context("prefill", 1, 1)
        self._running: dict[Any, Tensor] = {}
        self._last: tuple[Any, Tensor, dict[Any, Pruned]] | None = None
        with ExitStack() as undo:
            if recipe.does_anything:
                undo.callback(_set_experts, model, _experts(model))
                run_experts_one_by_one(model)
            parameters = treatable(model, recipe)
            self.products = fit_model(model, recipe, parameters, calibration)
            self._watcher = ProductWatcher(parameters, self._replace)
            decoder = decoder_of(model)
            undo.callback(decoder.register_forward_pre_hook(self._enter, with_kwargs=True).remove)
            undo.callback(decoder.register_forward_hook(self._leave, always_call=True).remove)
            self._undo = undo.pop_all()

    def stop(self) -> None:
        """Take the hooks off."""
        self._undo.close()

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
            predictions=self.predictions,
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
            y = treated.silence(y, rows, self._context, product.name)
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


def _experts(model: nn.Module) -> str | None:
    """How transformers runs stacked experts; a fused kernel for all of them would hide the products."""
    return getattr(model.config, "_experts_implementation", None)


def _set_experts(model: nn.Module, implementation: str | None) -> None:
    if implementation is not None:
        model.set_experts_implementation(implementation)
