"""Tiny models with random weights, and prompts for them: what the capture tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from accel_sim.capture.load import LoadedModel, run_experts_one_by_one
from accel_sim.capture.options import CaptureOptions
from accel_sim.capture.text import Prompt
from accel_sim.trace.format import TextCut

VOCABULARY = 40
PROMPT = [1, 5, 9, 2, 7, 30, 12, 12, 3, 8, 21, 17]

_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EXPERTS = {"num_experts_per_tok": 2, "num_local_experts": 5}
_QWEN_EXPERTS = {"num_experts_per_tok": 2, "num_experts": 5, "moe_intermediate_size": 12}
_LATENT_ATTENTION = {
    "kv_lora_rank": 8, "q_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 4,
}  # fmt: skip
_DEEPSEEK = {
    "num_experts_per_tok": 2, "n_routed_experts": 4, "moe_intermediate_size": 12, "n_group": 1, "topk_group": 1,
    "first_k_dense_replace": 1, "num_key_value_heads": 4, **_LATENT_ATTENTION,
}  # fmt: skip
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "qwen2": ("Qwen2Config", {}),
    "gemma3": ("Gemma3TextConfig", {"sliding_window": 8}),
    "gpt2": ("GPT2Config", {"n_embd": 16, "n_layer": 3, "n_head": 4, "n_positions": 64}),
    "neox": ("GPTNeoXConfig", {}),
    "mixtral": ("MixtralConfig", _EXPERTS),
    "qwen3_moe": ("Qwen3MoeConfig", _QWEN_EXPERTS),
    "gpt_oss": ("GptOssConfig", _EXPERTS),
    "llama4": ("Llama4TextConfig", {**_EXPERTS, "interleave_moe_layer_step": 1, "intermediate_size_mlp": 24}),
    "deepseek_v3": ("DeepseekV3Config", _DEEPSEEK),
}


class _Tokenizer:
    """Stands for a tokenizer where only its size is asked for."""

    def __len__(self) -> int:
        return VOCABULARY


def tiny_model(name: str, **changes: Any) -> transformers.PreTrainedModel:
    """A random model of the architecture `name`; the same weights at every call."""
    config_class, specific = MODELS[name]
    sizes = {key: _SIZES[key] for key in ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id")}
    config = getattr(transformers, config_class)(**((sizes if name == "gpt2" else _SIZES) | specific | changes))
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases too, which would be zero
            parameter.normal_(0, 0.3)
    return model


def loaded_model(name: str, **changes: Any) -> LoadedModel:
    model = tiny_model(name, **changes)
    run_experts_one_by_one(model)
    return LoadedModel(model, _Tokenizer(), name, None)


def options(out: Path, **changes: Any) -> CaptureOptions:
    return CaptureOptions(**({"out": out, "tokens": len(PROMPT), "device": "cpu"} | changes))


def prompts(sequences: int, tokens: int) -> tuple[Prompt, ...]:
    """The common prompt first, random ones after it."""
    random = np.random.default_rng(0)
    cut = TextCut(source="made up", start=0, characters=0, sha256="", tokens=tokens)
    rows = [np.resize(np.array(PROMPT), tokens)]
    rows += [random.integers(3, VOCABULARY, tokens) for _ in range(sequences - 1)]
    return tuple(Prompt(row.astype(np.int64), cut) for row in rows)
