"""Selection by a kernel instead of a circuit: a pass over memory of its own, as on today's GPUs.

The kernel reads the dense activations of a site from DRAM and writes them back compressed, before the first product
that reads them starts. It is taken to keep up with the memory, which is the best it can do.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from accel_sim.arch.schema import Arch
from accel_sim.pattern import Pattern
from accel_sim.timing.formats import SCALE_BYTES, formats
from accel_sim.timing.product import Product
from accel_sim.workload import Gemm


@dataclass(frozen=True)
class SoftwareSelection:
    """One pass over a site."""

    cycles: int
    """Launch, first data, dense read and compressed write; nothing of the product overlaps with it."""
    read_bytes: int
    written_bytes: int


def software_selection(gemm: Gemm, arch: Arch, pattern: Pattern | None) -> SoftwareSelection:
    """The pass that the site of `gemm` needs on `arch`; nothing unless it selects in software."""
    sparsity = arch.sparsity
    by_kernel = sparsity.selector.placement == "software" and sparsity.operand == "activations"
    if not by_kernel or pattern is None or pattern.keeps_all:
        return SoftwareSelection(0, 0, 0)
    read = gemm.tokens * (gemm.features + SCALE_BYTES)
    written = gemm.tokens * formats(Product.of(gemm), arch, pattern).activation_dram_bytes
    transfer = ceil(read / arch.dram.bytes_per_cycle)
    transfer += ceil(written * arch.dram.turnaround / arch.dram.bytes_per_cycle)
    launch = sparsity.selector.software_launch_cycles + arch.dram.latency_cycles
    return SoftwareSelection(launch + transfer, read, written)
