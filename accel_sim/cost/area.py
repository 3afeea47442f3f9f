"""Area per component, at the asked node: cells over utilisation, SRAM macros as they are, tracks as a lower bound."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import fsum

from accel_sim.arch.schema import Arch
from accel_sim.cost import gathering, operands, parts, predicting, sram
from accel_sim.cost.scaling import Scale
from accel_sim.cost.tables import constant
from accel_sim.cost.units import library_of

SRAM_COMPONENTS = (
    "sram_activation",
    "sram_weight",
    "sram_output",
    "sram_accumulator",
    "row_scale_buffer",
    "gather_masks",
    "predictor_bits",
    "sram_predictor",
    "method_tables",
    "shared_buffer",
)
METHOD_CIRCUITS = "method_circuits"
"""What criteria and mitigations add, and `method_tables` with it; see `accel_sim.cost.method_charges`."""


@dataclass(frozen=True)
class Area:
    """Area of one machine at its node."""

    components_um2: dict[str, float]
    """Flat; adds up to `total_um2`. All cores together."""
    array_um2: float
    """The part that grows with the number of columns: dot-product units, their multiplexers (and registers behind
    them), weight registers, drain or column sums, the zero gating inside the lanes."""
    nand2_um2: float
    """The smallest NAND2 at this node."""
    block_um2: float
    """One core's array block, over which operands are broadcast: array, row registers, decoders and `wires`."""
    track_use: float
    """Area that the operands' tracks need over the area of the block before `wires`: above 1 they enlarge it."""

    @property
    def total_um2(self) -> float:
        return sum(self.components_um2.values())

    @property
    def total_nand2(self) -> float:
        """Total area in NAND2-equivalents, SRAM and utilisation included."""
        return self.total_um2 / self.nand2_um2

    @property
    def sram_um2(self) -> float:
        return sum(self.components_um2[name] for name in SRAM_COMPONENTS)

    @property
    def cores_um2(self) -> float:
        """Everything but the memories beside the cores: the buffer that they share, and a predictor's weights."""
        return self.total_um2 - self.components_um2["shared_buffer"] - self.components_um2["sram_predictor"]

    def overhead(self, dense: Area) -> float:
        """Fraction over the dense machine, SRAM included."""
        return self.total_um2 / dense.total_um2 - 1

    def overhead_array(self, dense: Area) -> float:
        """Fraction over the dense machine's logic: the same without any SRAM."""
        return (self.total_um2 - self.sram_um2) / (dense.total_um2 - dense.sram_um2) - 1


@cache
def area(arch: Arch) -> Area:
    """Area of `arch`. Constant in the pattern that runs: the hardware is there either way."""
    scale = Scale.of(arch.technology)
    per_cell = scale.area / arch.technology.utilisation
    bill = parts.parts(arch)
    core = {
        name: per_cell * fsum(part.area_um2 for part in bill if part.component == name)
        for name in parts.LOGIC_COMPONENTS
    }
    block = per_cell * fsum(part.area_um2 for part in bill if part.in_array)
    tracks = _track_area_um2(arch) * scale.node_area if arch.technology.wires else 0.0
    core["wires"] = max(0.0, tracks - block)
    core.update(dict.fromkeys((METHOD_CIRCUITS, *SRAM_COMPONENTS), 0.0))
    core.update({f"sram_{buffer.name}": buffer.area_um2 for buffer in sram.memories(arch)})
    core["row_scale_buffer"] = sram.row_scale_buffer(arch)[0]
    core["gather_masks"] = gathering.mask_buffers(arch)[0]
    core["predictor_bits"] = predicting.bits_buffer(arch)[0]
    shared, weights = sram.shared_buffer(arch), predicting.weight_memory(arch)
    cores = arch.cores.count
    components = {name: cores * size for name, size in core.items()}
    components["shared_buffer"] = 0.0 if shared is None else shared.area_um2
    components["sram_predictor"] = 0.0 if weights is None else weights.area_um2
    return Area(
        components_um2=components,
        array_um2=cores * per_cell * fsum(part.area_um2 for part in bill if part.per_column),
        nand2_um2=library_of(arch).run.nand2_area_um2 * scale.area,
        block_um2=block + core["wires"],
        track_use=tracks / block,
    )


def _track_area_um2(arch: Arch) -> float:
    """Least area at 45 nm that the operands' tracks fit on: the columns' side by side in one direction, the rows' in
    the other, on the layers that carry them."""
    pitch = constant("wire_track_pitch")
    width = arch.array.cols * operands.column_tracks(arch) * pitch / constant("wire_layers_vertical")
    height = arch.array.rows * operands.row_tracks(arch) * pitch / constant("wire_layers_horizontal")
    return width * height
