"""INT8 weights of the captured projections, so that functional runs need no model."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from torch import nn

from accel_sim.errors import AccelSimError
from accel_sim.quantize.int8 import quantize_weight
from accel_sim.trace.format import Projection, Site
from accel_sim.trace.writer import TraceWriter


def store_weights(
    model: nn.Module,
    writer: TraceWriter,
    sites: Iterable[Site],
    layers: Iterable[int | None],
    on_status: Callable[[str], None] = lambda _: None,
) -> tuple[Site, ...]:
    """Write the weights of the sites in `layers`, one file a layer; return all sites, those with their weights' file.

    `None` among the layers is the LM head. Raises AccelSimError for a weight that is not finite and for a full disk.
    """
    sites = tuple(sites)
    experts = {projection.name: site.expert for site in sites for projection in site.projections}
    files = {}
    for layer in layers:
        projections = [each for site in sites if site.layer == layer for each in site.projections]
        if projections:
            name = "lm_head" if layer is None else f"layer_{layer}"
            on_status(f"storing weights of {name.replace('_', ' ')}")
            files[layer] = writer.write_weights(
                name, projections, lambda each: _tensors(model, each, experts[each.name])
            )
    return tuple(_with_file(site, files[site.layer]) if site.layer in files else site for site in sites)


def _with_file(site: Site, file: str) -> Site:
    stored = {"has_weight": True, "weight_file": file}
    return site.model_copy(update={"projections": tuple(each.model_copy(update=stored) for each in site.projections)})


def _tensors(model: nn.Module, projection: Projection, expert: int | None) -> dict[str, np.ndarray]:
    weight = _own_part(model, projection.parameter, expert, dims=2)
    # quantize_weight takes [F, K], as nn.Linear has it.
    if projection.parameter_layout == "features_outputs":
        weight = weight.T
    codes, scales = quantize_weight(weight, projection.name)
    tensors = {"codes": codes, "scales": scales}
    if projection.has_bias:
        if projection.bias is None:
            raise AccelSimError(f"{projection.name}: its bias is no parameter of the model, so it cannot be stored")
        tensors["bias"] = _own_part(model, projection.bias, expert, dims=1)
    return tensors


def _own_part(model: nn.Module, name: str, expert: int | None, dims: int) -> np.ndarray:
    """The parameter as float32, or the part of `expert` when it stacks all experts'."""
    from accelerate.utils import align_module_device

    owner = model.get_submodule(name.rpartition(".")[0])
    with align_module_device(owner):  # brings a weight that accelerate has off-loaded
        parameter = getattr(owner, name.rpartition(".")[2])
        part = parameter[expert] if parameter.dim() > dims else parameter
        return part.detach().float().cpu().numpy()
