"""Greedy continuations, and how long a sparsified model's stays with the dense one's."""

from __future__ import annotations

import inspect
from typing import Any

import torch


def continue_greedily(model: Any, prompts: torch.Tensor, new_tokens: int) -> torch.Tensor:
    """The likeliest token after token, int64 [B, new_tokens] on the CPU, from prompts int64 [B, T] of equal length.

    Goes on past the end-of-text token. A model without a cache is run over the whole sequence for every token.
    """
    accepts = "logits_to_keep" in inspect.signature(model.forward).parameters
    arguments: dict[str, Any] = {"logits_to_keep": 1} if accepts else {}
    tokens = prompts.to(model.device)
    read, past = tokens, None
    with torch.no_grad():
        for _ in range(new_tokens):
            if past is not None:
                arguments["past_key_values"] = past
            output = model(input_ids=read, use_cache=True, **arguments)
            past = getattr(output, "past_key_values", None)
            following = output.logits[:, -1].argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, following], dim=1)
            read = following if past is not None else tokens
    return tokens[:, prompts.shape[1] :].cpu()


def common_shares(one: torch.Tensor, other: torch.Tensor) -> list[float]:
    """Of each pair of continuations [B, N], the share of its N tokens before the first that differs."""
    return (one == other).cumprod(dim=1).double().mean(dim=1).tolist()
