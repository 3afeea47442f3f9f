"""The products that are measured and predicted, and which of them the model may learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from accel_sim.workload.gemm import Gemm
from accel_sim.workload.presets import preset_workload

MODELS = ("llama-3.1-8b", "qwen2.5-7b", "smollm2-135m")
TOKENS = (16, 64, 256, 1024, 4096, 16384)
FITTED_EVERY = 3
SPLIT_RULE = (
    "shapes of the t-th number of tokens in the order of (features, outputs): the i-th is fitted where i + t is a"
    f" multiple of {FITTED_EVERY} (both from 0)"
)

Kind = Literal["few tokens", "narrow", "wide", "tall"]
KINDS: dict[Kind, str] = {
    "few tokens": "at most 128 tokens: weights or launches decide",
    "narrow": "more tokens, features or outputs below 1,024: too little work a byte",
    "wide": "more tokens, at least as many outputs as features",
    "tall": "more tokens, fewer outputs than features",
}


@dataclass(frozen=True, order=True)
class Shape:
    """X [tokens, features] times W [features, outputs]."""

    tokens: int
    features: int
    outputs: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the dense product."""
        return self.tokens * self.features * self.outputs

    @property
    def kind(self) -> Kind:
        """What the report gathers it under."""
        if self.tokens <= 128:
            return "few tokens"
        if min(self.features, self.outputs) < 1024:
            return "narrow"
        return "wide" if self.outputs >= self.features else "tall"

    def __str__(self) -> str:
        return f"{self.tokens} × {self.features} × {self.outputs}"


def standard_shapes() -> tuple[Shape, ...]:
    """Every distinct projection of `MODELS` with every number of `TOKENS`, in order."""
    projections = {
        (gemm.features, gemm.outputs) for model in MODELS for gemm in preset_workload(model, 1).gemms if _linear(gemm)
    }
    return tuple(sorted(Shape(tokens, *pair) for tokens in TOKENS for pair in projections))


def fitted_third(shapes: tuple[Shape, ...]) -> frozenset[Shape]:
    """The shapes that parameters may be fitted on, by `SPLIT_RULE`; the others are held out."""
    tokens = sorted({shape.tokens for shape in shapes})
    fitted = set()
    for t, count in enumerate(tokens):
        alike = sorted({shape for shape in shapes if shape.tokens == count})
        fitted |= {shape for i, shape in enumerate(alike) if (i + t) % FITTED_EVERY == 0}
    return frozenset(fitted)


def _linear(gemm: Gemm) -> bool:
    return gemm.kind == "linear" and gemm.prunable
