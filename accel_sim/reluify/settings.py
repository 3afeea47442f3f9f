"""How a model is turned into a ReLU one; checked before anything heavy is imported."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import ceil, inf
from typing import Any

from accel_sim.capture.relu_form import ReluForm
from accel_sim.errors import AccelSimError


@dataclass(frozen=True)
class ReluifySettings:
    """One training. Raises AccelSimError for values that cannot be."""

    form: ReluForm = field(default_factory=ReluForm)
    tokens: int | None = None
    """To learn from, rounded up to whole steps; None for no limit."""
    minutes: float | None = None
    """Of training, without the measurements before and after; None for no limit. What is reached first ends it."""
    window: int = 512
    """Tokens of one sequence."""
    batch: int = 1
    """Sequences of one step."""
    learning_rate: float = 2e-4
    """Of Adam at its highest."""
    l1: float = 0.0
    """Weight of the mean of what the gates let through in the loss, once it has risen; 0 for none."""
    refit_tokens: int = 8192
    """That the output projections are refitted on; rounded up to whole windows. 0 leaves them."""
    evaluation_tokens: int = 1024
    """Of each kind of held-out text, rounded up to whole windows."""
    seed: int = 0
    """Of the order of the windows."""

    def __post_init__(self) -> None:
        for name, least in (("window", 2), ("batch", 1), ("refit_tokens", 0), ("evaluation_tokens", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise AccelSimError(f"{_option(name)} {getattr(self, name)}: expected a whole number from {least} on")
        if self.tokens is None and self.minutes is None:
            raise AccelSimError("--tokens or --minutes: expected at least one of them, to know when to stop")
        if self.tokens is not None and self.tokens < 1:
            raise AccelSimError(f"--tokens {self.tokens}: expected a whole number from 1 on")
        for name in ("minutes", "learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < inf:
                raise AccelSimError(f"{_option(name)} {value:g}: expected a number above 0")
        if not 0 <= self.l1 < inf:
            raise AccelSimError(f"--l1 {self.l1:g}: expected a number from 0 on")

    @property
    def tokens_of_step(self) -> int:
        return self.window * self.batch

    @property
    def steps(self) -> int | None:
        """After which `tokens` are reached."""
        return None if self.tokens is None else ceil(self.tokens / self.tokens_of_step)

    @property
    def refit_windows(self) -> int:
        return ceil(self.refit_tokens / self.window)

    @property
    def evaluation_windows(self) -> int:
        """Of each kind of text."""
        return ceil(self.evaluation_tokens / self.window)

    def progress(self, steps: int, seconds: float) -> float:
        """0 at the start, 1 at the end of what was asked for, by tokens or by time, whichever is further."""
        by_tokens = 0.0 if self.steps is None else steps / self.steps
        by_time = 0.0 if self.minutes is None else seconds / (60 * self.minutes)
        return min(1.0, max(by_tokens, by_time))

    def as_mapping(self) -> dict[str, Any]:
        return asdict(self)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
