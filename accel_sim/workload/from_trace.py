"""The workload a trace holds: one product per projection, with the captured activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from accel_sim.errors import AccelSimError
from accel_sim.trace import Projection, Site, Trace
from accel_sim.workload.attention import FUSED, AttentionOptions, Pass
from accel_sim.workload.decoder import Decoder
from accel_sim.workload.gemm import Gemm, SiteActivations, Weights, WholeModel, Workload
from accel_sim.workload.presets import presets
from accel_sim.workload.roles import consumer_sites, is_prunable, role
from accel_sim.workload.shape import ModelShape, shape_of_config
from accel_sim.workload.trace_rows import AllRows, Rows, decode_rows


def workload_from_trace(trace: Trace, attention: AttentionOptions = FUSED) -> Workload:
    """Every projection of `trace` in execution order; nothing is read before it is asked for.

    Experts run with the tokens that were really routed to them; those that got none do nothing, and are counted in
    `source`. A captured LM head is left out: it belongs to the whole model, not to the linear projections. Raises
    AccelSimError when no other site has a token.
    """
    return _TraceWorkload(trace, attention).captured()


@dataclass(frozen=True)
class _TraceWorkload:
    """A trace, and how the attention around its projections is run."""

    trace: Trace
    attention: AttentionOptions

    def captured(self) -> Workload:
        """The pass that was captured, every row of it."""
        return self._workload(self.trace.name, self._about(), AllRows(), self._captured_pass)

    def decode_step(self, batch: int, context: int | None) -> Workload:
        rows = decode_rows(self.trace, batch)
        context = context or rows.context
        name = f"{self.trace.name}, decode step, batch {batch}, context {context}"
        return self._workload(name, f"{self._about()}; {rows.source}", rows, partial(Pass, batch, 1, context))

    def _captured_pass(self) -> Pass:
        about = self.trace.manifest
        if about.phase == "decode":
            raise AccelSimError("the rows of a decode trace are many steps; make one decode step of it, with a batch")
        return Pass(about.sequences, about.tokens_per_sequence, about.tokens_per_sequence)

    def _workload(self, name: str, source: str, rows: Rows, one_pass: Callable[[], Pass]) -> Workload:
        trace = self.trace
        tokens = {site.name: rows.count(trace, site) for site in trace.sites if not _is_lm_head(site)}
        busy = [site for site in trace.sites if tokens.get(site.name)]
        if not busy:
            raise AccelSimError(f"trace {trace.path}: no site has a token (an LM head's apart)")
        if idle := len(tokens) - len(busy):
            source = f"{source}; {idle} sites without a token left out (experts nothing was routed to)"
        gemms = _gemms(trace, busy, tokens)
        model, no_model = self._whole_model(gemms, one_pass)
        return Workload(
            name=name,
            source=source,
            gemms=gemms,
            sites={site.name: SiteActivations(partial(rows.load, trace, site)) for site in busy},
            model=model,
            no_model=no_model,
            layers_in_model=trace.manifest.layers_in_model,
            phase=trace.manifest.phase,
            decode_step=self.decode_step,
        )

    def _whole_model(self, gemms: Sequence[Gemm], one_pass: Callable[[], Pass]) -> tuple[WholeModel | None, str]:
        """What surrounds the captured projections, or None and why it cannot be told."""
        about = self.trace.manifest
        if about.site_filter:
            return None, f"only some projections were captured (--sites {' '.join(about.site_filter)})"
        try:
            return Decoder(_shape(self.trace), one_pass(), self.attention).whole_model(gemms), ""
        except AccelSimError as error:
            return None, str(error)

    def _about(self) -> str:
        about = self.trace.manifest
        layers = f"{len(about.layers)} of {about.layers_in_model} layers"
        rows = f"{about.sequences} × {about.tokens_per_sequence} tokens"
        if about.phase == "decode":
            rows = f"{about.new_tokens} decode steps after {rows}"
        model = about.model.id
        return f"trace {self.trace.name}: {model}, {about.phase}, {rows}, {layers}, stored as {about.dtype}"


def _shape(trace: Trace) -> ModelShape:
    """The model's shape: from the configuration in the manifest, else the published one of a model of that id."""
    about = trace.manifest.model
    if about.config:
        return shape_of_config(about.id, about.config)
    known = next((shape for shape in presets().values() if shape.model == about.id), None)
    if known is None:
        raise AccelSimError(f"model {about.id}: the trace holds no configuration of it, and no preset has its id")
    return known


def _is_lm_head(site: Site) -> bool:
    return site.layer is None and all(each.name.endswith(("lm_head", "embed_out")) for each in site.projections)


def _gemms(trace: Trace, sites: Sequence[Site], tokens: dict[str, int]) -> tuple[Gemm, ...]:
    """One product per projection of the sites, in order."""
    projections = [(site, projection) for site in sites for projection in site.projections]
    feeds = consumer_sites(
        {projection.name: projection.outputs for _, projection in projections},
        {projection.name: (site.name, site.features) for site, projection in projections},
    )
    routers = {site.layer: site.name for site, projection in projections if role(projection.name) == "router"}
    return tuple(
        Gemm(
            name=projection.name,
            site=site.name,
            tokens=tokens[site.name],
            features=projection.features,
            outputs=projection.outputs,
            load_weights=_weights_of(trace, projection),
            prunable=is_prunable(projection.name),
            layer=site.layer,
            consumer_site=feeds.get(projection.name),
            rows_of=routers.get(site.layer) if _is_routed(site, projection) else None,
        )
        for site, projection in projections
    )


def _is_routed(site: Site, projection: Projection) -> bool:
    """Whether the projection reads the tokens that were routed to an expert."""
    return site.expert is not None and role(projection.name) == "mlp_input"


def _weights_of(trace: Trace, projection: Projection):
    return partial(_weights, trace, projection.name) if projection.has_weight else None


def _weights(trace: Trace, projection: str) -> Weights:
    weight = trace.weight(projection)
    return Weights(codes=weight.codes, scales=weight.scales)
