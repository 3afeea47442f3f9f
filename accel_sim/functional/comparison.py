"""One step on a reference and on other backends: are the results the same bits, and how long did each take?"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from accel_sim.errors import AccelSimError
from accel_sim.functional.backends import Backend, backend

_DIFFERENCES_KEPT = 20


class Divergence(AccelSimError):
    """A backend's result is not the reference's: the first difference, by `backend`, `layer`, `what` and `index`."""

    def __init__(
        self,
        backend: str,
        layer: str,
        what: str,
        index: tuple[int, ...],
        got: object,
        expected: object,
        reference: str,
    ):
        where = ", ".join(str(i) for i in index)
        super().__init__(
            f"{layer}: {what}[{where}] is {got} from backend {backend}, and {expected} from the reference ({reference})"
        )
        self.backend, self.layer, self.what, self.index = backend, layer, what, index


@dataclass
class Comparison:
    """What was compared so far: elements of each kind of result, counted once however many backends made them."""

    backends: tuple[str, ...]
    reference: str
    sites: int = 0
    tokens: int = 0
    projections: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    without_weights: list[str] = field(default_factory=list)
    """Projections whose products were not compared, because the trace does not hold their weights."""
    operations: int = 0
    """Of the products, 2·T·K·F each, whatever the pattern leaves out."""
    seconds: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Wall time of each backend, the reference among them, by the first kind of result of each step."""
    divergences: int = 0
    """Elements that differ, over all backends; more than 0 only where differences do not stop the run."""
    differences: list[Divergence] = field(default_factory=list)
    """The first one of each of the first results that differ."""


class Everywhere:
    """Runs one step on the reference and on every backend, and compares."""

    def __init__(self, backends: Mapping[str, Backend], reference: str, stop: bool) -> None:
        self.comparison = Comparison(tuple(backends), reference)
        self.first_token = 0
        self._units = {reference: backend(reference), **backends}
        self._stop = stop

    def run(self, layer: str, kinds: Sequence[str], step: Callable[[Backend], Sequence[NDArray]]) -> Sequence[NDArray]:
        """The reference's results of `step`, one for each of `kinds`, after every backend has been held against them.

        Raises Divergence at the first difference, or notes it.
        """
        expected: Sequence[NDArray] = ()
        for name, unit in self._units.items():
            begin = time.perf_counter()
            results = step(unit)
            self.comparison.seconds[name][kinds[0]] += time.perf_counter() - begin
            if name == self.comparison.reference:
                expected = results
                continue
            for kind, wanted, got in zip(kinds, expected, results, strict=True):
                self._compare(name, layer, kind, wanted, got)
        for kind, wanted in zip(kinds, expected, strict=True):
            self.comparison.counts[kind] += wanted.size
        return expected

    def _compare(self, name: str, layer: str, kind: str, wanted: NDArray, got: NDArray) -> None:
        if wanted.shape != got.shape or wanted.dtype != got.dtype:
            kinds = (f"{array.dtype} {list(array.shape)}" for array in (got, wanted))
            self._note(Divergence(name, layer, kind, (), *kinds, self.comparison.reference), wanted.size)
            return
        differs = _bits(wanted) != _bits(got)
        if differs.any():
            token, *rest = (int(i) for i in np.argwhere(differs)[0])
            index = (self.first_token + token, *rest)
            values = got[token, *rest], wanted[token, *rest]
            self._note(Divergence(name, layer, kind, index, *values, self.comparison.reference), int(differs.sum()))

    def _note(self, difference: Divergence, elements: int) -> None:
        if self._stop:
            raise difference
        self.comparison.divergences += elements
        if len(self.comparison.differences) < _DIFFERENCES_KEPT:
            self.comparison.differences.append(difference)


def _bits(array: NDArray) -> NDArray:
    """Floats as their bits, so that −0 and 0 differ and a NaN equals itself."""
    return array.view(np.uint32) if array.dtype == np.float32 else array
