"""Which token of the chunk each row of an activation is, when an expert sees only some of them.

Nothing is assumed about how a model routes: the rows an expert reads are copies of rows that a module around it was
given, so they are found by their bytes. What an expert computes from them keeps their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

UNKNOWN = -1
"""Position of a row that is no token of the chunk, or of unknown origin (pooled, scaled before the product)."""
CACHED = -2
"""A row of a token that an earlier chunk had: some models project all cached tokens again (DeepSeek's kv_b_proj)."""


@dataclass
class TokenRows:
    """Matches rows to tokens; keeps the inputs of the modules that run now, from the outermost to the innermost."""

    tokens: int = 0
    """Rows of the current chunk."""
    before: int = 0
    """Tokens of the sequence that came before it."""
    routed: bool = True
    """The model has experts; without, every activation has the chunk's rows in order."""
    _around: list[_Reference] = field(default_factory=list)
    _last: dict[tuple[str, int | None], np.ndarray] = field(default_factory=dict)

    def watch(self, modules: Sequence[nn.Module]) -> list[Any]:
        """Follow the inputs of `modules`; returns the hooks' handles."""
        handles = []
        for module in modules if self.routed else ():
            handles.append(module.register_forward_pre_hook(self._enter, with_kwargs=True))
            handles.append(module.register_forward_hook(self._leave, always_call=True))
        return handles

    def start(self, tokens: int, before: int) -> None:
        """Begin a chunk of `tokens` rows, after `before` others of its sequence."""
        self.tokens, self.before = tokens, before
        self._around.clear()
        self._last.clear()

    def of(self, rows: torch.Tensor, owner: str, expert: int | None) -> np.ndarray:
        """Index in the chunk of every row of `rows` [n, K], int64 [n]; UNKNOWN where it cannot be told, CACHED
        where it belongs to an earlier chunk.

        `owner` is the module that does the product: with `expert`, it tells an expert's second product from others.
        """
        in_order = np.arange(self.tokens) if len(rows) == self.tokens else None
        if not self.routed and in_order is not None:
            return in_order
        found = self._by_content(rows)
        if found is None:
            before = self._last.get((owner, expert))
            found = before if before is not None and len(before) == len(rows) else in_order
        if found is None and expert is None and len(rows) == self.before + self.tokens:
            found = np.concatenate([np.full(self.before, CACHED), np.arange(self.tokens)])
        if found is None:
            found = np.full(len(rows), UNKNOWN)
        self._last[owner, expert] = found
        return found

    def _by_content(self, rows: torch.Tensor) -> np.ndarray | None:
        wanted = None
        for reference in self._around:
            if reference.rows.shape[1:] == rows.shape[1:] and reference.rows.dtype == rows.dtype:
                wanted = _row_bytes(rows) if wanted is None else wanted
                found = reference.find(wanted)
                if found is not None:
                    return found
        return None

    def _enter(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        tensors = [each for each in (*args, *kwargs.values()) if isinstance(each, torch.Tensor) and each.dim() > 1]
        first = next((each for each in tensors if each.numel() == self.tokens * each.shape[-1]), None)
        rows = first.reshape(-1, first.shape[-1]) if first is not None else torch.empty(0, 0)
        self._around.append(_Reference(rows))

    def _leave(self, *_: Any) -> None:
        if self._around:
            self._around.pop()


@dataclass
class _Reference:
    """A module's input [T, K], and where each of its rows is."""

    rows: torch.Tensor
    _places: dict[bytes, list[int]] | None = None

    def find(self, wanted: list[bytes]) -> np.ndarray | None:
        """Index of each wanted row here, or None unless all are here. Equal rows are handed out in ascending order."""
        if self._places is None:
            self._places = {}
            for index, content in enumerate(_row_bytes(self.rows)):
                self._places.setdefault(content, []).append(index)
        taken: dict[bytes, int] = {}
        found = np.empty(len(wanted), np.int64)
        for row, content in enumerate(wanted):
            places, turn = self._places.get(content), taken.get(content, 0)
            if places is None or turn >= len(places):
                return None
            found[row], taken[content] = places[turn], turn + 1
        return found


def _row_bytes(rows: torch.Tensor) -> list[bytes]:
    raw = rows.detach().contiguous().cpu().view(torch.uint8).numpy()
    return [row.tobytes() for row in raw]
