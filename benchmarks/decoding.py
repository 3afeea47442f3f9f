"""Tokens a second of a ReLU model's greedy decode, dense and with an executor: `python -m benchmarks.executors`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.progress import say
from benchmarks.rows import Row
from benchmarks.versions import versions

PROMPT_TOKENS = 64
EXECUTORS = ("numba", "gather")


def rows(folder: str, predictors: Path | None, new_tokens: int, rounds: int) -> Iterator[Row]:
    """All rows of one model. Raises AccelSimError where it cannot be loaded, or cannot skip."""
    from accel_sim.capture.load import load_model
    from accel_sim.capture.options import CaptureOptions
    from accel_sim.capture.text import cut_prompts, standard_texts

    loaded = load_model(CaptureOptions(out=Path(), model=folder, compute_dtype="float32", device="cpu"), say)
    (cut,) = cut_prompts(loaded.tokenizer, standard_texts()[:1], 1, PROMPT_TOKENS)
    told = _predictors(predictors, loaded.model) if predictors else None
    yield from rows_of(loaded.model, cut.token_ids, told, new_tokens, rounds, name=Path(folder).name)


def rows_of(model: Any, prompt: Any, predictors: Any, new_tokens: int, rounds: int, name: str) -> Iterator[Row]:
    """All rows of a model in memory, behind one prompt int64 [T]."""
    import torch

    from accel_sim.evaluation.generation import common_shares
    from accel_sim.executors.live import attach

    ids = torch.from_numpy(prompt)[None]
    how = "each layer's predictor" if predictors else "no predictor, the computed gate decides"
    group = f"Decoding with an executor: {name}, {ids.shape[1]} + {new_tokens} tokens, one sequence"
    for executor in EXECUTORS:
        times: tuple[list[float], list[float]] = [], []
        for _ in range(rounds + 1):
            with attach(model, predictors, executor) as attached:
                seconds, sparse = _decode(model, ids, new_tokens)
            times[0].append(seconds)
            fetched = attached.fetched
            seconds, dense = _decode(model, ids, new_tokens)
            times[1].append(seconds)
        ours, peer = ((new_tokens - 1) / min(each[1:]) for each in times)
        used = versions(torch=torch.__version__)
        command = f"python -m benchmarks.executors --model {name} --new-tokens {new_tokens}"
        what = f"{executor}, float32, {how}"
        say(f"{what}: {ours:.4g} / {peer:.4g} tokens a second")
        yield Row(group, f"{what}, against dense", ours, peer, "tokens/s", command, used)
        rows = fetched.gate + fetched.up + fetched.down
        yield Row(group, f"{what}: weight rows fetched", rows, 3 * fetched.dense, "rows", command, used)
        (share,) = common_shares(sparse, dense)
        yield Row(
            group, f"{what}: tokens before the first that differs", share * new_tokens, new_tokens, "tokens", command
        )


def _decode(model: Any, ids: Any, new_tokens: int) -> tuple[float, Any]:
    """Seconds of the decode steps alone, and the tokens int64 [1, N]: the first comes out of the prefill."""
    from accel_sim.evaluation.generation import continue_greedily

    begin = time.perf_counter()
    continue_greedily(model, ids, 1)
    middle = time.perf_counter()
    tokens = continue_greedily(model, ids, new_tokens)
    return (time.perf_counter() - middle) - (middle - begin), tokens


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
