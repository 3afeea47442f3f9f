"""The Triton kernels compiled for named GPUs, with the constants of real launches; no GPU is needed.

test_functional_triton.py runs this in a process in which nothing is interpreted.
"""

import re
import subprocess
from collections import Counter

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from accel_sim.functional import triton_decode, triton_epilogue, triton_multiply, triton_select
from accel_sim.functional import triton_device as device
from accel_sim.functional.fixed_point import Multipliers
from accel_sim.pattern import parse_pattern

HOPPER, AMPERE = 90, 80
PATTERNS = ("2:4", "4:8", "8:16", "16:32", "1:4", "3:4")
_TYPES = {
    torch.int8: "*i8", torch.int16: "*i16", torch.int32: "*i32", torch.int64: "*i64", torch.uint8: "*u8",
    torch.uint16: "*u16", torch.uint32: "*u32", torch.uint64: "*u64", torch.float32: "*fp32", torch.bfloat16: "*bf16",
}  # fmt: skip
_OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")


class Recorder:
    """Stands for a kernel: keeps what it is launched with, and compiles that."""

    def __init__(self, kernel):
        self.kernel, self.launches = kernel, []

    def __getitem__(self, grid):
        return lambda *arguments, **constants: self.launches.append((arguments, constants))

    def compiled(self, capability, **changed):
        arguments, constants = self.launches[-1]
        constants = {key: getattr(value, "value", value) for key, value in constants.items()}
        options = {key: constants.pop(key) for key in _OPTIONS if key in constants} | changed
        signature, attributes = {}, {}
        for place, (name, value) in enumerate(zip(self.kernel.arg_names, arguments, strict=False)):
            if isinstance(value, int) and value == 1:  # as the launcher specialises it
                constants[name] = 1
            else:
                signature[name] = _integer(value) if isinstance(value, int) else _TYPES[value.dtype]
                if not isinstance(value, int) or value % 16 == 0:
                    attributes[(place,)] = [["tt.divisibility", 16]]
        signature |= dict.fromkeys(constants, "constexpr")
        ordered = {name: signature[name] for name in self.kernel.arg_names}
        source = ASTSource(fn=self.kernel, signature=ordered, constexprs=constants, attrs=attributes)
        return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def _integer(value):
    """The type of an argument, as the launcher sees it."""
    return "i32" if value < 2**31 else "i64"


def recorded(monkeypatch, module, name):
    recorder = Recorder(getattr(module, name))
    monkeypatch.setattr(module, name, recorder)
    return recorder


def machine_code(compiled, tmp_path):
    """SASS, by the disassembler that triton brings along."""
    path = tmp_path / "kernel.cubin"
    path.write_bytes(compiled.asm["cubin"])
    return subprocess.run(
        [triton.knobs.nvidia.nvdisasm.path, str(path)], capture_output=True, text=True, check=True
    ).stdout


def spilled(code):
    """Stores and loads of registers that did not fit."""
    return Counter(re.findall(r"\b(STL|LDL)\b", code))


@pytest.mark.parametrize("text", PATTERNS)
def test_selection_fits_its_registers_and_crosses_threads_only_to_pack(text, tmp_path, monkeypatch):
    kernel = recorded(monkeypatch, triton_select, "compress_kernel")
    device.compress(torch.zeros((64, 4096), dtype=torch.int8), parse_pattern(text))
    compiled = kernel.compiled(HOPPER)
    assert not spilled(machine_code(compiled, tmp_path))
    assert compiled.metadata.shared <= 4096


@pytest.mark.parametrize(
    ("text", "encoding", "dtype", "shape"),
    [
        ("2:4", "enumerative", torch.int8, (3, 576)),
        ("4:8", "index", torch.int8, (1, 8)),
        ("16:32", "index", torch.int8, (5, 601)),
        ("16:32", "enumerative", torch.int8, (5, 96)),
        ("2:4", "bitmap", torch.float32, (5, 4096)),
        ("4:8", "bitmap", torch.bfloat16, (5, 1000)),
        ("5:7", "bitmap", torch.int8, (3, 100)),
        ("1:2 of 4:8", "enumerative", torch.int8, (3, 100)),
    ],
)
def test_selection_compiles_in_every_form(text, encoding, dtype, shape, monkeypatch):
    kernel = recorded(monkeypatch, triton_select, "compress_kernel")
    device.compress(torch.zeros(shape, dtype=dtype), parse_pattern(text), encoding)
    compiled = kernel.compiled(AMPERE)
    if dtype != torch.int8:
        assert "div.rn.f32" in compiled.asm["ptx"] and "div.full" not in compiled.asm["ptx"]
        assert ".ftz" not in compiled.asm["ptx"]


