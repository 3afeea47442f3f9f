"""N:M patterns: keep at most N of every M consecutive features. The vocabulary every other module shares."""

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
