"""2 of 4 selected on the card: elementwise on whole groups, so that one compiled kernel reads and writes once."""

from __future__ import annotations

import torch

_WORD = {torch.int8: (torch.int32, 8), torch.float16: (torch.int64, 16)}
"""Number format → what holds a group of four, and the bits of a value."""


def select_2_of_4(x: torch.Tensor) -> torch.Tensor:
    """x [T, K] int8 (codes within ±127) or float16, K a multiple of 4 → the same with 2 of 4 left, the others 0.

    The two largest magnitudes of each aligned group of four are kept, ties going to the lower feature: the functional
    mode's `select` of "2:4" without factors. NaN counts as larger than all else.
    """
    word, bits = _WORD[x.dtype]
    words = x.view(word)
    lanes = [(words >> (bits * k)) & ((1 << bits) - 1) for k in range(4)]
    sizes = [_magnitude(lane, bits) for lane in lanes]
    left = torch.zeros_like(words)
    for k in range(4):
        ahead = sum(((sizes[j] >= sizes[k]) if j < k else (sizes[j] > sizes[k])).to(word) for j in range(4) if j != k)
        left = left | torch.where(ahead < 2, _mask(k, bits), 0)
    return (words & left.to(word)).view(x.dtype)


def _magnitude(lane: torch.Tensor, bits: int) -> torch.Tensor:
    """Of an INT8 code; of a float16 its bits without the sign, which order as the magnitudes do."""
    if bits == 8:
        return torch.where(lane > 127, 256 - lane, lane)
    return lane & 0x7FFF


def _mask(k: int, bits: int) -> int:
    """The bits of value k in its word, as a signed number."""
    mask = ((1 << bits) - 1) << (bits * k)
    return mask - (1 << (4 * bits)) if k == 3 else mask
