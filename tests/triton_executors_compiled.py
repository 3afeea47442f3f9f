"""The FFN executor's kernels compiled for GPUs that are not there; test_executors_torch.py runs this.

Each is compiled with the arguments of a real launch. A kernel of one token must not spill, must load its weights 16
bytes a thread, and (on Hopper) ask for all of them before it multiplies; none uses an atomic.
"""

import re
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parent.parent))

from accel_sim.executors import PIPELINES
from benchmarks.executors import SHAPES as SIZES
from benchmarks.gpu.executors import SHAPES
from benchmarks.triton_ahead import (
    FFN_KERNELS,
    conditional_ffn,
    loads_before_products,
    machine_code,
    recording_ffn,
    registers,
    spills,
)

LOADS = {
    "sequential": {"gate_up_kernel": [4, 4], "down_kernel": [4]},
    "parallel": {"gate_up_kernel": [8], "down_kernel": [4]},
}
"""Of a thread: a row of 4096 at two bytes, or sixteen times 256, is four loads of 16 bytes for each of 128 threads."""
ATOMIC = re.compile(r"\b(?:atom|red)\.")


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize(("shape", "capability"), [*((shape, 90) for shape in SHAPES), ("llama2", 80)])
def test_one_token_of_the_papers_shapes(shape, pipeline, capability):
    sizes = {"features": SIZES[shape].features, "neurons": SIZES[shape].neurons}
    dtype = torch.bfloat16 if shape == "qwen2" else torch.float16
    with recording_ffn(1, pipeline, dtype, **sizes) as made:
        assert set(made) == set(FFN_KERNELS)
        for name, kernel in made.items():
            compiled = kernel.compiled(capability)
            cubin = compiled.asm["cubin"]
            assert not ATOMIC.search(compiled.asm["ptx"]), name
            assert spills(cubin) == 0, name
            assert registers(cubin) <= 96, name  # five programs of four warps on a multiprocessor
            if capability == 90:  # what the blocks are chosen for
                assert loads_before_products(cubin) == LOADS[pipeline].get(name, []), name
            assert re.search(r"LDG\.E\.(?:EF\.)?128", machine_code(cubin)), name


@pytest.mark.parametrize(("tokens", "capability"), [(3, 80), (16, 90)])
def test_more_tokens(tokens, capability):
    with recording_ffn(tokens, "parallel", torch.float32) as made:
        for name, kernel in made.items():
            compiled = kernel.compiled(capability)
            assert len(compiled.asm["cubin"]) > 0
            assert not ATOMIC.search(compiled.asm["ptx"]), name


def test_the_table_names_each_kernel_once():
    lines = list(conditional_ffn(90))
    assert [line.split(" | ")[:2] for line in lines] == [
        ["| gate_up_kernel", "sequential"],
        ["| down_kernel", "both"],
        ["| reduce_kernel", "both"],
        ["| gate_up_kernel", "parallel"],
    ]
