"""Run a trace's sites through every backend and compare each result with the reference, bit for bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from accel_sim.errors import AccelSimError
from accel_sim.functional.backends import Backend, backend
from accel_sim.functional.checks import accumulator_start, codes
from accel_sim.functional.datapath import hardware_factors
from accel_sim.functional.fixed_point import multipliers
from accel_sim.pattern import ENCODINGS, Pattern
from accel_sim.trace import Site, Trace, Weight

REFERENCE = "numpy"
_TOKENS_AT_ONCE = 512
"""Rows that are held as masks, slots and accumulators at one time, so that memory does not grow with the trace."""


class Divergence(AccelSimError):
    """A backend's result is not the reference's: the first difference, by `backend`, `layer`, `what` and `index`."""

    def __init__(self, backend: str, layer: str, what: str, index: tuple[int, ...], got: object, expected: object):
        where = ", ".join(str(i) for i in index)
        super().__init__(
            f"{layer}: {what}[{where}] is {got} from backend {backend}, and {expected} from the reference ({REFERENCE})"
        )
        self.backend, self.layer, self.what, self.index = backend, layer, what, index


@dataclass
class Comparison:
    """What was compared so far: elements of each kind of result, counted once however many backends made them."""

    backends: tuple[str, ...]
    sites: int = 0
    tokens: int = 0
    projections: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    without_weights: list[str] = field(default_factory=list)
    """Projections whose products were not compared, because the trace does not hold their weights."""


def validate_trace(
    trace: Trace,
    patterns: Sequence[Pattern],
    backends: Mapping[str, Backend],
    *,
    sites: Sequence[Site] | None = None,
    rows: int | None = None,
    advance: Callable[[str], None] = lambda site: None,
) -> Comparison:
    """Compare what `backends` make of a trace with the reference: masks, bytes, INT32 sums, INT8 codes, floats.

    Of each of `sites` (None: all of the trace) the first `rows` tokens are used (None: all). `advance` is called with
    each site's name when it is done. Raises Divergence at the first difference, and AccelSimError naming the site or
    projection whose codes the datapath does not take.
    """
    everywhere = _Everywhere(backends)
    comparison = everywhere.comparison
    for site in trace.sites if sites is None else sites:
        x = codes(site.name, trace.codes(site.name)[:rows], ("token", "feature"))
        scales = trace.scales(site.name)[:rows]
        weights = {p.name: _checked_weight(trace, p.name) for p in site.projections if p.has_weight}
        comparison.sites += 1
        comparison.tokens += x.shape[0]
        comparison.projections += len(weights)
        comparison.without_weights += [p.name for p in site.projections if not p.has_weight]
        for first in range(0, x.shape[0], _TOKENS_AT_ONCE):
            part = slice(first, first + _TOKENS_AT_ONCE)
            everywhere.first_token = first
            for pattern in patterns:
                mask = _compare_selection(everywhere, site.name, x[part], pattern)
                for name, weight in weights.items():
                    _compare_products(everywhere, name, x[part], scales[part], mask, weight, pattern)
        advance(site.name)
    return comparison


def _checked_weight(trace: Trace, projection: str) -> Weight:
    weight = trace.weight(projection)
    codes(projection, weight.codes, ("feature", "output"))
    return weight


class _Everywhere:
    """Runs one step on the reference and on every backend, and stops where they differ."""

    def __init__(self, backends: Mapping[str, Backend]) -> None:
        self.comparison = Comparison(tuple(backends))
        self.first_token = 0
        self._reference = backend(REFERENCE)
        self._backends = backends

    def run(
        self, layer: str, pattern: Pattern, kinds: Sequence[str], step: Callable[[Backend], Sequence[NDArray]]
    ) -> Sequence[NDArray]:
        """The reference's results of `step`, one for each of `kinds`, after every backend has returned the same."""
        expected = step(self._reference)
        for name, unit in self._backends.items():
            for kind, wanted, got in zip(kinds, expected, step(unit), strict=True):
                self._require_equal(name, f"{layer} at {pattern}", kind, wanted, got)
        for kind, wanted in zip(kinds, expected, strict=True):
            self.comparison.counts[kind] += wanted.size
        return expected

    def _require_equal(self, backend: str, layer: str, kind: str, wanted: NDArray, got: NDArray) -> None:
        if wanted.shape != got.shape or wanted.dtype != got.dtype:
            kinds = (f"{array.dtype} {list(array.shape)}" for array in (got, wanted))
            raise Divergence(backend, layer, kind, (), *kinds)
        differs = _bits(wanted) != _bits(got)
        if differs.any():
            token, *rest = (int(i) for i in np.argwhere(differs)[0])
            raise Divergence(
                backend, layer, kind, (self.first_token + token, *rest), got[token, *rest], wanted[token, *rest]
            )


def _compare_selection(everywhere: _Everywhere, site: str, x: NDArray[np.int8], pattern: Pattern) -> NDArray[np.bool_]:
    """Masks by plain magnitude and by weighted scores, then every encoding there and back. Returns the plain mask."""
    plain = np.ones(x.shape[1], dtype=np.uint8)
    weighted = hardware_factors(np.linalg.norm(x.astype(np.float64), axis=0))  # any factors will do: these are real
    everywhere.run(site, pattern, ["mask with factors"], lambda b: [b.select(x, pattern, weighted)])
    (mask,) = everywhere.run(site, pattern, ["mask"], lambda b: [b.select(x, pattern, plain)])
    for encoding in ENCODINGS:
        values, metadata = everywhere.run(
            site,
            pattern,
            ["compressed values", f"{encoding} metadata"],
            lambda b, encoding=encoding: b.compress(x, mask, pattern, encoding),
        )
        everywhere.run(
            site,
            pattern,
            ["decompressed codes"],
            lambda b, v=values, m=metadata, e=encoding: [b.decompress(v, m, x.shape[1], pattern, e)],
        )
    return mask


def _compare_products(
    everywhere: _Everywhere,
    projection: str,
    x: NDArray[np.int8],
    scales: NDArray[np.float32],
    mask: NDArray[np.bool_],
    weight: Weight,
    pattern: Pattern,
) -> None:
    """INT32 accumulators, then both ways out of them: floats, and INT8 codes at the scale that the floats need."""
    start = accumulator_start(None, *weight.codes.shape)
    (acc,) = everywhere.run(
        projection, pattern, ["INT32 accumulators"], lambda b: [b.multiply(x, mask, weight.codes, pattern, start)]
    )
    (floats,) = everywhere.run(
        projection,
        pattern,
        ["float32 outputs"],
        lambda b: [b.dequantize(acc, scales, weight.scales, weight.bias)],
    )
    output_scale = float(np.abs(floats).max(initial=0)) / 127 or 1.0
    constants = multipliers(scales, weight.scales, output_scale)
    everywhere.run(projection, pattern, ["INT8 outputs"], lambda b: [b.requantize(acc, constants)])


def _bits(array: NDArray) -> NDArray:
    """Floats as their bits, so that −0 and 0 differ and a NaN equals itself."""
    return array.view(np.uint32) if array.dtype == np.float32 else array
