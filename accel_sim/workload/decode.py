"""One decode step of a batch, made from any workload."""

from __future__ import annotations

from dataclasses import replace

from accel_sim.errors import AccelSimError
from accel_sim.workload.gemm import Workload

LARGEST_BATCH = 2**16
"""Sequences in a decode step; beyond any machine, so that a typing error is not simulated for hours."""


def decode_workload(workload: Workload, batch: int, context: int | None = None) -> Workload:
    """One decode step of `batch` sequences, each with `context` positions in its KV cache, the new one included.

    Every projection has one row a sequence, and its weights come from DRAM. Without `context` the sequences are as long
    as those of `workload`. Activations: drawn for every row (published shapes, products given by hand); rows of the
    trace, which `source` names. Experts get their share by balanced routing, or what the trace's tokens were routed to.

    Raises AccelSimError for a batch or context below 1, and a batch larger than the rows of a trace.
    """
    if not 1 <= batch <= LARGEST_BATCH:
        raise AccelSimError(f"workload {workload.name}: batch must be from 1 to {LARGEST_BATCH}, not {batch}")
    if context is not None and context < 1:
        raise AccelSimError(f"workload {workload.name}: context must be at least 1, not {context}")
    if workload.decode_step is None:
        raise AccelSimError(f"workload {workload.name}: no decode step can be made of it, only of what load makes")
    return replace(workload.decode_step(batch, context), phase="decode")
