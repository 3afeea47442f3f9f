"""Tokens a second of a ReLU model's greedy decode, dense and with an executor: `python -m benchmarks.executors`.

The dense model and the executors take turns in every round, and each one's fastest round counts. The FFNs are timed
beside the whole, which says how much of a step any executor can touch (Amdahl's law).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.progress import say
from benchmarks.rows import Row
from benchmarks.versions import versions

PROMPT_TOKENS = 64
EXECUTORS = ("numba", "gather")
_DENSE = "dense"
_VOCABULARY = 32_000
_HEAD_FEATURES = 64


def rows(folder: str, predictors: Path | None, new_tokens: int, rounds: int) -> Iterator[Row]:
    """All rows of one model. Raises AccelSimError where it cannot be loaded, or cannot skip."""
    from accel_sim.capture.load import load_model
    from accel_sim.capture.options import CaptureOptions
    from accel_sim.capture.text import cut_prompts, standard_texts

    loaded = load_model(CaptureOptions(out=Path(), model=folder, compute_dtype="float32", device="cpu"), say)
    (cut,) = cut_prompts(loaded.tokenizer, standard_texts()[:1], 1, PROMPT_TOKENS)
    told = _predictors(predictors, loaded.model) if predictors else None
    command = f"python -m benchmarks.executors --model {folder} --new-tokens {new_tokens}"
    command += f" --predictors {predictors}" if predictors else ""
    yield from rows_of(loaded.model, cut.token_ids, told, new_tokens, rounds, Path(folder).name, command)


def random_rows(features: int, neurons: int, layers: int, off: float, new_tokens: int, rounds: int) -> Iterator[Row]:
    """All rows of a model of random weights, whose gates' biases turn a share `off` of the neurons off."""
    shape = f"{features}x{neurons}x{layers}"
    prompt = np.random.default_rng(0).integers(0, _VOCABULARY, PROMPT_TOKENS)
    command = f"python -m benchmarks.executors --random {shape} --off {off:g} --new-tokens {new_tokens}"
    model = random_model(features, neurons, layers, off)
    yield from rows_of(model, prompt, None, new_tokens, rounds, f"random weights {shape}, {off:.0%} off", command)


def random_model(features: int, neurons: int, layers: int, off: float) -> Any:
    """A Llama with ReLU, float32. `features` must be a multiple of 64, the size of an attention head."""
    from statistics import NormalDist

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    heads = features // _HEAD_FEATURES
    config = LlamaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=features,
        intermediate_size=neurons,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        hidden_act="relu",
        mlp_bias=True,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval()
    # What the norm lets through has a mean square of 1, so that a gate is Gaussian with this deviation.
    deviation = config.initializer_range * features**0.5
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.gate_proj.bias.fill_(-deviation * NormalDist().inv_cdf(off))
    return model


@dataclass(frozen=True)
class _Round:
    """One continuation: seconds of its decode steps, of the FFNs in them, what was fetched, and the tokens int64."""

    seconds: float
    ffn_seconds: float
    fetched: Any
    tokens: Any


