"""What a linear projection does in its decoder block, told by the names that models give their modules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

Role = Literal["attention_input", "attention_output", "mlp_input", "mlp_output", "router", "other"]

_ATTENTION_INPUTS = frozenset(
    {"q_proj", "k_proj", "v_proj", "qkv_proj", "c_attn", "query_key_value", "query", "key", "value"}
)
_ATTENTION_OUTPUTS = frozenset({"o_proj", "out_proj", "dense"})
_ROUTERS = frozenset({"gate", "router"})
_FEEDS = {
    "gate_proj": "down_proj",
    "up_proj": "down_proj",
    "gate_up_proj": "down_proj",
    "w1": "w2",
    "w3": "w2",
    "fc1": "fc2",
    "c_fc": "c_proj",
    "dense_h_to_4h": "dense_4h_to_h",
}
"""Projections whose outputs go through the activation function, and the one that reads the result."""
_LAYER = re.compile(r"\b(?:layers|h|blocks|block)\.(\d+)\.")


def last_name(projection: str) -> str:
    """`q_proj` of `model.layers.0.self_attn.q_proj`."""
    return projection.rpartition(".")[2]


def role(projection: str) -> Role:
    """What the projection of this module path does; `other` for a name that is not known."""
    name = last_name(projection)
    if name == "c_proj":  # GPT-2 has one in either half of a block
        return "attention_output" if ".attn." in projection else "mlp_output"
    if name in _ATTENTION_INPUTS:
        return "attention_input"
    if name in _ATTENTION_OUTPUTS:
        return "attention_output"
    if name in _FEEDS:
        return "mlp_input"
    if name in _FEEDS.values():
        return "mlp_output"
    return "router" if name in _ROUTERS else "other"


def consumer(projection: str) -> str | None:
    """Module path of the projection that reads this one's outputs through the activation function, if it is such."""
    block, _, name = projection.rpartition(".")
    return f"{block}.{_FEEDS[name]}" if name in _FEEDS else None


def consumer_sites(outputs: Mapping[str, int], inputs: Mapping[str, tuple[str, int]]) -> dict[str, str]:
    """The site that each projection's outputs feed elementwise, of those that feed one.

    `outputs` is the number of outputs of every projection, `inputs` (site, features) of what every projection reads,
    by module path. A fused gate_up_proj has two outputs a feature and is left out.
    """
    sites = {}
    for name, width in outputs.items():
        reader = consumer(name)
        if reader in inputs and inputs[reader][1] == width:
            sites[name] = inputs[reader][0]
    return sites


def layer_of(projection: str) -> int | None:
    """Index of the decoder block in a module path."""
    found = _LAYER.search(projection)
    return int(found[1]) if found else None


def is_prunable(projection: str) -> bool:
    """Whether a linear projection may run pruned: all may but routers, whose scores choose the experts."""
    return role(projection) != "router"


def named(names: Iterable[str]) -> str:
    """Different last names in order, for messages."""
    return ", ".join(dict.fromkeys(map(last_name, names)))
