"""The linear projections of published models, from the shapes in their config.json, with synthetic activations."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator
from ruamel.yaml import YAML

from accel_sim.errors import AccelSimError
from accel_sim.trace.synthetic import Distribution
from accel_sim.workload.gemm import Gemm, Workload
from accel_sim.workload.synthetic import SAMPLE_ROWS, SyntheticSites, synthetic_workload

_MODELS = Path(__file__).parent / "data" / "models.yaml"


class Experts(BaseModel):
    """A mixture-of-experts block in place of the MLP, in every layer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_experts: PositiveInt
    num_experts_per_tok: PositiveInt
    moe_intermediate_size: PositiveInt


class ModelShape(BaseModel):
    """What config.json says of a decoder; the keys are its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: str
    """Id on the hub that the shapes were read from."""
    hidden_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt
    head_dim: PositiveInt
    intermediate_size: PositiveInt | None = None
    experts: Experts | None = None

    @model_validator(mode="after")
    def _mlp_or_experts(self) -> ModelShape:
        if (self.intermediate_size is None) == (self.experts is None):
            raise AccelSimError(f"model {self.model}: give either intermediate_size or experts")
        return self


@cache
def presets() -> dict[str, ModelShape]:
    """The models whose shapes come with the package, by preset name."""
    models = YAML(typ="safe", pure=True).load(_MODELS.read_text(encoding="utf-8"))
    return {name: ModelShape.model_validate(shape) for name, shape in models.items()}


def preset_workload(
    name: str,
    tokens: int,
    *,
    distribution: str | Distribution = "heavy_tailed",
    seed: int = 0,
    sample_rows: int = SAMPLE_ROWS,
) -> Workload:
    """One forward pass of `tokens` tokens through the decoder blocks of the preset `name`.

    Experts are routed in balance: their tokens differ by one at most, and equal experts are one product with
    `repeat`. Raises AccelSimError for an unknown preset or fewer than one token.
    """
    shape = presets().get(name.lower())
    if shape is None:
        raise AccelSimError(f"workload {name!r}: no such preset; known: {', '.join(presets())}")
    if tokens < 1:
        raise AccelSimError(f"workload {name}: tokens must be at least 1, not {tokens}")
    routing = ", balanced routing to the experts" if shape.experts else ""
    return synthetic_workload(
        name=f"{name.lower()}, {tokens} tokens",
        source=f"shapes of {shape.model} (its config.json), {tokens} tokens{routing}",
        gemms=[gemm for layer in range(shape.num_hidden_layers) for gemm in _layer(shape, layer, tokens)],
        sites=SyntheticSites(distribution, seed, sample_rows),
    )


def _layer(shape: ModelShape, layer: int, tokens: int) -> Iterator[Gemm]:
    attention, mlp = f"model.layers.{layer}.self_attn", f"model.layers.{layer}.mlp"
    hidden = shape.hidden_size
    queries, keys = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
    for projection, outputs in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
        yield Gemm(f"{attention}.{projection}", f"{attention}.input", tokens, hidden, outputs)
    yield Gemm(f"{attention}.o_proj", f"{attention}.o_proj.input", tokens, queries, hidden)
    if shape.experts:
        yield Gemm(f"{mlp}.gate", f"{mlp}.input", tokens, hidden, shape.experts.num_experts)
        yield from _experts(f"{mlp}.experts", hidden, shape.experts, tokens)
    else:
        yield from _gated_mlp(mlp, tokens, hidden, shape.intermediate_size)


def _gated_mlp(block: str, tokens: int, hidden: int, intermediate: int, repeat: int = 1) -> Iterator[Gemm]:
    for projection in ("gate_proj", "up_proj"):
        yield Gemm(f"{block}.{projection}", f"{block}.input", tokens, hidden, intermediate, repeat)
    yield Gemm(f"{block}.down_proj", f"{block}.down_proj.input", tokens, intermediate, hidden, repeat)


def _experts(block: str, hidden: int, experts: Experts, tokens: int) -> Iterator[Gemm]:
    """Balanced routing: the first `extra` experts get one token more than the others; idle experts do nothing."""
    share, extra = divmod(tokens * min(experts.num_experts_per_tok, experts.num_experts), experts.num_experts)
    for first, last, load in ((0, extra, share + 1), (extra, experts.num_experts, share)):
        if load and first < last:
            named = f"{block}[{first}-{last - 1}]"
            yield from _gated_mlp(named, load, hidden, experts.moe_intermediate_size, last - first)
