"""How far a machine's overhead could be off: the same machine with every library's tables, and what only adds to it.

A library is one tool flow on one set of cells; three of them show what of the overhead is the circuit's and what the
cells'. What no library can show (layout, better multipliers) is named beside it, with a figure where there is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from accel_sim.arch.schema import Arch
from accel_sim.cost.area import Area
from accel_sim.cost.method_charges import PLAIN, Methods, area_with
from accel_sim.cost.run import shipped
from accel_sim.cost.tables import constant
from accel_sim.errors import AccelSimError

ONE_SIDED = (
    "before layout: no clock tree, no buffers of broadcast nets, no congestion",
    "wires to first order, so the overhead of larger multiplexers is a lower bound",
)
"""Effects that can only raise the overhead and that no figure here covers."""


@dataclass(frozen=True)
class OverheadBand:
    """Overhead over the dense machine, SRAM included, as fractions."""

    by_library: dict[str, float]
    """With the tables of each shipped library, and of the machine's own."""
    smaller_multipliers: float
    """The machine's own, if multipliers and adder trees were as much smaller as commercial tools make them while
    multiplexers stay: an upper end."""
    missing: dict[str, str]
    """Shipped libraries that lack a circuit of this machine, and which."""
    effects: tuple[str, ...] = ONE_SIDED

    @property
    def low(self) -> float:
        return min(self.by_library.values())

    @property
    def high(self) -> float:
        return max(self.by_library.values())


def overhead_band(arch: Arch, dense: Arch, methods: Methods = PLAIN) -> OverheadBand:
    """The band of `arch`, built for `methods`, over its dense counterpart; worked out once a machine."""
    return _band(arch, dense, methods)


@cache
def _band(arch: Arch, dense: Arch, methods: Methods = PLAIN) -> OverheadBand:
    libraries = dict.fromkeys((arch.technology.library, *shipped()))
    overheads, missing = {}, {}
    for library in libraries:
        try:
            overheads[library] = _area(arch, library, methods).overhead(_area(dense, library))
        except AccelSimError as lacking:
            if library == arch.technology.library:
                raise
            missing[library] = str(lacking)
    return OverheadBand(overheads, _with_smaller_multipliers(area_with(arch, methods), area_with(dense)), missing)


def _area(arch: Arch, library: str, methods: Methods = PLAIN) -> Area:
    """Of the machine with another library's tables. Areas do not depend on the energy scale, and anchored energies
    exist for every library."""
    if library == arch.technology.library:
        return area_with(arch, methods)
    technology = arch.technology.model_copy(update={"library": library, "energy_scale": "anchored"})
    return area_with(arch.model_copy(update={"technology": technology}), methods)


def _with_smaller_multipliers(sparse: Area, dense: Area) -> float:
    shrunk = 1 - 1 / constant("multiplexer_to_multiplier_high")
    totals = (one.total_um2 - shrunk * one.components_um2["multipliers_and_adder_trees"] for one in (sparse, dense))
    return next(totals) / next(totals) - 1
