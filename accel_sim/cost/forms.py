"""Closed forms of a circuit's area in its pattern and width, and the fit of their coefficients to synthesised rows.

Each form is written here once: the cost model multiplies it by a coefficient of `closed_forms.csv` for a shape that was
not synthesised, and whoever synthesises fits that coefficient. A form counts what the circuit is built of (legs of a
multiplexer, comparators, …), so its coefficient is NAND2-equivalents a piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil, comb, log2, sqrt

import numpy as np

from accel_sim.errors import AccelSimError

FITTED_BITS = 8
"""Forms without a width are fitted to rows of this one."""


@dataclass(frozen=True)
class Form:
    """One closed form of a kind of unit."""

    text: str
    """As a reader writes it, with N, M, `lanes` and W (bits of the data path)."""
    pieces: Callable[[int, int, int], float]
    """(n, m, bits) → how many pieces the circuit has. Units that depend on one number alone take it as m: the elements
    of `magnitude`, the lanes of `dot_product`."""
    has_width: bool = False
    """Whether the form grows with the bits of the data path: it then holds for every width."""


def code_bits(n: int, m: int) -> int:
    """Bits of the enumerative code of an N:M group."""
    return (comb(m, n) - 1).bit_length()


def merge_sort_comparators(m: int) -> int:
    """Comparators of Batcher's odd-even merge sort of the next power of two: 5, 19, 63, 191 for 4, 8, 16, 32."""
    levels = max(1, ceil(log2(m)))
    return (levels * levels - levels + 4) * 2**levels // 4 - 1


def _window_times_address(n: int, m: int, bits: int) -> float:
    return n * (m - n + 1) * log2(m)


def _enumerative(n: int, m: int, bits: int) -> float:
    return m * min(n, m - n) * code_bits(n, m)


_WINDOW = "N·(M-N+1)·log2 M"
_CODE = "M·min(N,M-N)·B, B the code's bits"

FORMS: dict[str, Form] = {
    "select_full": Form("N·(M-1)·W", lambda n, m, bits: n * (m - 1) * bits, True),
    "select_restricted": Form("N·(M-N)·W", lambda n, m, bits: n * (m - n) * bits, True),
    "select_onehot": Form("N·(M-N+1)·W", lambda n, m, bits: n * (m - n + 1) * bits, True),
    "decode_bitmap_onehot": Form(_WINDOW, _window_times_address),
    "decode_bitmap_index": Form(_WINDOW, _window_times_address),
    "decode_bitmap_offset": Form(_WINDOW, _window_times_address),
    "decode_index_onehot": Form(_WINDOW, _window_times_address),
    "decode_index_offset": Form("N·log2 M", lambda n, m, bits: n * log2(m)),
    "decode_enumerative": Form(_CODE, _enumerative),
    "encode_enumerative": Form(_CODE, _enumerative),
    "top_n_rank": Form("M·(M-1)/2 - M/2", lambda n, m, bits: m * (m - 1) / 2 - m / 2),
    "top_n_rank_small": Form("M·(M-1)/2, for M < 4 where the other form vanishes", lambda n, m, bits: m * (m - 1) / 2),
    "top_n_sort": Form(
        "CE(M)·(8 + log2 M), CE the comparators of an odd-even merge sort",
        lambda n, m, bits: merge_sort_comparators(m) * (8 + log2(m)),
    ),
    "top_n_cascade": Form("N·(M-1)", lambda n, m, bits: n * (m - 1)),
    "top_n_radix": Form("8·M", lambda n, m, bits: 8 * m),
    "magnitude": Form("8·M", lambda n, m, bits: 8 * m),
    "factored_magnitude": Form("8·M", lambda n, m, bits: 8 * m),
    "token_shift": Form("8·M", lambda n, m, bits: 8 * m),
    "dot_product_lane": Form("lanes", lambda n, m, bits: m),
    "dot_product_fixed": Form("1", lambda n, m, bits: 1),
}
"""By the kind in `closed_forms.csv`, which is the unit's name but for units with several terms or ranges (TERMS)."""

TERMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "dot_product": (("dot_product_lane", "dot_product_fixed"),),
    "top_n_rank": (("top_n_rank",), ("top_n_rank_small",)),
}
"""Fits of a unit, each a tuple of forms whose coefficients are found together; one of the unit's own name elsewhere."""


def terms(unit: str) -> tuple[tuple[str, ...], ...]:
    """The fits that a unit takes. Raises AccelSimError for a unit without a form."""
    found = TERMS.get(unit, ((unit,),))
    if any(kind not in FORMS for fit in found for kind in fit):
        known = sorted({*TERMS, *FORMS})
        raise AccelSimError(f"unit {unit!r} has no closed form; with one: {', '.join(known)}")
    return found


@dataclass(frozen=True)
class Fit:
    """Coefficients of one or more forms and how far the rows lie from them."""

    coefficients: dict[str, float]
    """NAND2-equivalents a piece, by kind."""
    rms_percent: float
    """Root mean square of (form - row) / row."""
    worst_percent: float
    """Largest of its absolute values."""
    rows: int


def fit(kinds: tuple[str, ...], rows: Iterable[tuple[int, int, int, float]]) -> Fit:
    """Relative least squares of the sum of `kinds` over rows (n, m, bits, NAND2-equivalents).

    Every row weighs the same whatever its size: the sum of ((form - row) / row)² is least. Raises AccelSimError where
    there are fewer rows than coefficients, or a row without area.
    """
    rows = list(rows)
    if len(rows) < len(kinds):
        raise AccelSimError(f"closed form {' + '.join(kinds)}: {len(rows)} rows for {len(kinds)} coefficients")
    if any(area <= 0 for *_, area in rows):
        raise AccelSimError(f"closed form {' + '.join(kinds)}: a row has no area, which no relative fit can take")
    relative = np.array([[FORMS[kind].pieces(n, m, bits) / area for kind in kinds] for n, m, bits, area in rows])
    coefficients, *_ = np.linalg.lstsq(relative, np.ones(len(rows)), rcond=None)
    residuals = relative @ coefficients - 1
    return Fit(
        coefficients={kind: float(value) for kind, value in zip(kinds, coefficients, strict=True)},
        rms_percent=100 * sqrt(float(np.mean(residuals**2))),
        worst_percent=100 * float(np.max(np.abs(residuals))),
        rows=len(rows),
    )


def fit_unit(unit: str, rows: Iterable[tuple[int, int, int, float]]) -> list[Fit]:
    """Every fit of a unit (see TERMS) over its rows (n, m, bits, NAND2-equivalents).

    Rows of other widths than FITTED_BITS count only for forms that have a width. Raises as `terms` and `fit` do.
    """
    rows = list(rows)
    fits = []
    for kinds in terms(unit):
        with_width = all(FORMS[kind].has_width for kind in kinds)
        fits.append(fit(kinds, [row for row in rows if with_width or row[2] == FITTED_BITS]))
    return fits
