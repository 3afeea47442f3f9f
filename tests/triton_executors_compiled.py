"""The FFN executor's kernels compiled for GPUs that are not there; test_executors_torch.py runs this.

Each is compiled with the arguments of a real launch. A kernel of one token must not spill, and must load its weights
16 bytes a thread; none uses an atomic.
"""

import re
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parent.parent))

from accel_sim.executors import PIPELINES
from benchmarks.executors import SHAPES
from benchmarks.triton_ahead import FFN_KERNELS, conditional_ffn, machine_code, recording_ffn, registers, spills

ATOMIC = re.compile(r"\b(?:atom|red)\.")


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize(("shape", "capability"), [*((shape, 90) for shape in SHAPES), ("llama2", 80)])
def test_one_token_of_the_papers_shapes(shape, pipeline, capability):
    sizes = {"features": SHAPES[shape].features, "neurons": SHAPES[shape].neurons}
    dtype = torch.bfloat16 if shape == "qwen2" else torch.float16
    with recording_ffn(1, pipeline, dtype, **sizes) as made:
        assert set(made) == set(FFN_KERNELS)
        for name, kernel in made.items():
            compiled = kernel.compiled(capability)
            cubin = compiled.asm["cubin"]
            assert not ATOMIC.search(compiled.asm["ptx"]), name
            assert spills(cubin) == 0, name
            assert registers(cubin) <= 128, name  # four programs of four warps on a multiprocessor
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
