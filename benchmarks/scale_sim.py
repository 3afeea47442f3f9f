"""Compute cycles and wall time of dense products beside SCALE-Sim v3, a systolic-array simulator nobody here wrote.

SCALE-Sim wants NumPy below 2.4, so it runs in an environment of its own:

    python -m venv /tmp/scalesim && /tmp/scalesim/bin/pip install scalesim 'numpy<2.4'
    python benchmarks/scale_sim.py --python /tmp/scalesim/bin/python

Ours is `systolic32_os.yaml`: output-stationary, 32×32 processing elements of one lane, operands skewed through the
array, no tile (fold) overlapping the one before, so that each takes rows + columns − 2 cycles more than K. SCALE-Sim
counts from cycle 0, which is the one cycle between the two. Beside it, the same array with its tiles overlapping.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import tempfile
import time
from pathlib import Path

from accel_sim.arch import load_arch
from accel_sim.timing import Latencies, time_layer
from accel_sim.workload import Gemm

ROWS = COLS = 32
PRODUCTS = {  # tokens, features, outputs
    "SmolLM2 k_proj, 512 tokens": (512, 576, 192),
    "SmolLM2 q_proj, 512 tokens": (512, 576, 576),
    "SmolLM2 down_proj, 128 tokens": (128, 1536, 576),
    "edges that do not divide": (100, 33, 70),
}
CONFIG = f"""[general]
run_name = dense
[architecture_presets]
ArrayHeight: {ROWS}
ArrayWidth: {COLS}
IfmapSramSzkB: 4096
FilterSramSzkB: 4096
OfmapSramSzkB: 4096
IfmapOffset: 0
FilterOffset: 10000000
OfmapOffset: 20000000
Dataflow: os
Bandwidth: 1000
ReadRequestBuffer: 32
WriteRequestBuffer: 32
[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: 10
IfmapSRAMBankNum: 10
IfmapSRAMBankPort: 2
FilterCustomLayout: False
FilterSRAMBankBandwidth: 10
FilterSRAMBankNum: 10
FilterSRAMBankPort: 2
[sparsity]
SparsitySupport: false
SparseRep: ellpack_block
OptimizedMapping: false
BlockSize: 8
RandomNumberGeneratorSeed: 40
[run_presets]
InterfaceBandwidth: CALC
UseRamulatorTrace: False
"""
RUN = (
    "from scalesim.scale_sim import scalesim\n"
    "scalesim(save_disk_space=True, verbose=False, config='c.cfg', topology='t.csv', layout='l.csv',"
    " input_type_gemm=True).run_scale(top_path='out')"
)


def scale_sim(python: Path, shape: tuple[int, int, int]) -> tuple[int, float]:
    """(compute cycles, seconds) of one product in SCALE-Sim, start-up of its interpreter included."""
    tokens, features, outputs = shape
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "c.cfg").write_text(CONFIG)
        (work / "t.csv").write_text(f"Layer, M, N, K,\nl0, {tokens}, {outputs}, {features},\n")
        (work / "l.csv").write_text(f"Layer,{','.join(['x'] * 21)},\nl0,{','.join(['1'] * 21)},\n")
        begin = time.perf_counter()
        subprocess.run([python, "-c", RUN], cwd=work, check=True, capture_output=True)
        seconds = time.perf_counter() - begin
        (report,) = work.rglob("COMPUTE_REPORT.csv")
        row = next(csv.DictReader(report.open(), skipinitialspace=True))
        return int(row["Total Cycles"]), seconds


def ours(shape: tuple[int, int, int]) -> tuple[int, int, float]:
    """(compute cycles, the same without the skew of every tile, seconds) of the same product here, warm."""
    arch, gemm = load_arch("systolic32_os.yaml"), Gemm("product", "site", *shape)
    time_layer(gemm, arch, None, Latencies(0, 0, 0))
    begin = time.perf_counter()
    compute = time_layer(gemm, arch, None, Latencies(0, 0, 0)).plan.compute
    seconds = time.perf_counter() - begin
    return int((compute.array + compute.fill).sum()), int(compute.array.sum()), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="Python of the environment that holds SCALE-Sim")
    python = parser.parse_args().python
    print(f"{'product':32}{'SCALE-Sim':>12}{'ours':>10}{'overlapped':>12}{'their time':>12}{'ratio':>10}")
    for name, shape in PRODUCTS.items():
        their_cycles, their_seconds = scale_sim(python, shape)
        our_cycles, overlapped, our_seconds = ours(shape)
        speed = f"{their_seconds:10.1f} s{their_seconds / our_seconds:9,.0f}×"
        print(f"{name:32}{their_cycles:12,}{our_cycles:10,}{overlapped:12,}{speed}")


if __name__ == "__main__":
    main()
