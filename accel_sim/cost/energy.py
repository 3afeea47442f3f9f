"""Energy per component of what a machine did. Linear in the activity, so layers add up to their sum."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from accel_sim.arch import derived
from accel_sim.arch.schema import Arch
from accel_sim.cost import circuits, gathering, hierarchy, operands, parts, predicting, skipping, sram
from accel_sim.cost.datapath import tree_register_bits, weight_copies
from accel_sim.cost.network import network, networks
from accel_sim.cost.scaling import Scale
from accel_sim.cost.tables import constant, constants, dram
from accel_sim.cost.units import library_of
from accel_sim.cost.wires import Wires, wires
from accel_sim.pattern import Pattern

if TYPE_CHECKING:  # counts only: no need to load the timing engines
    from accel_sim.timing.activity import Activity

BITS = 8
"""Bits in a byte."""
PJ_PER_NWS = 1000
"""1 nW is 1000 pJ/s."""


@dataclass(frozen=True)
class Energy:
    """Energy of one activity."""

    components_pj: dict[str, float]
    """Flat; adds up to `total_pj`."""
    wires_band_pj: tuple[float, float]
    """`wires` at the lower and at the upper end of the published energies per bit and mm."""

    @property
    def total_pj(self) -> float:
        return sum(self.components_pj.values())


@dataclass(frozen=True)
class _PerEvent:
    """Energy of one event of each kind, in pJ at the machine's node and energy scale; powers in pJ a cycle or s."""

    multiply: float
    held_multiply: float
    """What zero gating saves of a multiplication with a zero: the multiplier itself."""
    slot: float
    selected_group: float
    decoded_group: float
    window_group: float
    """A slice of every column turning to another group of the window."""
    skipped_group: float
    """Finding the non-zeros of a group at a row's edge."""
    skipped_slot: float
    """Selecting a value and its position there, over the columns that share them."""
    column_sum: float
    clock_cycle: float
    activation_byte_loaded: float
    """Into the registers it passes, as the next."""
    weight_byte_loaded: float
    requantised: float
    sram: dict[str, tuple[float, float]]
    """(read, write) per byte by buffer."""
    buffered_feature: float
    gathered_byte: float
    """An address for every burst read from DRAM, at most."""
    joined_feature: float
    crossed_byte: float
    thresholded: float
    """An accumulator against its threshold, and the threshold into its register."""
    vector_operation: float
    wires: Wires
    dram_byte: float
    leakage_per_s: float


def energy(arch: Arch, pattern: Pattern | None, activity: Activity, clock_hz: float) -> Energy:
    """Energy of `activity` on `arch` running `pattern` (None: by the dense rule) at `clock_hz`."""
    each, done = _per_event(arch, pattern), activity
    held = done.zero_multiplies if arch.zero_gating == "operand" else 0
    activation = _accesses(each, "activation", done.activation_sram_read_bytes, done.activation_sram_write_bytes)
    weight = _accesses(each, "weight", done.weight_sram_read_bytes, done.weight_sram_write_bytes)
    pruned = "weight" if operands.prunes_weights(arch) else "activation"
    metadata = _accesses(each, pruned, done.metadata_sram_read_bytes, done.metadata_sram_write_bytes)
    column_sums = done.accumulator_sram_write_bytes / sram.ACCUMULATOR_BYTES
    crossing = each.wires.energy_pj(done)
    loads = (
        done.activation_sram_read_bytes * each.activation_byte_loaded
        + done.weight_sram_read_bytes * each.weight_byte_loaded
    )
    low, high = _wire_band()
    return Energy(
        {
            "multiply": done.multiplies * each.multiply - held * each.held_multiply,
            "operand_select": done.multiplies * each.slot + done.decoded_groups * each.window_group,
            "selector": done.selected_groups * each.selected_group,
            "metadata": done.decoded_groups * each.decoded_group,
            "zero_skipping": done.decoded_groups * each.skipped_group + done.multiplies * each.skipped_slot,
            "column_sums": column_sums * each.column_sum,
            "registers_and_clock": done.cycles * each.clock_cycle + loads,
            "requantise": done.requantised * each.requantised,
            "wires": crossing,
            "sram_activation": activation - (metadata if pruned == "activation" else 0),
            "sram_metadata": metadata,
            "sram_weight": weight - (metadata if pruned == "weight" else 0),
            "sram_output": _accesses(each, "output", done.output_sram_read_bytes, done.output_sram_write_bytes),
            "sram_accumulator": _accesses(
                each, "accumulator", done.accumulator_sram_read_bytes, done.accumulator_sram_write_bytes
            ),
            "shared_buffer": _accesses(
                each, "shared_buffer", done.shared_buffer_read_bytes, done.shared_buffer_write_bytes
            ),
            "row_scale_buffer": done.selected_groups * (pattern.m if pattern else 0) * each.buffered_feature,
            "gathering": done.dram_read_bytes * each.gathered_byte
            + done.activation_sram_write_bytes * each.joined_feature
            + done.activation_sram_read_bytes * each.crossed_byte,
            "prediction": done.thresholded * each.thresholded,
            "sram_predictor": _accesses(each, "predictor", done.predictor_sram_read_bytes, 0),
            "vector_unit": done.vector_operations * each.vector_operation,
            "methods": 0.0,  # of criteria and mitigations, which `accel_sim.cost.method_charges` knows
            "dram": (done.dram_read_bytes + done.dram_write_bytes) * each.dram_byte,
            "leakage": done.cycles / clock_hz * each.leakage_per_s,
        },
        wires_band_pj=(crossing * low, crossing * high),
    )


