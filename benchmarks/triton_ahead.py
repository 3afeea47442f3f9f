"""What the Triton kernels become for a named GPU, without one: `python -m benchmarks.triton_ahead [--capability 90]`.

Each kernel is compiled with the constants of a real launch, at 4096 tokens, features and outputs, and its machine code
is counted: instructions a thread for each element that it selects, registers, spills. Counts are of the code's text.
The kernels of the FFN executor stand beside them, at one token of LLaMA-2-7B's shape.
Selection from codes runs through its text once; from floats it has two loops, which run once each at this size.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from accel_sim.executors import PIPELINES, triton_kernels
from accel_sim.executors.torch_ffn import TorchFFN
from accel_sim.executors.triton_executor import TritonExecutor
from accel_sim.functional.gpu import device, multiply_kernels, select_kernels
from accel_sim.pattern import ENCODINGS, Pattern

PATTERNS = ("2:4", "4:8", "8:16", "16:32")
SIDE = 4096
REGISTERS = 65536
"""Of a multiprocessor, from Volta to Hopper (CUDA C++ Programming Guide, compute capabilities)."""
_TYPES = {
    torch.int8: "*i8",
    torch.int16: "*i16",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.uint8: "*u8",
    torch.uint16: "*u16",
    torch.uint32: "*u32",
    torch.uint64: "*u64",
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
}
_OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion", "maxnreg")


class Recorder:
    """Stands for a kernel: keeps what it is launched with, and compiles that."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.launches: list[tuple[tuple, dict[str, Any]]] = []

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return lambda *arguments, **constants: self.launches.append((arguments, constants))

    def compiled(self, capability: int, **changed: Any) -> Any:
        """The last launch's kernel for a GPU of this compute capability; `changed` are other compiler options."""
        arguments, given = self.launches[-1]
        constants = {key: getattr(value, "value", value) for key, value in given.items()}
        options = {key: constants.pop(key) for key in _OPTIONS if key in constants} | changed
        signature, attributes = {}, {}
        for place, (name, value) in enumerate(zip(self.kernel.arg_names, arguments, strict=False)):
            if isinstance(value, int) and value == 1:  # as the launcher specialises it
                constants[name] = 1
                continue
            signature[name] = _type(value)
            if isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0):
                attributes[(place,)] = [["tt.divisibility", 16]]
        signature |= dict.fromkeys(constants, "constexpr")
        ordered = {name: signature[name] for name in self.kernel.arg_names}
        source = ASTSource(fn=self.kernel, signature=ordered, constexprs=constants, attrs=attributes)
        return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def _type(value: torch.Tensor | float) -> str:
    """The type of an argument, as the launcher sees it."""
    if isinstance(value, torch.Tensor):
        return _TYPES[value.dtype]
    if isinstance(value, float):
        return "fp32"
    return "i32" if value < 2**31 else "i64"


@contextmanager
def recording(module: ModuleType, name: str) -> Iterator[Recorder]:
    """Launches of the kernel called `name` are recorded inside the block instead of run."""
    recorder = Recorder(getattr(module, name))
    setattr(module, name, recorder)
    try:
        yield recorder
    finally:
        setattr(module, name, recorder.kernel)


def machine_code(cubin: bytes) -> str:
    """SASS, by the disassembler that Triton brings along."""
    return _tool(triton.knobs.nvidia.nvdisasm.path, "-c", cubin)


def instructions(cubin: bytes) -> int:
    """Machine instructions of a kernel, each counted once; padding and jumps are not counted."""
    found = re.findall(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]+)", machine_code(cubin), re.MULTILINE)
    return sum(name not in ("NOP", "BRA") for name in found)


def registers(cubin: bytes) -> int:
    """Registers of a thread."""
    return int(re.search(r"REG:(\d+)", _tool(triton.knobs.nvidia.cuobjdump.path, "-res-usage", cubin))[1])


def spills(cubin: bytes) -> int:
    """Instructions that store or load registers that did not fit."""
    return len(re.findall(r"\b(?:STL|LDL)\b", machine_code(cubin)))


def loads_before_products(cubin: bytes) -> list[int]:
    """How many loads of weights (those marked to leave the cache first) stand together before a multiplication."""
    found = re.findall(r"\b(LDG\.E\.EF|FFMA|FMUL)\b", machine_code(cubin))
    return [len(run) for run in re.findall("L+", "".join("L" if name.startswith("LDG") else "f" for name in found))]


def _tool(path: str, option: str, cubin: bytes) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        return subprocess.run([path, option, str(file)], capture_output=True, text=True, check=True).stdout


