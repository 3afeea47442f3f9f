"""Decode steps of a language model on a device: from Python, or as a CUDA graph over a static cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from accel_sim.capture.gated_mlps import PROJECTIONS, gated_mlps
from accel_sim.executors.torch_ffn import TorchLowRank
from benchmarks.gpu.timing import captured

_SLEEP_CYCLES = 2_000_000
_LENGTHS = 64
"""A static cache is a multiple of this long, as attention kernels like it."""


class StaticSteps:
    """Greedy steps behind one prompt int64 [1, T], in tensors whose addresses stay, so that a graph can replay a step.

    Positions and the attention's mask are given, so that the model asks the cache for nothing.
    """

    def __init__(self, model: nn.Module, prompt: Tensor, steps: int) -> None:
        from transformers import StaticCache

        self.model, self.prompt = model, prompt
        self.length = -(-(prompt.shape[1] + steps + 2) // _LENGTHS) * _LENGTHS
        self.cache = StaticCache(config=model.config, max_cache_len=self.length)
        self.token = torch.zeros((1, 1), dtype=torch.int64, device=prompt.device)
        self.position = torch.zeros((1, 1), dtype=torch.int64, device=prompt.device)
        self.logits = torch.zeros((1, model.config.vocab_size), device=prompt.device)
        self._places = torch.arange(self.length, device=prompt.device)
        self.restart()

    @torch.no_grad()
    def restart(self) -> None:
        """Behind the prompt again."""
        self.cache.reset()
        positions = torch.arange(self.prompt.shape[1], device=self.prompt.device)[None]
        self._take(self._forward(self.prompt, positions))
        self.position.fill_(self.prompt.shape[1])

    @torch.no_grad()
    def step(self) -> None:
        """One token more; writes only to tensors that stay."""
        self._take(self._forward(self.token, self.position))
        self.position.add_(1)

    def _forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        seen = (self._places <= positions[..., None])[:, None]  # [1, 1, T, length]
        given = {"input_ids": tokens, "position_ids": positions, "attention_mask": seen}
        return self.model(**given, past_key_values=self.cache, use_cache=True, logits_to_keep=1).logits[:, -1]

    def _take(self, logits: Tensor) -> None:
        self.logits.copy_(logits)
        self.token.copy_(logits.argmax(-1, keepdim=True))

    def graph(self) -> Callable[[], object]:
        """What replays a step. Raises NotCaptured where it cannot be captured."""
        replay = captured([self.step]).replay
        self.restart()
        return replay


def seconds_of_steps(steps: StaticSteps, count: int, step: Callable[[], object]) -> float:
    """Of one `step` of `count` behind the prompt: device time on a CUDA device, where the host runs ahead."""
    steps.restart()
    if steps.prompt.device.type != "cuda":
        begin = time.perf_counter()
        for _ in range(count):
            step()
        return (time.perf_counter() - begin) / count
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    torch.cuda._sleep(_SLEEP_CYCLES)
    begin.record()
    for _ in range(count):
        step()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3 / count


@torch.no_grad()
def seconds_from_python(model: nn.Module, prompt: Tensor, count: int) -> float:
    """Wall time of one of `count` steps, with the cache and the calls that `generate` has."""
    output = model(input_ids=prompt, use_cache=True, logits_to_keep=1)
    token = output.logits[:, -1].argmax(-1, keepdim=True)
    wait(prompt.device)
    begin = time.perf_counter()
    for _ in range(count):
        output = model(input_ids=token, past_key_values=output.past_key_values, use_cache=True, logits_to_keep=1)
        token = output.logits[:, -1].argmax(-1, keepdim=True)
    wait(prompt.device)
    return (time.perf_counter() - begin) / count


def wait(device: torch.device) -> None:
    """Until the device has done all."""
    if device.type == "cuda":
        torch.cuda.synchronize()


@contextmanager
def instead_of_ffns(model: nn.Module, answers: Sequence[Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Every MLP's forward is that of `answers`, inside the block."""
    mlps = list(gated_mlps(model).values())
    for mlp, answer in zip(mlps, answers, strict=True):
        mlp.forward = answer
    try:
        yield
    finally:
        for mlp in mlps:
            del mlp.forward


@dataclass(frozen=True)
class Masked:
    """A dense FFN under its predictor's mask, in float64: what an executor is held against."""

    y: Tensor
    told: float
    """Share of the neurons that the predictor lets through."""
    active: float
    """Share of those that it lets through and whose gate is open."""


@torch.no_grad()
def masked_ffn(mlp: Any, predictor: TorchLowRank, x: Tensor) -> Masked:
    """For x [1, d]; its scores are computed as the executor's predictor does."""
    gate, up, down = (getattr(mlp, name).weight for name in PROJECTIONS)
    told = predictor.scores(x) > 0
    gated = linear(x.double(), gate.double())
    kept = told & (gated > 0)
    y = linear(torch.where(kept, gated * linear(x.double(), up.double()), 0), down.double())
    return Masked(y, *(float(each.double().mean()) for each in (told, kept)))


@torch.no_grad()
def ffn_pairs(model: nn.Module, steps: StaticSteps) -> list[tuple[Tensor, Tensor]]:
    """What each layer's MLP is given in the first step behind the prompt, and what it answers: [1, d] each."""
    seen: list[tuple[Tensor, Tensor]] = []
    hooks = [
        mlp.register_forward_hook(lambda module, given, answer: seen.append((given[0][0].clone(), answer[0].clone())))
        for mlp in gated_mlps(model).values()
    ]
    try:
        steps.restart()
        seen.clear()
        steps.step()
    finally:
        for hook in hooks:
            hook.remove()
    return seen
