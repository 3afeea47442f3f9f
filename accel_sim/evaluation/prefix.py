"""Run only the last blocks of a decoder again, on what the first ones gave before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn


class Prefix:
    """What each of a decoder's blocks returned in one forward pass.

    It stands in for them in later passes over the same tokens. A model whose blocks hand on more than what they return
    (shared caches) gives other logits then; its user has to compare.
    """

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        self._blocks = list(blocks)
        self._returned: list[Any] = [None] * len(self._blocks)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keep what the blocks return inside the `with` block."""

        def keeper(index: int):
            def keep(block: nn.Module, args: tuple, output: Any) -> None:
                self._returned[index] = output

            return keep

        handles = [block.register_forward_hook(keeper(index)) for index, block in enumerate(self._blocks)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def skipping_to(self, first: int) -> Iterator[None]:
        """Inside the `with` block, blocks before `first` return what they returned before, computing nothing."""
        own = [block.__dict__.get("forward") for block in self._blocks[:first]]
        for block, returned in zip(self._blocks[:first], self._returned, strict=False):
            block.forward = lambda *args, _returned=returned, **kwargs: _returned
        try:
            yield
        finally:
            for block, forward in zip(self._blocks[:first], own, strict=True):
                if forward is None:
                    del block.forward
                else:
                    block.forward = forward