def rows_of(
    model: Any, prompt: Any, predictors: Any, new_tokens: int, rounds: int, name: str, command: str
) -> Iterator[Row]:
    """All rows of a model in memory, behind one prompt int64 [T]."""
    import numba
    import torch

    from accel_sim.evaluation.generation import common_shares

    ids = torch.from_numpy(prompt)[None]
    best: dict[str, _Round] = {}
    for number in range(rounds + 1):
        for executor in (_DENSE, *EXECUTORS):
            made = _one_round(model, ids, predictors, executor, new_tokens)
            if number and (executor not in best or made.seconds < best[executor].seconds):
                best[executor] = made
    group = f"Decoding with an executor: {name}, {ids.shape[1]} + {new_tokens} tokens, one sequence"
    how = "each layer's predictor" if predictors else "no predictor, the computed gate decides"
    threads = f"torch {torch.get_num_threads()}, numba {numba.get_num_threads()}"
    policy = os.environ.get("OMP_WAIT_POLICY", "not set")
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "not known"
    used = versions(torch=torch.__version__, threads=threads, OMP_WAIT_POLICY=policy, load=load)
    say(f"threads: {threads}; OMP_WAIT_POLICY {policy}; load {load}")
    steps, dense = new_tokens - 1, best[_DENSE]
    for executor in EXECUTORS:
        made, what = best[executor], f"{executor}, float32, {how}"
        fetched = made.fetched
        read, all_rows = fetched.gate + fetched.up + fetched.down, 3 * fetched.dense

        def row(about: str, ours: float, peer: float, unit: str, faster: bool = False, what: str = what) -> Row:
            say(f"{what}{about}: {ours:.4g} / {peer:.4g} {unit}")
            return Row(group, what + about, ours, peer, unit, command, used, faster=faster)

        yield row(", against dense", steps / made.seconds, steps / dense.seconds, "tokens/s")
        yield row(": weight rows fetched", read, all_rows, "rows")
        (share,) = common_shares(made.tokens, dense.tokens)
        yield row(": tokens before the first that differs", share * new_tokens, new_tokens, "tokens")
        in_ms = 1e3 / steps
        yield row(": FFNs of a step", made.ffn_seconds * in_ms, dense.ffn_seconds * in_ms, "ms", faster=True)
        rest, dense_rest = (each.seconds - each.ffn_seconds for each in (made, dense))
        yield row(": the rest of a step", rest * in_ms, dense_rest * in_ms, "ms", faster=True)
        expected = dense.seconds / (dense_rest + dense.ffn_seconds * read / all_rows)
        speedup = dense.seconds / made.seconds
        yield row(": speed-up, against Amdahl's law with FFN time falling as rows do", speedup, expected, "×")


def _one_round(model: Any, ids: Any, predictors: Any, executor: str, new_tokens: int) -> _Round:
    """The first token comes out of the prefill; from its end on, the clock runs."""
    from accel_sim.evaluation.generation import continue_greedily
    from accel_sim.executors.live import attach

    with nullcontext() if executor == _DENSE else attach(model, predictors, executor) as attached:
        with _DecodeClock(model) as clock:
            tokens = continue_greedily(model, ids, new_tokens)
            seconds = time.perf_counter() - clock.began
        return _Round(seconds, clock.ffn_seconds, None if attached is None else attached.fetched, tokens)


class _DecodeClock:
    """When a model's first forward pass ended, and the time in its MLPs since then.

    Decode is timed by itself: a prefill timed apart and subtracted would turn a prefill that was held up into a decode
    that is fast, and the fastest round would be that one.
    """

    def __init__(self, model: Any) -> None:
        from accel_sim.capture.gated_mlps import gated_mlps

        self.began: float | None = None
        self.ffn_seconds = self._entered = 0.0
        self._model, self._modules = model, list(gated_mlps(model).values())

    def __enter__(self) -> _DecodeClock:
        self._hooks = [module.register_forward_pre_hook(self._enter) for module in self._modules]
        self._hooks += [module.register_forward_hook(self._leave) for module in self._modules]
        self._hooks.append(self._model.register_forward_hook(self._passed))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _enter(self, *_: Any) -> None:
        self._entered = time.perf_counter()

    def _leave(self, *_: Any) -> None:
        if self.began is not None:
            self.ffn_seconds += time.perf_counter() - self._entered

    def _passed(self, *_: Any) -> None:
        if self.began is None:
            self.began = time.perf_counter()


def _predictors(folder: Path, model: Any) -> list[Any]:
    """One for each layer. Raises AccelSimError for a folder that has not one for each."""
    from accel_sim.capture.projections import decoder_blocks
    from accel_sim.errors import AccelSimError
    from accel_sim.sparsify.contextual.storage import read_predictors

    stored = read_predictors(folder).layers
    layers = range(len(decoder_blocks(model).modules))
    if set(stored) != set(layers):
        raise AccelSimError(f"--predictors {folder}: predictors of {len(stored)} layers; the model has {len(layers)}")
    return [stored[layer].predictor for layer in layers]
