"""N:M patterns, of one level or two: keep at most N of every M consecutive features. The vocabulary of all modules."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import ceil, comb, log2
from typing import Literal

from accel_sim.errors import AccelSimError

Encoding = Literal["bitmap", "index", "enumerative"]
ENCODINGS: tuple[Encoding, ...] = ("bitmap", "index", "enumerative")
LARGEST_GROUP = 64
"""Bitmaps and enumerative codes are held in one 64-bit integer, so M may be at most this."""


@dataclass(frozen=True)
class Pattern:
    """Keep at most N of every aligned group of M consecutive features, N counted as NVIDIA does (the KEPT ones).

    Built from its usual spelling, ``Pattern("8:16")``. N = M is allowed and means that nothing is pruned.

    Raises AccelSimError unless 1 ≤ N ≤ M ≤ 64.
    """

    text: str
    n: int = field(init=False)
    m: int = field(init=False)

    def __post_init__(self) -> None:
        found = re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", self.text) if isinstance(self.text, str) else None
        if not found:
            raise AccelSimError(f"pattern {self.text!r}: expected N:M with whole numbers, such as 8:16")
        n, m = int(found[1]), int(found[2])
        if not 1 <= n <= m <= LARGEST_GROUP:
            raise AccelSimError(f"pattern {self.text!r}: N:M needs 1 <= N <= M <= {LARGEST_GROUP} (N counts the kept)")
        object.__setattr__(self, "text", f"{n}:{m}")
        object.__setattr__(self, "n", n)
        object.__setattr__(self, "m", m)

    def __str__(self) -> str:
        return self.text

    @property
    def keeps_all(self) -> bool:
        """True when N = M: the dense rule applies, with no selector and no metadata."""
        return self.n == self.m

    @property
    def density(self) -> float:
        """N / M, the share of slots per feature."""
        return self.n / self.m

    def groups(self, features: int) -> int:
        """How many groups `features` positions make; the last one may be padded."""
        return -(-features // self.m)

    def metadata_bits(self, encoding: Encoding = "bitmap") -> int:
        """Bits that say where one group's slots came from: exact, not the entropy."""
        if encoding == "bitmap":
            return self.m
        if encoding == "index":
            return self.n * ceil(log2(self.m))
        if encoding == "enumerative":
            return (comb(self.m, self.n) - 1).bit_length()
        raise AccelSimError(f"metadata encoding {encoding!r}: expected one of {', '.join(ENCODINGS)}")

    def metadata_bits_per_element(self, encoding: Encoding = "bitmap") -> float:
        """`metadata_bits` over the M dense elements of the group."""
        return self.metadata_bits(encoding) / self.m


@dataclass(frozen=True)
class HierarchicalPattern(Pattern):
    """N1:M1 of N0:M0: keep N0 of every M0 features, then the N1 strongest of every M1 such inner groups.

    Built from its spelling, ``HierarchicalPattern("1:2 of 4:8")``: an outer group spans M1·M0 features and has N1·N0
    slots, which are its `n` and `m`. Two levels of sparsity as in HighLight (MICRO 2023).

    Raises AccelSimError unless both levels are patterns and M1·M0 ≤ 64.
    """

    outer: Pattern = field(init=False)
    inner: Pattern = field(init=False)

    def __post_init__(self) -> None:
        levels = self.text.split(" of ") if isinstance(self.text, str) else []
        if len(levels) != 2:
            raise AccelSimError(f"pattern {self.text!r}: expected N1:M1 of N0:M0, such as 1:2 of 4:8")
        outer, inner = map(Pattern, levels)
        if outer.m * inner.m > LARGEST_GROUP:
            raise AccelSimError(f"pattern {self.text!r}: M1·M0 may be at most {LARGEST_GROUP}")
        object.__setattr__(self, "text", f"{outer} of {inner}")
        object.__setattr__(self, "outer", outer)
        object.__setattr__(self, "inner", inner)
        object.__setattr__(self, "n", outer.n * inner.n)
        object.__setattr__(self, "m", outer.m * inner.m)

    def metadata_bits(self, encoding: Encoding = "bitmap") -> int:
        """The outer field, then one inner field for every inner group that is kept."""
        return self.outer.metadata_bits(encoding) + self.outer.n * self.inner.metadata_bits(encoding)


def parse_pattern(text: str) -> Pattern:
    """`8:16`, or `1:2 of 4:8` with two levels. Raises AccelSimError for anything else."""
    return HierarchicalPattern(text) if isinstance(text, str) and " of " in text else Pattern(text)
