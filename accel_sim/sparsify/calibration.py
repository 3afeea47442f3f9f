"""Fit a recipe to a model: from the weights alone, or in one forward pass over calibration text.

In that pass every projection is fitted when its input comes by, so no activation is kept longer than the model does.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from accel_sim.capture.products import Product, ProductWatcher
from accel_sim.capture.projections import LinearParameter, decoder_blocks, decoder_of, find_projections
from accel_sim.errors import AccelSimError
from accel_sim.sparsify.context import Context
from accel_sim.sparsify.fitting import Calibration, check_calibration, fit, needs_calibration
from accel_sim.sparsify.gradients import gradient_factors
from accel_sim.sparsify.neurons import GateFits
from accel_sim.sparsify.product import TreatedProduct
from accel_sim.sparsify.recipe import Recipe, Treatment
from accel_sim.sparsify.sites import activation_key, projections_by_site
from accel_sim.workload.roles import role

_SITE_TOKENS = 8
"""Enough for a forward pass that shows who reads what."""

Parameters = tuple[LinearParameter, ...]
Treatments = dict[str, Treatment]
"""By module path, of the projections where anything is done."""


def treatable(model: nn.Module, recipe: Recipe) -> Parameters:
    """The projections that a recipe may treat. Raises AccelSimError for a rule that matches none of them."""
    blocks = decoder_blocks(model)
    parameters = tuple(each for each in find_projections(model, blocks) if role(each.path()) != "router")
    names = [(name, each.layer) for each in parameters for name in each.paths]
    for number, rule in enumerate(recipe.rules):
        rule.check(f"recipe {recipe.name}: rules[{number}]", type(model).__name__, names, len(blocks.modules))
    return parameters


def fit_model(
    model: nn.Module, recipe: Recipe, parameters: Parameters, text: Tensor | None
) -> dict[str, TreatedProduct]:
    """Every treated product by its projection's path; `text` is int64 [B, T].

    Raises AccelSimError where the recipe needs text and has none, and for a projection that reads none of it (an expert
    that no token is routed to).
    """
    treatments = {name: recipe.treatment(name, each.layer).effective() for each in parameters for name in each.paths}
    treatments = {name: treatment for name, treatment in treatments.items() if treatment != Treatment()}
    if text is None:
        check_calibration(recipe)
    with torch.no_grad():
        if text is None or not any(map(needs_calibration, treatments.values())):
            return _fit_to_weights(model, parameters, treatments)
    gradients = {}
    if any(treatment.criterion == "gradient" for treatment in treatments.values()):
        gradients = gradient_factors(model, text, parameters)
    with torch.no_grad():
        fitted = _fit_to_text(model, parameters, treatments, text.to(model.device), gradients, f"recipe {recipe.name}")
    missing = sorted(set(treatments) - set(fitted))
    if missing:
        raise AccelSimError(
            f"recipe {recipe.name}: {len(missing)} projections read no calibration token ({missing[0]}, …);"
            " give more calibration text, or treat experts without what must be fitted"
        )
    return fitted


def _fit_to_weights(model: nn.Module, parameters: Parameters, treatments: Treatments) -> dict[str, TreatedProduct]:
    anything = torch.arange(1, _SITE_TOKENS + 1)[None].to(model.device)
    # How a parameter is stored is only seen when it is used.
    sites = projections_by_site(decoder_of(model), parameters, anything)
    seen = {product.parameter.name: product for site in sites for product in site}
    fitted = {}
    for parameter in parameters:
        for expert, name in enumerate(parameter.paths):
            if name in treatments:
                if parameter.name not in seen:
                    raise AccelSimError(f"{parameter.name}: takes no part in a forward pass as a product that is known")
                product = replace(seen[parameter.name], expert=expert if parameter.experts else None)
                fitted[name] = fit(treatments[name], product.weight, Calibration(None))
    return fitted


def _fit_to_text(
    model: nn.Module,
    parameters: Parameters,
    treatments: Treatments,
    text: Tensor,
    gradients: dict[str, Tensor],
    where: str,
) -> dict[str, TreatedProduct]:
    """A projection with pruned weights passes what it then gives on to the next ones, as SparseGPT does; all others are
    fitted to what the dense model reads."""
    decoder = decoder_of(model)
    sites = projections_by_site(decoder, parameters, text[:1, :_SITE_TOKENS])
    gates = {name: treatment.neurons for name, treatment in treatments.items() if treatment.neurons}
    gate_fits = GateFits(model, gates, where)
    siblings = {product.name: [each.weight for each in site] for site in sites for product in site}
    fitted: dict[str, TreatedProduct] = {}
    known: tuple[object, Tensor | None, Calibration] = (None, None, Calibration(None))

    def see(product: Product) -> Tensor | None:
        nonlocal known
        name, x = product.name, product.activation
        if name not in treatments or name in fitted or not x.numel():
            return None
        rows = x.reshape(-1, x.shape[-1])
        sequences = len(text) if len(rows) == text.numel() else 1  # an expert has some rows of all sequences
        if known[0] != activation_key(x):  # the tensor is kept too, so that no other one gets its memory and its key
            known = activation_key(x), x, Calibration(rows, sequences, siblings.get(name, [product.weight]))
        calibration = replace(known[2], gradient=gradients.get(name))
        treated = fit(treatments[name], product.weight, calibration)
        treated = fitted[name] = replace(treated, predictor=gate_fits.fit(name, rows))
        if treated.treatment.weights is None:
            return None
        context = Context("prefill", sequences, len(rows) // sequences)
        y = treated.multiply(treated.prepare(rows, context, name), product.bias, context)
        return y.reshape(*x.shape[:-1], y.shape[-1]).to(x.dtype)

    with ProductWatcher(parameters, see):
        decoder(input_ids=text, use_cache=False)
    return fitted
