"""Cut texts into windows to evaluate, and calibration texts into sequences that recipes are fitted to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from accel_sim.capture.text import Prompt, Text, cut_prompts
from accel_sim.errors import AccelSimError
from accel_sim.evaluation.corpora import Corpora
from accel_sim.evaluation.settings import EvaluationSettings
from accel_sim.trace.format import TextCut


@dataclass(frozen=True, eq=False)
class Window:
    """A stretch of one kind of text that is run through the model in one pass."""

    kind: str
    token_ids: np.ndarray
    """int64 [T]"""
    cut: TextCut


@dataclass(frozen=True, eq=False)
class Cuts:
    """All that an evaluation reads."""

    windows: tuple[Window, ...]
    """Those of one kind follow on each other."""
    calibration: tuple[Prompt, ...]
    """Sequences of equal length."""

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(window.kind for window in self.windows))

    @property
    def calibration_ids(self) -> np.ndarray | None:
        """int64 [B, T]; None without calibration."""
        return np.stack([each.token_ids for each in self.calibration]) if self.calibration else None

    @property
    def calibration_sha256(self) -> str | None:
        return _sha256(each.cut for each in self.calibration) if self.calibration else None

    def sha256(self, *kinds: str) -> str:
        """Of the cuts of these kinds, in order."""
        return _sha256(window.cut for window in self.windows if window.kind in kinds)


def cut_corpora(tokenizer: Any, corpora: Corpora, settings: EvaluationSettings) -> Cuts:
    """Windows spread evenly over each text, and calibration sequences from the calibration's texts in turn.

    Raises AccelSimError for a text that is too short, and where calibration would see what is evaluated.
    """
    windows = tuple(
        Window(kind, each.token_ids, each.cut)
        for kind, text in corpora.evaluation.items()
        for each in _spread(tokenizer, text, settings.windows, settings.window, "--tokens")
    )
    count, texts = settings.calibration_tokens // settings.window, corpora.calibration
    by_text = []
    for index, text in enumerate(texts):
        own = len(range(index, count, len(texts)))
        by_text.append(_spread(tokenizer, text, own, settings.window, "--calibration-tokens"))
        for prompt in by_text[-1]:
            _check_not_evaluated(prompt.cut, text, corpora.evaluation)
    return Cuts(windows, tuple(by_text[i % len(texts)][i // len(texts)] for i in range(count)))


def _spread(tokenizer: Any, text: Text, count: int, tokens: int, amount: str) -> list[Prompt]:
    """One cut from the first line of each of `count` equal parts, so that no passage decides and none overlap."""
    starts = [_line_start(text.content, len(text.content) * part // count) for part in range(count)]
    found = []
    for start, end in zip(starts, [*starts[1:], len(text.content)], strict=False):
        try:
            (prompt,) = cut_prompts(tokenizer, [Text(text.name, text.content[start:end])], 1, tokens)
        except AccelSimError:
            raise AccelSimError(
                f"text {text.name}: too short for {count} × {tokens} tokens, each from an equal part of it; "
                f"expected a longer text, or fewer {amount}"
            ) from None
        found.append(Prompt(prompt.token_ids, prompt.cut.model_copy(update={"start": start})))
    return found


def _line_start(content: str, position: int) -> int:
    """Of the first line that begins at `position` or behind it; `position` itself in the last line."""
    return 0 if position == 0 else content.find("\n", position - 1) + 1 or position


def _check_not_evaluated(cut: TextCut, text: Text, evaluated: Mapping[str, Text]) -> None:
    content = text.content[cut.start : cut.start + cut.characters]
    for kind, other in evaluated.items():
        if content in other.content:
            raise AccelSimError(
                f"calibration text {text.name}: characters {cut.start} to {cut.start + cut.characters} are also in the "
                f"{kind} that is evaluated; expected texts that share nothing"
            )


def _sha256(cuts: Iterable[TextCut]) -> str:
    return hashlib.sha256("".join(cut.sha256 for cut in cuts).encode()).hexdigest()
