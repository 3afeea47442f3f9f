"""How much is measured and how; checked before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass

from accel_sim.errors import AccelSimError


@dataclass(frozen=True)
class EvaluationSettings:
    """One evaluation. Raises AccelSimError for values that cannot be."""

    tokens: int = 2048
    """Of each kind of text; a multiple of `window`."""
    window: int = 512
    """Tokens of one forward pass; every one but a window's first is predicted."""
    calibration_tokens: int = 3072
    """Of all kinds together, in sequences of `window` tokens that take the calibration's texts in turn."""
    seed: int = 0
    """Of the bootstrap."""
    block: int = 128
    """Tokens that the bootstrap draws together, since neighbours are alike; a divisor of `window`."""
    resamples: int = 2000
    """Of the bootstrap."""
    generation: bool = True
    """Whether greedy continuations are compared with the dense model's."""
    prompts: int = 16
    """To continue, of each kind of text, spread over it."""
    prompt_tokens: int = 64
    new_tokens: int = 64

    def __post_init__(self) -> None:
        for name in ("tokens", "block", "resamples", "prompts", "prompt_tokens", "new_tokens"):
            self._at_least(name, 1)
        self._at_least("window", 2)
        for name in ("calibration_tokens", "seed"):
            self._at_least(name, 0)
        for name in ("tokens", "calibration_tokens"):
            value = getattr(self, name)
            if value % self.window:
                raise AccelSimError(f"{_option(name)} {value}: expected a multiple of --window {self.window}")
        if self.window % self.block:
            raise AccelSimError(
                f"--window {self.window}: expected a multiple of {self.block}, the tokens of a block of the bootstrap"
            )
        if self.generation and self.prompt_tokens > self.window:
            raise AccelSimError(
                f"--window {self.window}: a prompt of {self.prompt_tokens} tokens does not fit; "
                "take longer windows, or --no-generation"
            )

    @property
    def windows(self) -> int:
        """Of each kind of text."""
        return self.tokens // self.window

    @property
    def prompts_of_kind(self) -> int:
        """Prompts that fit into a kind's windows without overlap, at most `prompts`."""
        return min(self.prompts, self.windows * (self.window // self.prompt_tokens))

    def _at_least(self, name: str, least: int) -> None:
        if getattr(self, name) < least:
            raise AccelSimError(f"{_option(name)} {getattr(self, name)}: expected a whole number from {least} on")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
