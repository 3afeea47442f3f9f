"""Machines and a fixed amount of work that the tests of the cost model share."""

from hypothesis import strategies as st

from accel_sim.arch.schema import Arch
from accel_sim.cost.parts import parts
from accel_sim.cost.units import load_library
from accel_sim.timing.activity import Activity

NANGATE = load_library("nangate45")
LADDER = ["2:4", "4:8", "8:16", "16:32"]
MUXES = ["restricted", "onehot", "full"]
WORK = Activity(
    cycles=10_000,
    multiplies=120_000_000,
    zero_multiplies=30_000_000,
    selected_groups=60_000,
    decoded_groups=500_000,
    activation_sram_read_bytes=4_000_000,
    activation_sram_write_bytes=500_000,
    metadata_sram_read_bytes=800_000,
    metadata_sram_write_bytes=100_000,
    weight_sram_read_bytes=8_000_000,
    weight_sram_write_bytes=1_000_000,
    output_sram_write_bytes=200_000,
    output_sram_read_bytes=200_000,
    requantised=200_000,
    dram_read_bytes=2_000_000,
    dram_write_bytes=200_000,
)
NOTHING = Activity(**dict.fromkeys(Activity.__dataclass_fields__, 0))


def machine(patterns=(), array=None, technology=None, zero_gating="none", sram=None, cores=None, **sparsity) -> Arch:
    return Arch.model_validate(
        {
            "name": "machine",
            "array": array or {},
            "cores": cores or {},
            "sparsity": {"patterns": patterns, **sparsity},
            "technology": technology or {},
            "zero_gating": zero_gating,
            "sram": sram or {},
        }
    )


def elastic(patterns="8:16", **settings) -> Arch:
    """Elastic slices behind a port of four groups a cycle."""
    wanted = {"skipping": "elastic", "operand_mux": "full", "weight_groups_per_cycle": 4} | settings
    return machine(patterns, **wanted)


def unstructured(patterns="16:16", **settings) -> Arch:
    """Non-zeros of a window in any order, behind the same port."""
    return machine(patterns, **{"skipping": "unstructured", "weight_groups_per_cycle": 4} | settings)


def stationary(patterns=(), array=None, **settings) -> Arch:
    return machine(patterns, array={"dataflow": "weight_stationary", **(array or {})}, **settings)


def flip_flops(arch: Arch, component: str) -> float:
    """Register bits of one component of one core."""
    return sum(part.count for part in parts(arch) if part.component == component and part.unit is NANGATE.flip_flop)


@st.composite
def machines(draw, skipping=None) -> Arch:
    """Any machine that the schema accepts, small enough to be quick."""
    m = draw(st.integers(1, 32))
    n = draw(st.integers(1, m))
    outer = draw(st.integers(1, 2))
    how = skipping or draw(
        st.sampled_from(["fixed", "elastic", "unstructured", "hierarchical", "row_gather", "output_gather", "gather"])
    )
    skips_zeros, two_levels = how in ("elastic", "unstructured"), how == "hierarchical"
    pattern = f"{draw(st.integers(1, outer))}:{outer} of {n}:{m}" if two_levels else f"{n}:{m}"
    slice_lanes, slices = draw(st.sampled_from([1, 2, 4])), draw(st.integers(1, 16))
    return machine(
        (pattern,) if skips_zeros else draw(st.sampled_from([(), (pattern,)])),
        array={
            "rows": draw(st.integers(1, 64)),
            "cols": draw(st.integers(1, 64)),
            "lanes": slice_lanes * slices,
            "dataflow": "output_stationary"
            if skips_zeros
            else draw(st.sampled_from(["output_stationary", "weight_stationary"])),
            "interconnect": draw(st.sampled_from(["broadcast", "systolic"])),
            "fold_overlap": draw(st.booleans()),
            "drain": draw(st.sampled_from(["overlapped", "serial"])),
            "requantisers": draw(st.integers(1, 128)),
        },
        cores={"count": draw(st.integers(1, 4)), "shared_buffer_bytes": draw(st.sampled_from([0, 2**20]))},
        technology={
            "node_nm": draw(st.sampled_from([45, 32, 20, 16, 14, 10, 7])),
            "energy_scale": draw(st.sampled_from(["raw", "anchored"])),
            "wires": draw(st.booleans()),
        },
        zero_gating=draw(st.sampled_from(["none", "operand"])),
        skipping=how,
        operand=draw(st.sampled_from(["activations", "weights"]))
        if how in ("fixed", "hierarchical")
        else "activations",
        operand_mux="full" if how == "elastic" else draw(st.sampled_from(MUXES)),
        operand_mux_register=draw(st.booleans()),
        metadata=draw(st.sampled_from(["bitmap", "index", "enumerative"])),
        elastic_lanes=slice_lanes,
        sync_window=draw(st.integers(1, 48)),
        weight_groups_per_cycle=draw(st.sampled_from([None, 1, 4])),
        window_banks=draw(st.sampled_from([None, 1, 8, 32])),
        selector={
            "kind": draw(st.sampled_from(["rank", "sort", "cascade", "radix"])),
            "placement": draw(st.sampled_from(["load", "write_back", "software"])),
            "channel_factors": draw(st.booleans()),
        },
        sram={"kind": draw(st.sampled_from(["hp", "lstp"]))},
    )
