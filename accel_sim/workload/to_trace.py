"""The sites of a workload as a trace describes them, so that a synthetic trace can be written of its shapes."""

from __future__ import annotations

import re

from accel_sim.errors import AccelSimError
from accel_sim.trace import Projection, Site
from accel_sim.workload.gemm import Workload

_LAYER = re.compile(r"\blayers\.(\d+)\.")


def trace_sites(workload: Workload) -> tuple[Site, ...]:
    """One site per activation matrix of `workload`, in execution order, with its projections.

    Raises AccelSimError for a product that stands for several (balanced experts): a trace has a site for each.
    """
    sites: dict[str, Site] = {}
    for gemm in workload.gemms:
        if gemm.repeat > 1:
            raise AccelSimError(f"layer {gemm.name}: stands for {gemm.repeat} products; a trace lists each by itself")
        found = _LAYER.search(gemm.name)
        projection = Projection(name=gemm.name, features=gemm.features, outputs=gemm.outputs)
        site = sites.get(gemm.site) or Site(
            name=gemm.site,
            layer=int(found[1]) if found else None,
            features=gemm.features,
            tokens=gemm.tokens,
            projections=(),
        )
        sites[gemm.site] = site.model_copy(update={"projections": (*site.projections, projection)})
    return tuple(sites.values())