def selection(capability: int) -> Iterator[str]:
    """A line of the table for each pattern and encoding, from codes; and from floats, with bitmaps."""
    inputs = {"INT8": (torch.int8, ENCODINGS), "bfloat16": (torch.bfloat16, ENCODINGS[:1])}
    for name, (dtype, encodings) in inputs.items():
        for text in PATTERNS:
            for encoding in encodings:
                pattern = Pattern(text)
                with recording(select_kernels, "compress_kernel") as kernel:
                    device.compress(torch.zeros((SIDE, SIDE), dtype=dtype), pattern, encoding)
                compiled = kernel.compiled(capability)
                cubin, constants = compiled.asm["cubin"], kernel.launches[-1][1]
                groups = constants["BLOCK_T"] * constants["BLOCK_G"]
                a_thread = groups * pattern.m / (32 * compiled.metadata.num_warps)
                per_element = instructions(cubin) / a_thread
                cells = (text, name, encoding, f"{per_element:.1f}", registers(cubin), spills(cubin))
                yield f"| {' | '.join(map(str, cells))} |"


def products(capability: int) -> Iterator[str]:
    """A line for each pattern, expanded tile by tile and first."""
    weights = torch.zeros((SIDE, SIDE), dtype=torch.int8)
    for text in PATTERNS:
        for first in (False, True):
            with (
                recording(select_kernels, "compress_kernel"),
                recording(multiply_kernels, "expand_kernel"),
                recording(multiply_kernels, "multiply_kernel") as kernel,
            ):
                left = device.operand(torch.zeros((SIDE, SIDE), dtype=torch.int8), Pattern(text))
                device.multiply(left, weights, expand_first=first)
            compiled = kernel.compiled(capability)
            cubin = compiled.asm["cubin"]
            how = "first" if first else "tile by tile"
            yield f"| {text} | {how} | {registers(cubin)} | {spills(cubin)} | {compiled.metadata.shared} |"


FFN_KERNELS = ("gate_up_kernel", "down_kernel", "reduce_kernel")


@contextmanager
def recording_ffn(
    tokens: int, pipeline: str, dtype: torch.dtype = torch.float16, features: int = SIDE, neurons: int = 11008
) -> Iterator[dict[str, Recorder]]:
    """The launches of one call of the FFN executor, recorded; nothing is computed, so its tensors hold nothing."""
    empty = partial(torch.empty, device="meta")
    weights = (empty((neurons, features), dtype=dtype) for _ in range(3))
    ffn = TorchFFN(*weights, empty(neurons), empty(neurons), empty(features))
    interpreted, triton_kernels.INTERPRETED = triton_kernels.INTERPRETED, True  # any device will do
    try:
        with ExitStack() as stack:
            made = {name: stack.enter_context(recording(triton_kernels, name)) for name in FFN_KERNELS}
            executor = TritonExecutor(ffn, check_values=False)
            executor.run(empty((tokens, features), dtype=dtype), empty((tokens, neurons), dtype=torch.bool), pipeline)
            yield made
    finally:
        triton_kernels.INTERPRETED = interpreted


def conditional_ffn(capability: int) -> Iterator[str]:
    """A line for each kernel of the FFN executor, at one token of LLaMA-2-7B's shape in float16."""
    for pipeline in PIPELINES:
        with recording_ffn(1, pipeline) as made:
            for name, kernel in made.items():
                if name == "gate_up_kernel" or pipeline == PIPELINES[0]:  # the others are the same in both
                    compiled = kernel.compiled(capability)
                    cubin = compiled.asm["cubin"]
                    used = registers(cubin)
                    threads = 32 * compiled.metadata.num_warps
                    which = pipeline if name == "gate_up_kernel" else "both"
                    yield f"| {name} | {which} | {used} | {spills(cubin)} | {REGISTERS // (used * threads)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capability", type=int, default=90, help="default: 90, Hopper")
    capability = parser.parse_args().capability
    print(f"Triton {triton.__version__}, compute capability {capability}\n")
    print("| pattern | from | metadata | instructions an element | registers | spills |\n|---|---|---|--:|--:|--:|")
    for line in selection(capability):
        print(line, flush=True)
    print("\n| FFN kernel | pipeline | registers | spills | programs a multiprocessor holds |\n|---|---|--:|--:|--:|")
    for line in conditional_ffn(capability):
        print(line, flush=True)
    print("\n| pattern | expanded | registers | spills | shared memory, bytes |\n|---|---|--:|--:|--:|")
    for line in products(capability):
        print(line, flush=True)


if __name__ == "__main__":
    main()
