"""The dense products that every peer works out."""

from __future__ import annotations

from accel_sim.workload import Gemm

TOKENS = 512


def product(name: str, tokens: int, features: int, outputs: int) -> Gemm:
    return Gemm(name, f"{name}.input", tokens, features, outputs)


SMOLLM2_LAYER = (
    product("q_proj", TOKENS, 576, 576),
    product("k_proj", TOKENS, 576, 192),
    product("v_proj", TOKENS, 576, 192),
    product("o_proj", TOKENS, 576, 576),
    product("gate_proj", TOKENS, 576, 1536),
    product("up_proj", TOKENS, 576, 1536),
    product("down_proj", TOKENS, 1536, 576),
)
"""The seven projections of one decoder layer of SmolLM2-135M (hidden 576, keys 192, intermediate 1536; config.json)."""

SMOLLM2_DISTINCT = SMOLLM2_LAYER[0], SMOLLM2_LAYER[1], SMOLLM2_LAYER[4], SMOLLM2_LAYER[6]
"""One of each shape: o_proj is as q_proj, v_proj as k_proj, up_proj as gate_proj."""

LLAMA_REDUCED = (
    product("k_proj, 64 tokens", 64, 4096, 1024),
    product("gate_proj, 32 tokens, 1/8 of its outputs", 32, 4096, 1792),
    product("down_proj, 32 tokens, 1/8 of its outputs", 32, 14336, 512),
)
"""Llama-3.1-8B (hidden 4096, keys 1024, intermediate 14336), cut so that SCALE-Sim finishes each in two minutes."""
