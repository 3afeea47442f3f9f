"""Run prompts through the model piece by piece: the prompt in chunks, then, when decoding, one token a step."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from accel_sim.capture.load import LoadedModel
from accel_sim.capture.options import CaptureOptions
from accel_sim.capture.recorder import Recorder
from accel_sim.capture.stream import TraceStream
from accel_sim.capture.text import Prompt
from accel_sim.capture.watch import Observer
from accel_sim.errors import AccelSimError

CHECKPOINT_SECONDS = 2.0
"""A capture that is killed loses about this much work, or one chunk if that takes longer."""


class SequenceRun:
    """One sequence in the model, with its KV cache if it takes more than one forward pass."""

    def __init__(self, model: Any, options: CaptureOptions) -> None:
        self._model = model
        self._cached = options.phase == "decode" or options.tokens > options.chunk
        self._past: Any = None
        # Logits of all positions cost more than a block does, and only the head's own capture needs them.
        accepts = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._arguments: dict[str, Any] = {} if options.lm_head or not accepts else {"logits_to_keep": 1}
        self.next_token: torch.Tensor | None = None
        """Token id [1, 1] that the model finds likeliest after what it has seen."""

    def feed(self, token_ids: torch.Tensor, recorder: Recorder | None, position: int, sequence: int) -> None:
        """Run `token_ids` [1, T], the first at `position`, recording the products if there is a recorder."""
        inputs = {"input_ids": token_ids, "use_cache": self._cached} | self._arguments
        if self._cached:
            inputs["past_key_values"] = self._past
        with torch.no_grad():
            try:
                output = self._model(**inputs) if recorder is None else recorder.chunk(inputs, position, sequence)
            except AccelSimError:
                raise
            except (RuntimeError, ValueError) as error:  # out of memory, a cache that the model cannot do without …
                what = f"{type(self._model).__name__}: tokens {position}-{position + token_ids.shape[1] - 1}"
                raise AccelSimError(f"{what}: the forward pass failed: {type(error).__name__}: {error}") from error
        if self._cached:
            self._past = getattr(output, "past_key_values", None)
            if self._past is None:
                raise AccelSimError(
                    f"{type(self._model).__name__} gives no KV cache: prefill alone, with --chunk at least --tokens"
                )
        self.next_token = output.logits[:, -1].argmax(-1, keepdim=True)


@dataclass(frozen=True)
class Piece:
    """Tokens of one forward pass."""

    token_ids: torch.Tensor
    """[1, T]"""
    position: int
    """Of the first."""
    recorded: bool


def pieces(prompt: Prompt, options: CaptureOptions, run: SequenceRun, device: torch.device) -> Iterator[Piece]:
    """What to feed, in order. Prefill records the prompt; decode records what is generated from it."""
    ids = torch.from_numpy(prompt.token_ids).to(device)[None]
    for start in range(0, options.tokens, options.chunk):
        yield Piece(ids[:, start : start + options.chunk], start, recorded=options.phase == "prefill")
    for step in range(options.new_tokens or 0):
        # Greedy, and on past the end-of-text token: a trace has as many steps as were asked for.
        yield Piece(run.next_token, options.tokens + step, recorded=True)


def run_prompts(
    loaded: LoadedModel,
    prompts: tuple[Prompt, ...],
    options: CaptureOptions,
    recorder: Recorder,
    stream: TraceStream,
    progress: dict[str, Any],
    observer: Observer,
) -> None:
    """Run all prompts, `recorder` sending what it sees to `stream`; go on from `progress`, the last checkpoint's.

    A sequence that was left half-way is run again from its start, to rebuild the KV cache, but only what is not in the
    trace yet is recorded.
    """
    first, pieces_stored = progress.get("sequences", 0), progress.get("pieces", 0)
    per_sequence = options.tokens + (options.new_tokens or 0)
    saved = time.monotonic()
    for sequence in range(first, len(prompts)):
        stored = pieces_stored if sequence == first else 0
        run = SequenceRun(loaded.model, options)
        fed = 0
        for index, piece in enumerate(pieces(prompts[sequence], options, run, loaded.device)):
            record = piece.recorded and index >= stored
            run.feed(piece.token_ids, recorder if record else None, piece.position, sequence)
            fed += piece.token_ids.shape[1]
            observer.on_tokens(sequence * per_sequence + fed, len(prompts) * per_sequence)
            if record and time.monotonic() - saved >= CHECKPOINT_SECONDS:
                stream.checkpoint({"sequences": sequence, "pieces": index + 1, "macs": dict(recorder.macs)})
                saved = time.monotonic()
        stream.checkpoint({"sequences": sequence + 1, "pieces": 0, "macs": dict(recorder.macs)})