def leakage_pj(power_nw: float, seconds: float) -> float:
    """What circuits of this leakage lose in so many seconds."""
    return PJ_PER_NWS * power_nw * seconds


def _register_loads(arch: Arch) -> tuple[float, float]:
    """Registers that an activation and a weight pass: one at the row's or column's edge, or one in every element.

    Weights that stay come down their column through the elements above theirs (systolic: half of the rows, on average),
    and once more where they wait for the fold before. Where zeros are skipped, a row's values pass from those that wait
    to those at work, and a window of weights likewise.
    """
    rows, cols = arch.array.rows, arch.array.cols
    systolic = operands.is_systolic(arch)
    activations, weights = (cols, rows) if systolic else (1, 1)
    if operands.is_stationary(arch):
        weights = ((rows + 1) / 2 if systolic else 1) + weight_copies(arch) - 1
    if operands.skips_zeros(arch):
        copies = constant("window_buffer_copies")
        activations, weights = activations + copies, weights * copies
    return activations, weights


def _accesses(each: _PerEvent, buffer: str, read_bytes: int, written_bytes: int) -> float:
    read, write = each.sram[buffer]
    return read_bytes * read + written_bytes * write


@cache
def _wire_band() -> tuple[float, float]:
    """Ends of the band of the wire energy over its central value."""
    figure = constants()["wire_energy_per_random_bit"]
    return figure.low / figure.value, figure.high / figure.value


@cache
def _per_event(arch: Arch, pattern: Pattern | None) -> _PerEvent:
    library, scale = library_of(arch), Scale.of(arch.technology)
    lanes, register = arch.array.lanes, library.flip_flop
    # A netlist's energy includes its own registers' clock, which is charged in every cycle below.
    dot_product = library.without_clock(library.unit("dot_product", lanes=lanes))
    requantised = library.without_clock(circuits.requantiser(library)) + library.unit("adder").energy_pj
    logic_leakage = scale.leakage * sum(part.leakage_nw for part in parts.parts(arch))
    row = _row_pj(arch, pattern)
    activation_registers, weight_registers = _register_loads(arch)
    crossbar = gathering.crossbar(arch)
    generator = gathering.address_generator(library).energy_pj if gathering.gathers(arch) else 0.0
    return _PerEvent(
        multiply=scale.energy * dot_product / lanes,
        held_multiply=scale.energy * library.unit("multiplier").energy_pj,
        slot=scale.energy * max((net.slot_pj for net in networks(arch)), default=0.0),
        selected_group=scale.energy * _selector_pj(arch, pattern),
        decoded_group=scale.energy * _decoder_pj(arch, pattern),
        window_group=scale.energy * row["window_group"],
        skipped_group=scale.energy * row["group"],
        skipped_slot=scale.energy * row["slot"],
        column_sum=scale.energy * _column_sum_pj(arch),
        clock_cycle=scale.energy * register.energy_pj * parts.register_bits(arch) * arch.cores.count,
        activation_byte_loaded=BITS * scale.energy * library.register_data_energy_pj * activation_registers,
        weight_byte_loaded=BITS * scale.energy * library.register_data_energy_pj * weight_registers,
        requantised=scale.energy * requantised,
        sram=_sram_pj_per_byte(arch, pattern),
        buffered_feature=_buffered_feature_pj(arch),
        gathered_byte=scale.energy * generator * gathering.address_generators(arch) / arch.dram.burst_bytes,
        joined_feature=scale.energy * gathering.joining(library).energy_pj * gathering.masks(arch),
        crossed_byte=0.0 if crossbar is None else scale.energy * crossbar.unit.energy_pj,
        thresholded=scale.energy * _threshold_pj(arch),
        # A published figure on the anchored scale: over the anchor it stands beside the netlists' own.
        vector_operation=scale.energy * (constant("vector_add") + constant("vector_multiply")) / library.anchor_factor,
        wires=wires(arch, pattern),
        dram_byte=BITS * dram(arch.dram.kind).value,
        leakage_per_s=PJ_PER_NWS * (logic_leakage * arch.cores.count + _sram_leakage_nw(arch)),
    )


