"""What a student is worth on text that it has not seen: perplexity, divergence from the teacher, zeros of its gates."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from accel_sim.errors import AccelSimError
from accel_sim.evaluation.corpora import ALL, standard_corpora
from accel_sim.evaluation.dense import DenseReference, window_logits
from accel_sim.evaluation.metrics import compare_logits
from accel_sim.evaluation.settings import EvaluationSettings
from accel_sim.evaluation.windows import cut_corpora
from accel_sim.reluify.models import Pair
from accel_sim.reluify.settings import ReluifySettings
from accel_sim.reluify.zeros import counted_zeros


class Measurement(BaseModel):
    """Of one state of the model."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    perplexity: dict[str, float]
    """exp of the mean −log p over every token but a window's first, by kind of text, and of all."""
    kl: dict[str, float]
    """Mean KL(teacher ‖ this) of the same tokens, in nats."""
    gate_zeros: tuple[float, ...]
    """Share of exact zeros behind the activation, layer by layer; behind a ReLU, of gates ≤ 0 (≤ the threshold)."""
    down_zeros: tuple[float, ...]
    """Share of exact zeros in what `down_proj` reads, layer by layer."""

    @property
    def mean_gate_zeros(self) -> float:
        """Of all layers."""
        return sum(self.gate_zeros) / len(self.gate_zeros)

    @property
    def mean_down_zeros(self) -> float:
        return sum(self.down_zeros) / len(self.down_zeros)


class HeldOut:
    """The standard evaluation text, which nothing is learnt from, with the teacher's logits of it."""

    def __init__(self, pair: Pair, tokenizer: Any, settings: ReluifySettings) -> None:
        """Raises AccelSimError where a window is longer than the text is."""
        tokens = settings.evaluation_windows * settings.window
        cut = EvaluationSettings(tokens, settings.window, 0, block=settings.window, generation=False)
        self.cuts = cut_corpora(tokenizer, standard_corpora(), cut)
        device = next(pair.student.parameters()).device
        self._pair = pair
        self._ids = [torch.from_numpy(window.token_ids).to(device) for window in self.cuts.windows]
        self._reference = DenseReference(pair.teacher)

    def teacher(self) -> Measurement:
        return self._measure(self._pair.teacher)

    def student(self) -> Measurement:
        with self._pair.computing():
            return self._measure(self._pair.student)

    def _measure(self, model: nn.Module) -> Measurement:
        self._fill_reference()
        by_kind: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        with counted_zeros(model) as (gate, down):
            for index, (window, ids) in enumerate(zip(self.cuts.windows, self._ids, strict=True)):
                logits = window_logits(model, ids)
                with torch.autocast(ids.device.type, enabled=False):
                    found = compare_logits(self._reference.logits(index), logits, ids)
                by_kind.setdefault(window.kind, []).append((found.nll, found.kl))
        by_kind[ALL] = [each for windows in by_kind.values() for each in windows]
        perplexity, kl = {}, {}
        for kind, windows in by_kind.items():
            nll, divergence = (float(np.concatenate(each).mean()) for each in zip(*windows, strict=True))
            if not np.isfinite(nll):
                raise AccelSimError(f"the logits are not finite on held-out {kind}; try a lower --learning-rate")
            perplexity[kind], kl[kind] = float(np.exp(nll)), divergence
        return Measurement(perplexity=perplexity, kl=kl, gate_zeros=gate.shares, down_zeros=down.shares)

    def _fill_reference(self) -> None:
        with torch.autocast(self._ids[0].device.type, enabled=False):
            for ids in self._ids[len(self._reference) :]:
                self._reference.add(ids)
