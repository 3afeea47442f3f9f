"""Symmetric INT8 quantisation with one float32 scale a token or an output channel.

The scheme is the usual W8A8 one (per-token activations and per-channel weights: SmoothQuant, arXiv 2211.10438, §3;
ZeroQuant, arXiv 2206.01861, §4.2), pinned down to the bit so that every reader of a trace gets the same codes:
scale = max|x| / 127 and code = clip(round_half_to_even(x / scale), −127, 127), all in IEEE float32, no reciprocal.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from accel_sim.errors import AccelSimError

LARGEST_CODE = 127
"""−128 is never used: its magnitude does not fit INT8, and the codes stay symmetric."""

_BLOCK_ELEMENTS = 1 << 17
"""Rows are worked on in blocks of about this many elements, so that the temporaries stay in a core's cache."""


def quantize_tokens(
    x: np.ndarray, site: str = "activations", tokens: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Quantise activations per token.

    `x` is [T, K] of any float type and is taken as float32. Returns codes int8 [T, K] and scales float32 [T].
    An all-zero token has scale 1, and so has a token so small that max|x|/127 is no float32 above zero: its codes are
    all zero.

    Raises AccelSimError for a NaN or an infinity, naming `site`, the token (the row, or what `tokens` [T] calls it) and
    the feature.
    """
    return _quantize_rows(x, lambda row, column: f"{site}: token {_name(tokens, row)}, feature {column}")


def quantize_weight(weight: np.ndarray, projection: str = "weight") -> tuple[np.ndarray, np.ndarray]:
    """Quantise a weight per output channel.

    `weight` is float [F, K], the layout of `torch.nn.Linear`. Returns codes int8 [K, F], so that codes[k, f]
    multiplies feature k, and scales float32 [F].

    Raises AccelSimError for a NaN or an infinity, naming `projection`, the output and the feature.
    """
    codes, scales = _quantize_rows(weight, lambda row, column: f"{projection}: output {row}, feature {column}")
    return np.ascontiguousarray(codes.T), scales


def _name(tokens: np.ndarray | None, row: int) -> int:
    return row if tokens is None else int(tokens[row])


def _quantize_rows(x: np.ndarray, place: Callable[[int, int], str]) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = x.shape
    codes = np.empty((rows, columns), np.int8)
    scales = np.ones(rows, np.float32)
    step = max(1, _BLOCK_ELEMENTS // max(1, columns))
    for start in range(0, rows, step):
        block = np.asarray(x[start : start + step], np.float32)
        largest = np.abs(block).max(axis=1, initial=0.0)
        # A NaN or an infinity anywhere in a row shows in its maximum, so the elements need no pass of their own.
        if not np.isfinite(largest).all():
            row, column = np.argwhere(~np.isfinite(block))[0]
            value = block[row, column]
            raise AccelSimError(f"{place(start + row, column)} is {value}; INT8 quantisation needs finite values")
        scale = largest / np.float32(LARGEST_CODE)
        scale[scale == 0] = 1
        scales[start : start + step] = scale
        quotient = block / scale[:, None]
        np.rint(quotient, out=quotient)
        np.clip(quotient, -LARGEST_CODE, LARGEST_CODE, out=quotient)
        codes[start : start + step] = quotient
    return codes, scales