def test_masks_and_decompression_compile(monkeypatch):
    mask = recorded(monkeypatch, triton_select, "select_kernel")
    decode = recorded(monkeypatch, triton_decode, "decompress_kernel")
    forms = ("8:16", "bitmap"), ("2:4", "index"), ("1:2 of 4:8", "enumerative"), ("33:64", "enumerative")
    for text, encoding in forms:
        pattern = parse_pattern(text)
        if pattern.m < 64:
            device.select(torch.zeros((3, 100), dtype=torch.int8), pattern, torch.ones(100, dtype=torch.uint8))
            mask.compiled(HOPPER)
        slots = torch.zeros((3, pattern.groups(100) * pattern.n), dtype=torch.int8)
        stored = torch.zeros((3, -(-pattern.groups(100) * pattern.metadata_bits(encoding) // 8)), dtype=torch.uint8)
        device.decompress(slots, stored, 100, pattern, encoding)
        decode.compiled(HOPPER)


@pytest.mark.parametrize("expand_first", [False, True])
@pytest.mark.parametrize("text", ["2:4", "8:16"])
def test_products_use_the_tensor_cores_and_spill_nothing(text, expand_first, tmp_path, monkeypatch):
    pattern = parse_pattern(text)
    kernel = recorded(monkeypatch, triton_multiply, "multiply_kernel")
    expand = recorded(monkeypatch, triton_multiply, "expand_kernel")
    recorded(monkeypatch, triton_select, "compress_kernel")
    left = device.operand(torch.zeros((4096, 4096), dtype=torch.int8), pattern)
    device.multiply(left, torch.zeros((4096, 4096), dtype=torch.int8), expand_first=expand_first)
    if expand_first:
        expand.compiled(HOPPER)
    compiled = kernel.compiled(HOPPER)
    assert re.search(r"wgmma\.mma_async\.\S+\.s32\.s8\.s8", compiled.asm["ptx"])
    assert "satfinite" not in compiled.asm["ptx"]
    assert not spilled(machine_code(compiled, tmp_path))
    assert re.search(r"mma\.sync\.\S+\.s32\.s8\.s8\.s32", kernel.compiled(AMPERE, num_stages=1).asm["ptx"])


def test_products_of_one_token_compile(monkeypatch):
    kernel = recorded(monkeypatch, triton_multiply, "multiply_kernel")
    recorded(monkeypatch, triton_select, "compress_kernel")
    left = device.operand(torch.zeros((1, 64), dtype=torch.int8), parse_pattern("31:64"))
    device.multiply(left, torch.zeros((17, 64), dtype=torch.int8), torch.zeros(17, dtype=torch.int32))
    kernel.compiled(HOPPER)


def test_dequantisation_has_no_fused_multiply_add(tmp_path, monkeypatch):
    kernel = recorded(monkeypatch, triton_epilogue, "dequantize_kernel")
    acc, floats = torch.zeros((8, 300), dtype=torch.int32), torch.zeros(300)
    device.dequantize(acc, floats[:8], floats, floats)
    compiled = kernel.compiled(HOPPER)
    assert {"mul.rn.f32", "add.rn.f32"} <= set(re.findall(r"\b(?:mul|add|fma)\S*f32", compiled.asm["ptx"]))
    assert "fma" not in compiled.asm["ptx"] and "FFMA" not in machine_code(compiled, tmp_path)
    # what the option is for: without it the compiler does fuse them
    allowed = kernel.compiled(HOPPER, enable_fp_fusion=True)
    assert "fma.rn.f32" in allowed.asm["ptx"] and "FFMA" in machine_code(allowed, tmp_path)


def test_requantisation_compiles(monkeypatch):
    kernel = recorded(monkeypatch, triton_epilogue, "requantize_kernel")
    tokens, outputs = (torch.ones(size, dtype=torch.int64).numpy() for size in (8, 300))
    device.requantize(torch.zeros((8, 300), dtype=torch.int32), Multipliers(tokens, tokens, outputs, outputs))
    kernel.compiled(HOPPER)
