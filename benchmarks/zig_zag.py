"""Cycles and wall time beside ZigZag, which searches loop orders with an analytical model of every memory level."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from accel_sim.arch import load_arch
from accel_sim.workload import Gemm
from benchmarks.children import run_child
from benchmarks.clock import median_seconds
from benchmarks.ours import compute_cycles, gemm_arguments, simulate_command, timings
from benchmarks.peers import Environment
from benchmarks.products import SMOLLM2_DISTINCT, SMOLLM2_LAYER
from benchmarks.rows import Row, Wanted
from benchmarks.versions import versions

GROUP = "ZigZag"
INPUTS = Path(__file__).parent / "zigzag"
COMMAND = "make bench PEERS=zigzag"


def rows(environment: Environment) -> list[Row]:
    """The seven projections on an equivalent array, whose folds overlap, since ZigZag's do."""
    used = versions(**{"zigzag-dse": environment.version})
    arch = load_arch("systolic32_os.yaml", ["array.fold_overlap=true"])
    warm = median_seconds(lambda: timings(arch, SMOLLM2_LAYER))
    overlap = ["--set", "array.fold_overlap=true"]
    cold = simulate_command("--arch", arch.name, *overlap, *gemm_arguments(SMOLLM2_LAYER))
    found, process_seconds = run_zigzag(environment.python, SMOLLM2_LAYER)
    theirs = {layer["name"]: layer for layer in found["layers"]}
    compared = []
    for gemm, here in zip(SMOLLM2_DISTINCT, timings(arch, SMOLLM2_DISTINCT), strict=True):
        array, total = theirs[gemm.name]["ideal_temporal_cycle"], theirs[gemm.name]["latency_total2"]
        name = f"SmolLM2-135M {gemm.name}"
        compared.append(Row(GROUP, f"{name}, array at work", compute_cycles(here), array, "cycles", COMMAND, used))
        compared.append(Row(GROUP, f"{name}, start to end", here.cycles, total, "cycles", COMMAND, used))
    search, process = (
        "SmolLM2-135M, the seven projections, both warm",
        "SmolLM2-135M, the seven projections, whole processes",
    )
    return [
        *compared,
        Row(GROUP, search, warm, found["seconds"], "s", COMMAND, used, faster=True, wanted=Wanted("least", 100)),
        Row(GROUP, process, cold.seconds, process_seconds, "s", COMMAND, used, faster=True),
    ]


def run_zigzag(python: Path, products: Sequence[Gemm]) -> tuple[dict[str, Any], float]:
    """ZigZag's cycles of each product with the seconds of its search, and the seconds of the whole process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "workload.yaml").open("w") as file:
            YAML().dump(workload(products), file)
        inputs = (INPUTS / "accelerator.yaml", INPUTS / "mapping.yaml")
        finished = run_child([python, INPUTS / "run.py", *inputs], folder)
    return json.loads(finished.stdout.splitlines()[-1]), finished.seconds


def workload(products: Sequence[Gemm]) -> list[dict[str, Any]]:
    """The products as ZigZag's workload: B tokens, C features, K outputs, INT8 with 32-bit sums."""
    return [
        {
            "id": number,
            "name": gemm.name,
            "operator_type": "Gemm",
            "equation": "O[b][k]+=I[b][c]*W[c][k]",
            "loop_dims": ["B", "C", "K"],
            "loop_sizes": [gemm.tokens, gemm.features, gemm.outputs],
            "operand_precision": {"W": 8, "I": 8, "O": 32, "O_final": 8},
        }
        for number, gemm in enumerate(products)
    ]
