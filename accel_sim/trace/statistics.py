"""Numbers that describe a site's codes: what sparsity there is, and what a group of M features looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from accel_sim.errors import AccelSimError
from accel_sim.trace.reader import Trace

GROUP_SIZES = (4, 8, 16, 32)
"""M of the patterns that the shipped machines have."""
MAGNITUDES = 128
"""|code| is 0 … 127."""
_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)
"""How many bits of a byte are set."""


@dataclass(frozen=True)
class SiteStatistics:
    """Statistics of one activation matrix of INT8 codes [T, K]."""

    tokens: int
    features: int
    zero_fraction: float
    """Share of codes that are zero."""
    zero_fraction_per_token: np.ndarray
    """float64 [T]."""
    magnitudes: np.ndarray
    """int64 [128]: how many codes have |code| = i."""
    group_nonzeros: Mapping[int, np.ndarray]
    """For each group size M, int64 [M+1]: how many aligned groups have i non-zeros. A last group that K does not fill
    counts its padding as zeros."""

    def groups_within(self, kept: int, group: int) -> float:
        """Share of the groups of `group` features that a kept:group pattern leaves whole: at most `kept` non-zeros.

        `group` must be one of those counted.
        """
        counts = self.group_nonzeros[group]
        return float(counts[: kept + 1].sum() / counts.sum())

    def magnitude_quantile(self, share: float) -> int:
        """The smallest magnitude that at least `share` (0 … 1) of the codes do not exceed."""
        reached = self.magnitudes.cumsum() >= share * self.magnitudes.sum()
        return int(np.argmax(reached))


def site_statistics(codes: np.ndarray, group_sizes: Sequence[int] = GROUP_SIZES) -> SiteStatistics:
    """Statistics of INT8 codes [T, K], for groups of the given sizes.

    Raises AccelSimError when there are no codes to count.
    """
    tokens, features = codes.shape
    if not codes.size:
        raise AccelSimError(f"statistics of {tokens} tokens × {features} features: nothing to count")
    # Bytes are counted by value, and magnitudes folded after: −128 cannot be among the codes.
    by_value = np.bincount(codes.reshape(-1).view(np.uint8), minlength=256)
    magnitudes = by_value[:MAGNITUDES].copy()
    magnitudes[1:] += by_value[:MAGNITUDES:-1]
    nonzero = codes != 0
    return SiteStatistics(
        tokens=tokens,
        features=features,
        zero_fraction=float(magnitudes[0] / codes.size),
        zero_fraction_per_token=1 - nonzero.mean(axis=1),
        magnitudes=magnitudes,
        group_nonzeros={group: _group_counts(nonzero, group) for group in group_sizes},
    )


def pooled(parts: Sequence[SiteStatistics]) -> SiteStatistics:
    """Statistics of several sites as if their rows stood in one; all must have the same features and group sizes."""
    first = parts[0]
    if len({part.features for part in parts}) > 1:
        raise AccelSimError("statistics of sites with different numbers of features cannot be pooled")
    magnitudes = np.sum([part.magnitudes for part in parts], axis=0)
    return SiteStatistics(
        tokens=sum(part.tokens for part in parts),
        features=first.features,
        zero_fraction=float(magnitudes[0] / magnitudes.sum()),
        zero_fraction_per_token=np.concatenate([part.zero_fraction_per_token for part in parts]),
        magnitudes=magnitudes,
        group_nonzeros={
            group: np.sum([part.group_nonzeros[group] for part in parts], axis=0) for group in first.group_nonzeros
        },
    )


def trace_statistics(trace: Trace, group_sizes: Sequence[int] = GROUP_SIZES) -> dict[str, SiteStatistics]:
    """`site_statistics` of every site, by its name; one site is in memory at a time."""
    return {site.name: site_statistics(trace.codes(site.name), group_sizes) for site in trace.sites}


def kept_overlap(mask: np.ndarray, sequences: np.ndarray | None = None) -> float:
    """How much of what one token keeps the next token keeps as well: the mean of |A ∩ B| / |A ∪ B| (Jaccard).

    `mask` is bool [T, K], what a pattern keeps of every token; `sequences` int [T] says which sequence a token belongs
    to, so that the last of one and the first of the next are no neighbours. Two tokens that keep nothing overlap fully.
    A row's neighbour is the row after it, which in a trace is the next position, or an expert's next token.

    Raises AccelSimError when no two tokens are neighbours.
    """
    # Bits are packed first, so that each byte of a row holds eight features and counting is a table look-up.
    packed = np.packbits(mask, axis=1)
    neighbours = np.ones(max(0, len(mask) - 1), bool) if sequences is None else sequences[1:] == sequences[:-1]
    if not neighbours.any():
        raise AccelSimError(f"overlap of kept sets: no neighbours among {len(mask)} tokens")
    before, after = packed[:-1][neighbours], packed[1:][neighbours]
    both = _ONES[before & after].sum(axis=1, dtype=np.int64)
    either = _ONES[before | after].sum(axis=1, dtype=np.int64)
    return float(np.where(either == 0, 1.0, both / np.maximum(either, 1)).mean())


def _group_counts(nonzero: np.ndarray, group: int) -> np.ndarray:
    tokens, features = nonzero.shape
    whole = features // group * group
    counts = nonzero[:, :whole].reshape(tokens, -1, group).sum(axis=2, dtype=np.uint8)
    histogram = np.bincount(counts.reshape(-1), minlength=group + 1)
    if whole < features:
        histogram += np.bincount(nonzero[:, whole:].sum(axis=1), minlength=group + 1)
    return histogram
