"""The products of published models, from the shapes in their config.json, with synthetic activations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ruamel.yaml import YAML

from accel_sim.errors import AccelSimError
from accel_sim.trace.synthetic import Distribution
from accel_sim.workload.attention import FUSED, AttentionOptions, Pass
from accel_sim.workload.decoder import LM_HEAD_SITE, Decoder
from accel_sim.workload.gemm import Gemm, Workload
from accel_sim.workload.shape import Experts, ModelShape
from accel_sim.workload.synthetic import SAMPLE_ROWS, SyntheticSites, synthetic_workload

_MODELS = Path(__file__).parent / "data" / "models.yaml"


@cache
def presets() -> dict[str, ModelShape]:
    """The models whose shapes come with the package, by preset name.

    Raises AccelSimError for a model that has not exactly one of an MLP and experts.
    """
    models = YAML(typ="safe", pure=True).load(_MODELS.read_text(encoding="utf-8"))
    shapes = {name: ModelShape.model_validate(shape) for name, shape in models.items()}
    for name, shape in shapes.items():
        expert_size = shape.experts and shape.experts.moe_intermediate_size
        if bool(shape.intermediate_size) == bool(expert_size):
            raise AccelSimError(f"model {name}: give either intermediate_size or experts with moe_intermediate_size")
    return shapes


def preset_workload(
    name: str,
    tokens: int,
    *,
    sequences: int = 1,
    distribution: str | Distribution = "heavy_tailed",
    seed: int = 0,
    sample_rows: int = SAMPLE_ROWS,
    attention: AttentionOptions = FUSED,
) -> Workload:
    """The prefill of `sequences` prompts of `tokens` tokens each through the preset `name`.

    Experts are routed in balance: their tokens differ by one at most, and equal experts are one product with
    `repeat`. Raises AccelSimError for an unknown preset or fewer than one token or sequence.
    """
    shape = presets().get(name.lower())
    if shape is None:
        raise AccelSimError(f"workload {name!r}: no such preset; known: {', '.join(presets())}")
    if tokens < 1 or sequences < 1:
        which, given = ("tokens", tokens) if tokens < 1 else ("sequences", sequences)
        raise AccelSimError(f"workload {name}: {which} must be at least 1, not {given}")
    sites = SyntheticSites(distribution, seed, sample_rows)
    return _Preset(name.lower(), shape, sites, attention).prefill(tokens, sequences)


@dataclass(frozen=True)
class _Preset:
    """A published model with its drawn sites: what prefill and decode steps of it have in common."""

    name: str
    shape: ModelShape
    sites: SyntheticSites
    attention: AttentionOptions

    def prefill(self, tokens: int, sequences: int) -> Workload:
        rows = f"{tokens} tokens" if sequences == 1 else f"{sequences} × {tokens} tokens"
        return self._workload(Pass(sequences, tokens, context=tokens), rows, self.sites, tokens)

    def decode_step(self, default_context: int, batch: int, context: int | None) -> Workload:
        """Every row of the batch is drawn: which weights a batch needs depends on the union over its rows."""
        one_pass = Pass(batch, 1, context or default_context)
        rows = f"decode step, batch {batch}, context {one_pass.context}"
        return self._workload(one_pass, rows, replace(self.sites, sample_rows=max(2, batch)), default_context)

    def _workload(self, one_pass: Pass, rows: str, sites: SyntheticSites, default_context: int) -> Workload:
        shape = self.shape
        routing = ", balanced routing to the experts" if shape.experts else ""
        gemms = [gemm for layer in range(shape.num_hidden_layers) for gemm in _layer(shape, layer, one_pass.tokens)]
        model = Decoder(shape, one_pass, self.attention).whole_model(gemms)
        linear = synthetic_workload(
            name=f"{self.name}, {rows}",
            source=f"shapes of {shape.model} (its config.json), {rows}{routing}",
            gemms=gemms,
            sites=sites,
        )
        drawn = sites.site(LM_HEAD_SITE, one_pass.sequences, shape.hidden_size)
        return replace(
            linear,
            sites={**linear.sites, LM_HEAD_SITE: drawn},
            model=model,
            layers_in_model=shape.num_hidden_layers,
            decode_step=lambda batch, context: self.decode_step(default_context, batch, context),
        )


def _layer(shape: ModelShape, layer: int, tokens: int) -> Iterator[Gemm]:
    attention, mlp = f"model.layers.{layer}.self_attn", f"model.layers.{layer}.mlp"
    hidden = shape.hidden_size
    queries, keys = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
    for projection, outputs in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
        yield Gemm(f"{attention}.{projection}", f"{attention}.input", tokens, hidden, outputs, layer=layer)
    yield Gemm(f"{attention}.o_proj", f"{attention}.o_proj.input", tokens, queries, hidden, layer=layer)
    if shape.experts:
        experts = shape.experts.num_experts
        yield Gemm(f"{mlp}.gate", f"{mlp}.input", tokens, hidden, experts, prunable=False, layer=layer)
        yield from _experts(mlp, layer, hidden, shape.experts, tokens)
    else:
        yield from _gated_mlp(mlp, layer, tokens, hidden, shape.intermediate_size)


def _gated_mlp(
    block: str,
    layer: int,
    tokens: int,
    hidden: int,
    intermediate: int,
    repeat: int = 1,
    rows_of: str | None = None,
) -> Iterator[Gemm]:
    product = f"{block}.down_proj.input"
    for projection in ("gate_proj", "up_proj"):
        yield Gemm(
            f"{block}.{projection}",
            f"{block}.input",
            tokens,
            hidden,
            intermediate,
            repeat,
            layer=layer,
            consumer_site=product,
            rows_of=rows_of,
        )
    yield Gemm(f"{block}.down_proj", product, tokens, intermediate, hidden, repeat, layer=layer)


def _experts(mlp: str, layer: int, hidden: int, experts: Experts, tokens: int) -> Iterator[Gemm]:
    """Balanced routing: the first `extra` experts get one token more than the others; idle experts do nothing."""
    share, extra = divmod(tokens * min(experts.num_experts_per_tok, experts.num_experts), experts.num_experts)
    for first, last, load in ((0, extra, share + 1), (extra, experts.num_experts, share)):
        if load and first < last:
            named, size = f"{mlp}.experts[{first}-{last - 1}]", experts.moe_intermediate_size
            yield from _gated_mlp(named, layer, load, hidden, size, last - first, rows_of=f"{mlp}.input")
