"""Which rows of a trace a workload uses: all of them, or those that stand for a batch of sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from accel_sim.errors import AccelSimError
from accel_sim.trace import Site, Trace

Activations = tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]


class Rows(Protocol):
    """A choice of tokens of a trace."""

    def count(self, trace: Trace, site: Site) -> int:
        """How many of the site's rows are chosen."""
        ...

    def load(self, trace: Trace, site: Site) -> Activations:
        """INT8 codes [rows, K] and float32 scales [rows] of the chosen rows."""
        ...


@dataclass(frozen=True)
class AllRows:
    """Every row."""

    def count(self, trace: Trace, site: Site) -> int:
        return site.tokens

    def load(self, trace: Trace, site: Site) -> Activations:
        return trace.codes(site.name), trace.scales(site.name)


@dataclass(frozen=True)
class BatchRows:
    """The rows of some tokens: one for each sequence of a batch."""

    reference: Site
    """A site that every token passes through."""
    indices: npt.NDArray[np.int64]
    """[batch]: rows of the reference site, ascending."""
    context: int
    """Positions of the longest sequence at this step."""
    source: str
    """Which tokens these are, for the report."""

    def count(self, trace: Trace, site: Site) -> int:
        return len(self._of(trace, site))

    def load(self, trace: Trace, site: Site) -> Activations:
        rows = self._of(trace, site)
        return trace.codes(site.name)[rows], trace.scales(site.name)[rows]

    def _of(self, trace: Trace, site: Site) -> npt.NDArray[np.int64]:
        """Rows of `site`: of an expert those of the chosen tokens that were routed to it.

        Raises AccelSimError for an expert whose rows' tokens are not known, and a site that lacks tokens.
        """
        if site.expert is None:
            if site.tokens != self.reference.tokens:
                raise AccelSimError(
                    f"trace {trace.path}: site {site.name} has {site.tokens} rows, {self.reference.name}"
                    f" {self.reference.tokens}; a batch needs a row of each token in both"
                )
            return self.indices
        if (trace.positions(site.name) < 0).any():
            raise AccelSimError(
                f"trace {trace.path}: site {site.name}: which token a row is was not stored (position -1);"
                " no batch can be put together from it"
            )
        wanted = _tokens(trace, self.reference)[self.indices]
        return np.flatnonzero(np.isin(_tokens(trace, site), wanted))


def decode_rows(trace: Trace, batch: int) -> BatchRows:
    """The rows that stand for one decode step of `batch` sequences.

    Of a prefill trace: tokens spread evenly over it, so that they have little to do with each other. Of a decode trace:
    real steps; where the batch is larger than the captured sequences, further steps of them stand for further ones.

    Raises AccelSimError for more sequences than there are rows.
    """
    reference = next((site for site in trace.sites if site.expert is None and site.layer is not None), None)
    if reference is None:
        raise AccelSimError(f"trace {trace.path}: no site that every token passes through; a batch cannot be made")
    if batch > reference.tokens:
        raise AccelSimError(
            f"trace {trace.path}: batch {batch}: it holds {reference.tokens} tokens, and one stands for each sequence;"
            " capture more tokens, or use a published model's shapes"
        )
    return _of_steps(trace, reference, batch) if trace.manifest.phase == "decode" else _spread(trace, reference, batch)


def _spread(trace: Trace, reference: Site, batch: int) -> BatchRows:
    return BatchRows(
        reference,
        evenly(reference.tokens, batch),
        context=trace.manifest.tokens_per_sequence,
        source=f"{batch} of its tokens, evenly spread, stand for a decode step of {batch} independent sequences",
    )


def _of_steps(trace: Trace, reference: Site, batch: int) -> BatchRows:
    positions, sequences = trace.positions(reference.name), trace.sequences(reference.name)
    steps, captured = np.unique(positions), len(np.unique(sequences))
    taken = steps[evenly(len(steps), -(-batch // captured))]
    step_major = np.lexsort((sequences, positions))
    rows = np.sort(step_major[np.isin(positions[step_major], taken)][:batch])
    what = f"decode step {int(np.searchsorted(steps, taken[0])) + 1} of {len(steps)}, {batch} of {captured} sequences"
    if len(taken) > 1:
        what = f"{len(taken)} decode steps of {captured} sequences stand for one step of {batch} independent sequences"
    return BatchRows(reference, rows, context=int(positions[rows].max()) + 1, source=what)


def evenly(available: int, wanted: int) -> npt.NDArray[np.int64]:
    """`wanted` different indices below `available`, in the middle of equal stretches."""
    return (2 * np.arange(wanted, dtype=np.int64) + 1) * available // (2 * wanted)


def _tokens(trace: Trace, site: Site) -> npt.NDArray[np.int64]:
    """One number for every row, the same for the same token in all sites."""
    return trace.sequences(site.name).astype(np.int64) * 2**32 + trace.positions(site.name)
