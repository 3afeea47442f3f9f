"""What the unit is built from, and how the tables of unit costs are read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from accel_sim.arch.section import Section

LIBRARIES = ("nangate45", "sg13g2", "osu018")
"""Cell libraries whose synthesised tables are shipped."""


def _library(name: str) -> str:
    if name not in LIBRARIES and not {"/", "\\"} & set(name):
        raise ValueError(f"{name!r} is none of {', '.join(LIBRARIES)}, nor the path of a folder (./NAME)")
    return name


class Technology(Section):
    """What the unit is built from, and how the tables of unit costs are read."""

    library: Annotated[str, AfterValidator(_library)] = "nangate45"
    """Cell library whose synthesised tables the cost model reads: nangate45, sg13g2, osu018, or the path of a folder
    that `accel-sim synthesize` wrote. Figures of another node are brought to 45 nm by rules that the report names."""
    node_nm: Literal[45, 32, 20, 16, 14, 10, 7] = 45
    """Node that area and energy are reported at; other than 45 they are scaled by the rule the report names."""
    supply_v: Annotated[float, Field(gt=0.3, le=1.5)] | None = None
    """Supply voltage of the energy scaling; null takes the node's nominal voltage."""
    clock_target_hz: Annotated[float, Field(ge=1e3, le=1e12)] = 500e6
    """The clock is the lower of this and 1 / critical path."""
    existing_chip: bool = False
    """A chip that can be bought is described: it runs at `clock_target_hz`, whatever this project's circuits would
    reach. Area, energy and what follows from them (speed-up at equal area) are those circuits' all the same, and say
    nothing about the chip; every report says so."""
    utilisation: Annotated[float, Field(ge=0.01, le=1)] = 0.7
    """Placed cell area over block area: standard cells are divided by it, SRAM macros are not."""
    energy_scale: Literal["raw", "anchored"] = "anchored"
    """`raw`: the netlists' toggle energies. `anchored`: those times one factor onto published 45 nm energies."""
    wires: bool = True
    """Whether the first-order wire energy and track area are charged."""
