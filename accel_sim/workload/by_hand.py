"""Matrix products given by their sizes, TOKENSxFEATURESxOUTPUTS."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from accel_sim.errors import AccelSimError
from accel_sim.trace.synthetic import Distribution
from accel_sim.workload.gemm import Gemm, Workload
from accel_sim.workload.synthetic import SAMPLE_ROWS, SyntheticSites, synthetic_workload

_SIZES = re.compile(r"\s*(\d+)\s*[xX×]\s*(\d+)\s*[xX×]\s*(\d+)\s*")


def parse_gemm(text: str) -> tuple[int, int, int]:
    """`512x4096x4096` (or with ×) as (tokens, features, outputs). Raises AccelSimError for anything else."""
    found = _SIZES.fullmatch(text)
    if not found or "0" in (sizes := [size.lstrip("0") or "0" for size in found.groups()]):
        raise AccelSimError(f"--gemm {text}: expected TOKENSxFEATURESxOUTPUTS, such as 512x4096x4096")
    tokens, features, outputs = map(int, sizes)
    return tokens, features, outputs


def gemm_workload(
    specifications: Sequence[str],
    *,
    distribution: str | Distribution = "heavy_tailed",
    seed: int = 0,
    sample_rows: int = SAMPLE_ROWS,
) -> Workload:
    """A workload of the given products, each with a site of its own, in the given order.

    Raises AccelSimError for a specification that is not TOKENSxFEATURESxOUTPUTS, or when there is none.
    """
    if not specifications:
        raise AccelSimError("--gemm: expected at least one TOKENSxFEATURESxOUTPUTS, such as 512x4096x4096")
    sizes = [parse_gemm(specification) for specification in specifications]
    return _workload(sizes, SyntheticSites(distribution, seed, sample_rows))


def _workload(sizes: Sequence[tuple[int, int, int]], sites: SyntheticSites) -> Workload:
    gemms = []
    for number, (tokens, features, outputs) in enumerate(sizes):
        name = f"gemm{number}.{tokens}x{features}x{outputs}"
        gemms.append(Gemm(name, f"{name}.input", tokens, features, outputs))
    products = ["x".join(map(str, size)) for size in sizes]
    linear = synthetic_workload(
        name=", ".join(products) if len(products) <= 3 else f"{len(products)} products",
        source=f"products given by hand, {', '.join(products)}",
        gemms=gemms,
        sites=sites,
    )

    def decode_step(batch: int, context: int | None) -> Workload:
        """The same weights with a row a sequence, every row drawn; there is no attention that a context belongs to."""
        rows = [(batch, features, outputs) for _, features, outputs in sizes]
        return _workload(rows, replace(sites, sample_rows=max(2, batch)))

    return replace(linear, no_model="products given by hand have no model around them", decode_step=decode_step)
