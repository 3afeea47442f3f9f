"""How sure a mean over tokens is: a bootstrap over blocks of consecutive tokens (Künsch 1989), which are alike.

Blocks of different kinds of text are drawn apart, so that every resample has as much of each kind as the data.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95


def mean_interval(
    sums: np.ndarray, tokens: np.ndarray, strata: Sequence[int], resamples: int, seed: int
) -> tuple[float, float]:
    """The 95 % percentile interval of Σ sums / Σ tokens over resampled blocks.

    `sums` float64 [n] and `tokens` [n] belong to n blocks, of which `strata` says how many each kind of text has, in
    order. The same seed draws the same blocks, whatever the sums are.
    """
    generator = np.random.default_rng(seed)
    drawn_sums, drawn_tokens = np.zeros(resamples), np.zeros(resamples)
    first = 0
    for blocks in strata:
        drawn = first + generator.integers(0, blocks, (resamples, blocks))
        drawn_sums += sums[drawn].sum(axis=1)
        drawn_tokens += tokens[drawn].sum(axis=1)
        first += blocks
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn_sums / drawn_tokens, (tail, 1 - tail))
    return float(low), float(high)
