"""The shape of a decoder, with the keys of its config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError, model_validator

from accel_sim.errors import AccelSimError

Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "relu2"]


class Experts(BaseModel):
    """A mixture-of-experts block in place of the MLP, in every layer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_experts: PositiveInt
    num_experts_per_tok: PositiveInt
    moe_intermediate_size: PositiveInt | None = None


class ModelShape(BaseModel):
    """What config.json says of a decoder; the keys are its own, but for those that it leaves to the model's code."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: str
    """Id on the hub that the shapes were read from."""
    hidden_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt
    head_dim: PositiveInt
    vocab_size: PositiveInt
    hidden_act: Activation = "silu"
    """`gelu_tanh` stands for config.json's gelu_new, gelu_fast and gelu_pytorch_tanh."""
    intermediate_size: PositiveInt | None = None
    experts: Experts | None = None
    sliding_window: PositiveInt | None = None
    """Positions a token attends to, itself included, in layers that do not attend to all."""
    layer_types: tuple[str, ...] | None = None
    """`full_attention` or `sliding_attention` by layer."""
    sliding_window_pattern: PositiveInt | None = None
    """Every so many layers one attends to all positions; null: the window holds in all, or as `layer_types` say."""
    norm: Literal["rms_norm", "layer_norm"] = "rms_norm"
    norms_per_layer: Literal[2, 4] = 2
    """4: the outputs of attention and MLP are normalised too, before they join the residual stream."""
    query_key_norm: bool = False
    """Queries and keys are normalised head by head."""
    rotary: bool = True
    """Positions enter by rotating queries and keys."""

    @model_validator(mode="after")
    def _heads_form_groups(self) -> ModelShape:
        if self.num_attention_heads % self.num_key_value_heads:
            raise AccelSimError(
                f"model {self.model}: {self.num_attention_heads} query heads cannot share"
                f" {self.num_key_value_heads} key-value heads evenly"
            )
        return self

    @property
    def queries_per_key_value_head(self) -> int:
        return self.num_attention_heads // self.num_key_value_heads

    def window(self, layer: int) -> int | None:
        """Positions a token of this layer attends to at most; None when there is no limit."""
        if self.sliding_window is None:
            return None
        if self.layer_types is not None:
            return self.sliding_window if self.layer_types[layer] == "sliding_attention" else None
        everything = self.sliding_window_pattern is not None and (layer + 1) % self.sliding_window_pattern == 0
        return None if everything else self.sliding_window


_ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
}

# The names that different families of models use for the same thing.
_KEYS = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "num_heads"),
    "vocab_size": ("vocab_size",),
    "hidden_act": ("hidden_activation", "hidden_act", "activation_function"),
}

# What config.json does not say, because it is part of the model's code.
_QUERY_KEY_NORM = frozenset({"qwen3", "qwen3_moe", "gemma3", "gemma3_text"})
_FOUR_NORMS = frozenset({"gemma2", "gemma3", "gemma3_text"})
_LIKE_LLAMA = frozenset({"llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "phi3", "gemma", "gpt2", "opt"})
KNOWN_FAMILIES = _QUERY_KEY_NORM | _FOUR_NORMS | _LIKE_LLAMA
"""`model_type` of the models whose norms are known."""


def shape_of_config(model: str, config: Mapping[str, Any]) -> ModelShape:
    """The shape of the model `model` from its configuration, as transformers gives it.

    Raises AccelSimError when a key is missing, or the model computes something that is not modelled.
    """
    config = config.get("text_config") or config
    _refuse_what_is_not_modelled(model, config)
    found = {name: _first(config, keys, model) for name, keys in _KEYS.items()}
    if found["hidden_act"] not in _ACTIVATIONS:
        raise AccelSimError(
            f"model {model}: activation function {found['hidden_act']!r}: expected {_list(_ACTIVATIONS)}"
        )
    found["hidden_act"] = _ACTIVATIONS[found["hidden_act"]]
    family = config["model_type"]
    heads = found["num_attention_heads"]
    try:
        return ModelShape(
            model=model,
            **found,
            num_key_value_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or found["hidden_size"] // heads,
            experts=_experts(config),
            sliding_window=config.get("sliding_window") if config.get("use_sliding_window", True) else None,
            layer_types=config.get("layer_types"),
            sliding_window_pattern=config.get("sliding_window_pattern"),
            norm="rms_norm" if "rms_norm_eps" in config else "layer_norm",
            norms_per_layer=4 if family in _FOUR_NORMS else 2,
            query_key_norm=family in _QUERY_KEY_NORM,
            rotary="rope_parameters" in config or "rope_theta" in config,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise AccelSimError(f"model {model}: config.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _refuse_what_is_not_modelled(model: str, config: Mapping[str, Any]) -> None:
    family = config.get("model_type")
    if family not in KNOWN_FAMILIES:
        raise AccelSimError(f"model {model}: config.model_type {family!r}: known are {_list(sorted(KNOWN_FAMILIES))}")
    if config.get("attn_logit_softcapping") is not None:
        raise AccelSimError(f"model {model}: config.attn_logit_softcapping: capped attention scores are not modelled")


def _experts(config: Mapping[str, Any]) -> Experts | None:
    number = config.get("num_experts") or config.get("num_local_experts")
    if not number:
        return None
    return Experts(
        num_experts=number,
        num_experts_per_tok=config["num_experts_per_tok"],
        moe_intermediate_size=config.get("moe_intermediate_size"),
    )


def _first(config: Mapping[str, Any], keys: tuple[str, ...], model: str) -> Any:
    value = next((config[key] for key in keys if config.get(key) is not None), None)
    if value is None:
        raise AccelSimError(f"model {model}: its configuration has no {' or '.join(keys)}")
    return value


def _list(names: Any) -> str:
    return ", ".join(names)
