"""Random machines of every kind, and random activations to run on them."""

import numpy as np
from hypothesis import strategies as st

from accel_sim.arch import Arch, load_arch
from accel_sim.occupancy import REAL_MASKS
from accel_sim.pattern import Pattern
from accel_sim.simulation.nonzeros import Skipping, needed, windows
from accel_sim.timing import Nonzeros
from accel_sim.workload import Gemm

SIZES = st.integers(1, 400)
BUFFERS = st.sampled_from([1000, 2000, 5001, 16000, 60000, 120000])
"""Small enough for every way to replace their content, and large enough to hold an operand."""

PORTS = st.sampled_from(["null", "null", 5, 60, 10000])
"""As wide as the array asks for, narrower, or wider."""

_BASE = {
    "array.rows": st.integers(1, 40),
    "array.cols": st.integers(1, 40),
    "array.lanes": st.sampled_from([1, 4, 8, 16, 24]),
    "array.requantisers": st.integers(1, 64),
    "array.drain": st.sampled_from(["overlapped", "serial", "none"]),
    "array.interconnect": st.sampled_from(["broadcast", "systolic"]),
    "array.fold_overlap": st.booleans(),
    "array.dataflow": st.sampled_from(["output_stationary", "weight_stationary"]),
    "cores.count": st.sampled_from([1, 1, 2, 3, 7]),
    "cores.split": st.sampled_from(["tokens", "outputs", "grid"]),
    "cores.launch_cycles": st.sampled_from([0, 0, 37]),
    "array.stored_output_bytes": st.sampled_from([1, 1, 4]),
    "cores.shared_buffer_bytes": st.sampled_from([0, 0, 20000, 10**7]),
    "sram.activation_bytes": BUFFERS,
    "sram.weight_bytes": BUFFERS,
    "sram.weight_port_bytes_per_cycle": PORTS,
    "sram.activation_port_bytes_per_cycle": PORTS,
    "sram.output_bytes": st.integers(3300, 20000),
    "sram.accumulator_bytes": st.integers(400, 40000),
    "dram.bytes_per_cycle": st.sampled_from([3.7, 64, 1000]),
    "dram.burst_bytes": st.sampled_from([1, 32, 64]),
    "dram.turnaround": st.sampled_from([1, 1.2]),
}
_PATTERNS = st.sampled_from(["1:4", "2:4", "3:4", "7:16", "16:32", "4:4"])
_KINDS = st.one_of(
    st.fixed_dictionaries({"sparsity.patterns": st.just("[]")}),
    st.fixed_dictionaries(
        {
            "sparsity.patterns": _PATTERNS,
            "sparsity.metadata": st.sampled_from(["bitmap", "index", "enumerative"]),
            "sparsity.selector.placement": st.sampled_from(["load", "write_back", "software"]),
        }
    ),
    st.fixed_dictionaries({"sparsity.patterns": _PATTERNS, "sparsity.operand": st.just("weights")}),
    st.fixed_dictionaries(
        {
            "sparsity.patterns": st.sampled_from(["1:2 of 2:4", "2:4 of 4:8", "1:2 of 4:4"]),
            "sparsity.skipping": st.just("hierarchical"),
        }
    ),
    st.fixed_dictionaries(
        {
            "sparsity.patterns": st.sampled_from(["2:4", "4:4", "8:16", "16:16"]),
            "sparsity.skipping": st.just("elastic"),
            "sparsity.operand_mux": st.just("full"),
            "sparsity.sync_window": st.integers(1, 20),
            "sparsity.weight_groups_per_cycle": st.sampled_from(["null", 1, 4]),
            "array.dataflow": st.just("output_stationary"),
        }
    ),
    st.fixed_dictionaries(
        {
            "sparsity.patterns": st.sampled_from(["2:4", "4:4", "8:16", "16:16"]),
            "sparsity.skipping": st.just("unstructured"),
            "sparsity.sync_window": st.integers(1, 20),
            "sparsity.window_banks": st.sampled_from(["null", 8, 64]),
            "sparsity.weight_groups_per_cycle": st.sampled_from(["null", 4]),
            "array.dataflow": st.just("output_stationary"),
        }
    ),
    st.fixed_dictionaries(
        {
            "sparsity.patterns": st.sampled_from(["[]", "2:4", "8:16"]),
            "sparsity.skipping": st.sampled_from(["row_gather", "output_gather", "gather"]),
            "sparsity.selector.placement": st.sampled_from(["load", "write_back", "software"]),
        }
    ),
)
SETTINGS = st.builds(lambda base, kind: base | kind, st.fixed_dictionaries(_BASE), _KINDS)
"""Overrides of dense.yaml, as one dictionary."""


def machine(settings: dict) -> Arch:
    return load_arch("dense", [f"{key}={value}" for key, value in settings.items()])


def activations(tokens: int, features: int, zeros: float, seed: int = 0) -> np.ndarray:
    """Codes int8 [tokens, features] of which a share `zeros` is zero."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(1, 128, (tokens, features)) * rng.choice([-1, 1], (tokens, features))
    return (codes * (rng.random((tokens, features)) >= zeros)).astype(np.int8)


def found(gemm: Gemm, arch: Arch, pattern: Pattern | None, codes: np.ndarray) -> Nonzeros | None:
    """What a machine's skipping finds in `codes`; outputs are needed as the features of the same codes are."""
    skipping = Skipping.of(arch)
    if skipping.kind in ("row_gather", "gather"):
        return Nonzeros(features=needed(codes, gemm, pattern, REAL_MASKS))
    if skipping.kind == "output_gather":
        return Nonzeros(outputs=max(1, gemm.outputs // 2))
    if not skipping.needs_activations or pattern is None:
        return None
    return Nonzeros(windows=windows(codes, gemm.tokens, pattern, skipping, REAL_MASKS))
