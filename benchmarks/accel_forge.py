"""Dense traffic and energy beside AccelForge, which searches for the best mapping of a product onto the same machine.

It gets this project's energy per access and per multiplication, so that what differs is how many there are. Compared
are the parts that both charge: multiplications, the three buffers, and DRAM.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from accel_sim import cost
from accel_sim.arch import Arch, load_arch
from accel_sim.simulation import Machine
from accel_sim.timing import Activity, count_activity
from accel_sim.workload import Gemm
from benchmarks.children import run_child
from benchmarks.clock import median_seconds
from benchmarks.ours import timings
from benchmarks.peers import Environment
from benchmarks.products import SMOLLM2_DISTINCT
from benchmarks.rows import Row
from benchmarks.versions import versions

GROUP = "AccelForge"
INPUTS = Path(__file__).parent / "accelforge"
COMMAND = "make bench PEERS=accelforge"
BITS, JOULES = 8, 1e-12

PARTS = ("multiply", "sram_activation", "sram_weight", "sram_output", "dram")
"""Components of our energy that AccelForge is asked for as well."""
COUNTED = {
    "Dram": ("DRAM traffic", ("dram_read_bytes", "dram_write_bytes")),
    "ActivationSram": ("activation buffer", ("activation_sram_read_bytes", "activation_sram_write_bytes")),
    "WeightSram": ("weight buffer", ("weight_sram_read_bytes", "weight_sram_write_bytes")),
    "OutputSram": ("output buffer", ("output_sram_read_bytes", "output_sram_write_bytes")),
}
"""AccelForge's memory → its name in the table and the counts of ours that it stands against."""


def rows(environment: Environment) -> list[Row]:
    """One layer's distinct projections on `dense.yaml`."""
    used, arch = versions(accelforge=environment.version), load_arch("dense.yaml")
    machine = Machine(arch, None)
    warm = median_seconds(lambda: timings(arch, SMOLLM2_DISTINCT))
    found = run_accelforge(environment.python, machine_parameters(arch, machine.delays.clock_hz), SMOLLM2_DISTINCT)
    compared = [
        row
        for gemm, there in zip(SMOLLM2_DISTINCT, found, strict=True)
        for row in _product_rows(machine, gemm, there, used)
    ]
    seconds = sum(product["seconds"] for product in found)
    name = "the four products, both warm"
    return [*compared, Row(GROUP, name, warm, seconds, "s", COMMAND, used, faster=True)]


def _product_rows(machine: Machine, gemm: Gemm, there: Mapping[str, Any], used: dict[str, str]) -> list[Row]:
    timing = machine.time(gemm)
    done = count_activity(gemm, machine.arch, None, timing, 0.0)
    energy = machine.energy(done).components_pj
    compared = []
    for memory, (name, counts) in COUNTED.items():
        theirs = sum(there["actions"][f"{memory}/{action}"] for action in ("read", "write")) / BITS
        ours = sum(getattr(done, count) for count in counts)
        compared.append(Row(GROUP, f"{gemm.name}, {name}", ours, theirs, "bytes", COMMAND, used))
    cycles = there["latency_s"] * machine.delays.clock_hz
    compared.append(Row(GROUP, f"{gemm.name}, start to end", timing.cycles, round(cycles), "cycles", COMMAND, used))
    ours = sum(energy[part] for part in PARTS) / 1e6
    theirs = sum(there["energy_j"].values()) / JOULES / 1e6
    return [*compared, Row(GROUP, f"{gemm.name}, energy", ours, theirs, "µJ", COMMAND, used)]


def machine_parameters(arch: Arch, clock_hz: float) -> dict[str, float]:
    """What machine.yaml asks for; energies are those of one event of our own cost model, in J a bit."""
    nothing = Activity(**{count.name: 0 for count in fields(Activity)})

    def joules(count: str, part: str, bits: int = BITS) -> float:
        one = cost.energy(arch, None, replace(nothing, **{count: 1}), clock_hz)
        return one.components_pj[part] / bits * JOULES

    return {
        "rows": arch.array.rows,
        "cols": arch.array.cols,
        "lanes": arch.array.lanes,
        "clock_hz": clock_hz,
        "dram_bits_per_s": arch.dram.bytes_per_cycle * BITS * clock_hz,
        "dram_j": joules("dram_read_bytes", "dram"),
        "multiply_j": joules("multiplies", "multiply", bits=1),
        **{f"{name}_bits": getattr(arch.sram, f"{name}_bytes") * BITS for name in ("activation", "weight", "output")},
        **{
            f"{name}_{way}_j": joules(f"{name}_sram_{way}_bytes", f"sram_{name}")
            for name in ("activation", "weight", "output")
            for way in ("read", "write")
        },
    }


def run_accelforge(python: Path, machine: Mapping[str, float], products: Sequence[Gemm]) -> list[dict[str, Any]]:
    """Of each product: `seconds` of the search, `latency_s`, `energy_j` and `actions` (bits) by component/action."""
    sizes = [
        {"name": gemm.name, "tokens": gemm.tokens, "features": gemm.features, "outputs": gemm.outputs}
        for gemm in products
    ]
    with tempfile.TemporaryDirectory() as name:
        parameters = Path(name) / "parameters.json"
        parameters.write_text(json.dumps({"machine": dict(machine), "products": sizes}))
        finished = run_child([python, INPUTS / "run.py", parameters], Path(name))
    return json.loads(finished.stdout.splitlines()[-1])
