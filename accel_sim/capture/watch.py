"""How a capture tells its caller that it goes on; the command line draws it, a library user may ignore it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accel_sim.capture.stream import Streamed


@dataclass(frozen=True)
class Observer:
    """Functions to call."""

    on_status: Callable[[str], None] = lambda _: None
    """With what is being done now."""
    on_tokens: Callable[[int, int], None] = lambda done, total: None
    """With the tokens that were run, and how many there are to run."""
    on_streamed: Callable[[Streamed], None] = lambda _: None
    """With what went to the disk, and how long the model waited for it, once the last token has run."""
