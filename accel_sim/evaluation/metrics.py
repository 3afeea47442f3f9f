"""Compare two models' logits token by token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from accel_sim.evaluation.result import Blocks

_ROWS = 64
"""Tokens that are compared at once; bounds the memory, which a vocabulary of 256,000 would make large."""


@dataclass(frozen=True, eq=False)
class TokenMeasures:
    """Of each of T predicted tokens, on the CPU."""

    nll: np.ndarray
    """−log p(token), float64 [T], in nats."""
    kl: np.ndarray
    """KL(dense ‖ sparse) over the vocabulary, float64 [T], in nats."""
    agrees: np.ndarray
    """Both find the same token likeliest (of equal ones the first), bool [T]."""

    def blocks(self, size: int) -> Blocks:
        """Sums over blocks of `size` positions of the window; its first token is not predicted, so the first block is
        one shorter."""
        starts = [0, *range(size - 1, len(self.nll), size)]
        return Blocks(
            strata=(len(starts),),
            tokens=tuple(np.diff([*starts, len(self.nll)]).tolist()),
            nll=tuple(np.add.reduceat(self.nll, starts).tolist()),
            kl=tuple(np.add.reduceat(self.kl, starts).tolist()),
            agreements=tuple(np.add.reduceat(self.agrees.astype(np.int64), starts).tolist()),
        )


def compare_logits(dense: torch.Tensor, sparse: torch.Tensor, token_ids: torch.Tensor) -> TokenMeasures:
    """How `sparse` predicts a window's tokens from the second on, beside `dense`.

    Logits [T, V] of any float type, token ids int64 [T]; the distributions are worked out in float32.
    """
    nll, kl, agrees = [], [], []
    for start in range(0, len(token_ids) - 1, _ROWS):
        rows = slice(start, min(start + _ROWS, len(token_ids) - 1))
        p, q = (logits[rows].float().log_softmax(-1) for logits in (dense, sparse))
        targets = token_ids[rows.start + 1 : rows.stop + 1, None]
        nll.append(-q.gather(1, targets)[:, 0])
        agrees.append(p.argmax(-1) == q.argmax(-1))
        kl.append((p.exp() * (p - q)).sum(-1))
    return TokenMeasures(*(torch.cat(parts).cpu().numpy() for parts in (nll, kl, agrees)))