def _selector_pj(arch: Arch, pattern: Pattern | None) -> float:
    """Selecting one group of `pattern`; a flexible unit spends its largest circuit's energy a feature."""
    if not derived.selects(arch, pattern):
        return 0.0
    sparsity = arch.sparsity
    built = (p for p in sparsity.patterns if derived.selects(arch, p))
    each = (
        hierarchy.selector(library_of(arch), sparsity.selector, sparsity.metadata, p).energy_pj / p.m for p in built
    )
    return pattern.m * max(each)


def _decoder_pj(arch: Arch, pattern: Pattern | None) -> float:
    """Decoding one group of `pattern`, likewise."""
    if derived.array_pattern(arch, pattern) not in derived.array_patterns(arch):
        return 0.0
    decoders = ((network(arch, p).decoder, p) for p in derived.array_patterns(arch))
    return pattern.m * max(0.0 if circuit is None else circuit.energy_pj / p.m for circuit, p in decoders)


def _row_pj(arch: Arch, pattern: Pattern | None) -> dict[str, float]:
    """Skipping zeros, per group and per slot of `pattern`: the window's multiplexers in every column, finders and zero
    detectors at the row, and the selection there, shared by the columns."""
    found = dict.fromkeys(("window_group", "group", "slot"), 0.0)
    if not operands.skips_zeros(arch) or pattern is None:
        return found
    net = network(arch, pattern)
    skips, lanes = net.skipping, arch.array.lanes
    assert skips is not None
    slices = derived.slices(arch) if arch.sparsity.skipping == "elastic" else 1
    window = sum(placed.energy_pj for placed in skips.window_multiplexers)
    found["window_group"] = arch.array.cols * window / slices
    finders = sum(placed.energy_pj for placed in skips.finders) / slices
    detectors = pattern.n * skipping.zero_detector(library_of(arch)).energy_pj
    found["group"] = skips.rounds_per_group * finders + detectors
    found["slot"] = sum(placed.energy_pj for placed in skips.selects) / lanes / arch.array.cols
    return found


def _column_sum_pj(arch: Arch) -> float:
    """A column's sum at the accumulator SRAM, and the registers it takes up on the way."""
    if not operands.is_stationary(arch):
        return 0.0
    library = library_of(arch)
    bits = tree_register_bits(arch) + constant("column_sum_registers") * operands.ACCUMULATOR_BITS
    return library.unit("adder").energy_pj + bits * library.register_data_energy_pj


def _threshold_pj(arch: Arch) -> float:
    if not arch.predictor.is_built:
        return 0.0
    library = library_of(arch)
    loaded = circuits.WORD_BITS * library.register_data_energy_pj
    return predicting.comparator(library).energy_pj + loaded


def _sram_pj_per_byte(arch: Arch, pattern: Pattern | None) -> dict[str, tuple[float, float]]:
    buffers, shared = sram.memories(arch), sram.shared_buffer(arch)
    activation_width, weight_width = sram.activation_width(arch, pattern), sram.weight_width(arch, pattern)
    found = {
        "activation": (
            buffers.activation.read_pj_per_byte(activation_width),
            buffers.activation.write_pj_per_byte(),
        ),
        "weight": (buffers.weight.read_pj_per_byte(weight_width), buffers.weight.write_pj_per_byte()),
        "output": (buffers.output.read_pj_per_byte(), buffers.output.write_pj_per_byte()),
        "accumulator": (0.0, 0.0),
        "shared_buffer": (0.0, 0.0),
        "predictor": (0.0, 0.0),
    }
    if buffers.accumulator is not None:
        width, buffer = sram.accumulator_width(arch), buffers.accumulator
        found["accumulator"] = buffer.read_pj_per_byte(width), buffer.write_pj_per_byte(width)
    if shared is not None:
        found["shared_buffer"] = shared.read_pj_per_byte(), shared.write_pj_per_byte()
    if (weights := predicting.weight_memory(arch)) is not None:
        found["predictor"] = weights.read_pj_per_byte(), weights.write_pj_per_byte()
    return found


def _buffered_feature_pj(arch: Arch) -> float:
    """A feature in and out of the buffer that waits for the row's maximum; nothing where there is none."""
    if sram.row_scale_buffer(arch)[0] == 0:
        return 0.0
    buffer = sram.memories(arch).activation
    per_byte = buffer.read_pj_per_byte(buffer.bank.bus_bytes) + buffer.write_pj_per_byte(buffer.bank.bus_bytes)
    return constant("row_buffer_bytes_per_feature") * per_byte


def _sram_leakage_nw(arch: Arch) -> float:
    shared = sram.shared_buffer(arch)
    core = sum(buffer.leakage_nw for buffer in sram.memories(arch))
    core += sram.row_scale_buffer(arch)[1] + gathering.mask_buffers(arch)[1] + predicting.bits_buffer(arch)[1]
    beside = filter(None, (shared, predicting.weight_memory(arch)))
    return core * arch.cores.count + sum(memory.leakage_nw for memory in beside)
