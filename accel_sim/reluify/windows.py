"""Cut training text into windows of equal length, in the order that they are learnt from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from accel_sim.errors import AccelSimError
from accel_sim.reluify.text import TrainingText


@dataclass(frozen=True, eq=False)
class TrainingWindows:
    """Each window once."""

    token_ids: np.ndarray
    """int32 [n, T], in order."""
    by_kind: dict[str, int]
    """Windows of each kind of text."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.token_ids.astype("<i4").tobytes()).hexdigest()


def cut_training(tokenizer: Any, text: TrainingText, window: int, seed: int) -> TrainingWindows:
    """Windows of `window` tokens, shuffled within each kind of text; kinds take turns as long as they last.

    Documents of a kind follow on each other with the end-of-text token between them, and the rest that fills no window
    is left. A token that the tokenizer puts in front of every text stands in front of every window. Raises
    AccelSimError where there is not one window.
    """
    prefix = _prefix(tokenizer)
    by_kind = {}
    for index, (kind, documents) in enumerate(text.documents.items()):
        cut = _windows(tokenizer, documents, window - len(prefix))
        order = np.random.default_rng([seed, index]).permutation(len(cut))
        front = np.broadcast_to(np.array(prefix, np.int32), (len(cut), len(prefix)))
        by_kind[kind] = np.concatenate([front, cut[order]], axis=1)
    turns = sorted((turn, index) for index, cut in enumerate(by_kind.values()) for turn in range(len(cut)))
    if not turns:
        raise AccelSimError(f"--window {window}: the training text is shorter than one window")
    cuts = list(by_kind.values())
    ids = np.stack([cuts[index][turn] for turn, index in turns])
    return TrainingWindows(ids, {kind: len(cut) for kind, cut in by_kind.items()})


def _windows(tokenizer: Any, documents: tuple[str, ...], tokens: int) -> np.ndarray:
    """int32 [n, tokens]"""
    encoded = tokenizer(list(documents), add_special_tokens=False, verbose=False)["input_ids"] if documents else []
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    stream = np.array([token for ids in encoded for token in (*ids, *end)], np.int32)
    count = len(stream) // tokens
    return stream[: count * tokens].reshape(count, tokens)


def _prefix(tokenizer: Any) -> list[int]:
    """What the tokenizer puts in front of a text."""
    whole, plain = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    return next((whole[:i] for i in range(len(whole)) if whole[i : i + len(plain)] == plain), [])
