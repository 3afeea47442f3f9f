"""The workload a trace holds: one product per projection, with the captured activations."""

from __future__ import annotations

from functools import partial

from accel_sim.errors import AccelSimError
from accel_sim.trace import Projection, Site, Trace
from accel_sim.workload.gemm import Gemm, SiteActivations, Weights, Workload


def workload_from_trace(trace: Trace) -> Workload:
    """Every projection of `trace` in execution order; nothing is read before it is asked for.

    Experts run with the tokens that were really routed to them; those that got none do nothing, and are counted in
    `source`. Raises AccelSimError when no site has a token.
    """
    sites = [site for site in trace.sites if site.tokens]
    if not sites:
        raise AccelSimError(f"trace {trace.path}: no site has a token")
    return Workload(
        name=trace.name,
        source=_source(trace, len(trace.sites) - len(sites)),
        gemms=tuple(_gemm(trace, site, projection) for site in sites for projection in site.projections),
        sites={site.name: SiteActivations(load=partial(_activations, trace, site.name)) for site in sites},
    )


def _gemm(trace: Trace, site: Site, projection: Projection) -> Gemm:
    return Gemm(
        name=projection.name,
        site=site.name,
        tokens=site.tokens,
        features=projection.features,
        outputs=projection.outputs,
        load_weights=partial(_weights, trace, projection.name) if projection.has_weight else None,
    )


def _activations(trace: Trace, site: str):
    return trace.codes(site), trace.scales(site)


def _weights(trace: Trace, projection: str) -> Weights:
    weight = trace.weight(projection)
    return Weights(codes=weight.codes, scales=weight.scales)


def _source(trace: Trace, idle: int) -> str:
    about = trace.manifest
    layers = f"{len(about.layers)} of {about.layers_in_model} layers"
    rows = f"{about.sequences} × {about.tokens_per_sequence} tokens"
    if about.phase == "decode":
        rows = f"{about.new_tokens} decode steps after {rows}"
    line = f"trace {trace.name}: {about.model.id}, {about.phase}, {rows}, {layers}, stored as {about.dtype}"
    return line if not idle else f"{line}; {idle} sites without a token left out (experts nothing was routed to)"
