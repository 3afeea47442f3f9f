"""Area per component, at the asked node: cells over utilisation, SRAM macros as they are, tracks as a lower bound."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import fsum

from accel_sim.arch import derived
from accel_sim.arch.schema import Arch
from accel_sim.cost import circuits, parts, sram
from accel_sim.cost.scaling import Scale
from accel_sim.cost.tables import constant

SRAM_COMPONENTS = ("sram_activation", "sram_weight", "sram_output", "row_scale_buffer")


@dataclass(frozen=True)
class Area:
    """Area of one machine at its node."""

    components_um2: dict[str, float]
    """Flat; adds up to `total_um2`."""
    array_um2: float
    """The part that grows with the number of columns: dot-product units, their multiplexers (and registers behind
    them), weight registers, drain, the zero gating inside the lanes."""
    nand2_um2: float
    """The smallest NAND2 at this node."""
    block_um2: float
    """The array's block, over which operands are broadcast: array_um2, row registers, decoders and `wires`."""
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
    components = {
        name: per_cell * fsum(part.area_um2 for part in bill if part.component == name)
        for name in parts.LOGIC_COMPONENTS
    }
    block = per_cell * fsum(part.area_um2 for part in bill if part.in_array)
    tracks = _track_area_um2(arch) * scale.area if arch.technology.wires else 0.0
    components["wires"] = max(0.0, tracks - block)
    buffers = sram.memories(arch)
    components.update({f"sram_{buffer.name}": buffer.area_um2 for buffer in buffers})
    components["row_scale_buffer"] = sram.row_scale_buffer(arch)[0] if _selects_at_write_back(arch) else 0.0
    return Area(
        components_um2=components,
        array_um2=per_cell * fsum(part.area_um2 for part in bill if part.per_column),
        nand2_um2=constant("nand2_area") * scale.area,
        block_um2=block + components["wires"],
        track_use=tracks / block,
    )


def _selects_at_write_back(arch: Arch) -> bool:
    return bool(circuits.sparse_patterns(arch.sparsity)) and arch.sparsity.selector.placement == "write_back"


def _track_area_um2(arch: Arch) -> float:
    """Least area at 45 nm that the operands' tracks fit on: columns' weights and sums side by side in one direction,
    rows' activations and select lines in the other, on the layers that carry them."""
    pitch = constant("wire_track_pitch")
    lines = max(
        (
            derived.groups_per_cycle(arch.array.lanes, pattern)
            * circuits.select_bits(arch.sparsity.operand_mux, pattern)
            for pattern in circuits.sparse_patterns(arch.sparsity)
        ),
        default=0,
    )
    vertical = arch.array.cols * (parts.weight_bits(arch) + parts.ACCUMULATOR_BITS)
    horizontal = arch.array.rows * (parts.activation_bits(arch) + lines)
    width = vertical * pitch / constant("wire_layers_vertical")
    height = horizontal * pitch / constant("wire_layers_horizontal")
    return width * height
