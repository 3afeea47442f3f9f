"""The Triton kernels compiled for named GPUs, with the constants of real launches; no GPU is needed.

test_functional_triton.py runs this in a process in which nothing is interpreted.
"""

import re
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parent.parent))  # the benchmarks are scripts of the checkout

from accel_sim.functional.fixed_point import Multipliers
from accel_sim.functional.gpu import decode_kernels, device, epilogue_kernels, multiply_kernels, select_kernels
from accel_sim.pattern import parse_pattern
from accel_sim.quantize import triton_int8
from benchmarks.triton_ahead import Recorder, instructions, machine_code, spills

HOPPER, AMPERE = 90, 80
PATTERNS = ("2:4", "4:8", "8:16", "16:32", "1:4", "3:4")


def recorded(monkeypatch, module, name):
    recorder = Recorder(getattr(module, name))
    monkeypatch.setattr(module, name, recorder)
    return recorder


@pytest.mark.parametrize("text", PATTERNS)
def test_selection_fits_its_registers_and_crosses_threads_only_to_pack(text, monkeypatch):
    kernel = recorded(monkeypatch, select_kernels, "compress_kernel")
    pattern = parse_pattern(text)
    device.compress(torch.zeros((64, 4096), dtype=torch.int8), pattern)
    compiled = kernel.compiled(HOPPER)
    assert spills(compiled.asm["cubin"]) == 0
    assert compiled.metadata.shared <= 4096
    elements_a_thread = 8192 // 128 if pattern.m <= 8 else 4096 // 128
    assert 5 < instructions(compiled.asm["cubin"]) / elements_a_thread < 30  # counting ranks in pairs takes M and more


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
    kernel = recorded(monkeypatch, select_kernels, "compress_kernel")
    device.compress(torch.zeros(shape, dtype=dtype), parse_pattern(text), encoding)
    compiled = kernel.compiled(AMPERE)
    if dtype != torch.int8:
        assert "div.full" not in compiled.asm["ptx"] and "rcp" not in compiled.asm["ptx"].replace("rcp.rn.f64", "")
        assert ".ftz" not in compiled.asm["ptx"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("target", [AMPERE, HOPPER])
def test_quantisation_compiles_with_a_division_that_rounds(dtype, target, monkeypatch):
    kernel = recorded(monkeypatch, triton_int8, "quantize_kernel")
    triton_int8.quantize(torch.zeros((3, 14336), dtype=dtype))
    compiled = kernel.compiled(target)
    assert spills(compiled.asm["cubin"]) == 0
    assert "div.full" not in compiled.asm["ptx"] and ".ftz" not in compiled.asm["ptx"]


def test_masks_and_decompression_compile(monkeypatch):
    mask = recorded(monkeypatch, select_kernels, "select_kernel")
    decode = recorded(monkeypatch, decode_kernels, "decompress_kernel")
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
def test_products_use_the_tensor_cores_and_spill_nothing(text, expand_first, monkeypatch):
    pattern = parse_pattern(text)
    kernel = recorded(monkeypatch, multiply_kernels, "multiply_kernel")
    expand = recorded(monkeypatch, multiply_kernels, "expand_kernel")
    recorded(monkeypatch, select_kernels, "compress_kernel")
    left = device.operand(torch.zeros((4096, 4096), dtype=torch.int8), pattern)
    device.multiply(left, torch.zeros((4096, 4096), dtype=torch.int8), expand_first=expand_first)
    if expand_first:
        expand.compiled(HOPPER)
    compiled = kernel.compiled(HOPPER)
    assert re.search(r"wgmma\.mma_async\.\S+\.s32\.s8\.s8", compiled.asm["ptx"])
    assert "satfinite" not in compiled.asm["ptx"]
    assert spills(compiled.asm["cubin"]) == 0
    assert re.search(r"mma\.sync\.\S+\.s32\.s8\.s8\.s32", kernel.compiled(AMPERE, num_stages=1).asm["ptx"])


def test_products_of_one_token_compile(monkeypatch):
    kernel = recorded(monkeypatch, multiply_kernels, "multiply_kernel")
    recorded(monkeypatch, select_kernels, "compress_kernel")
    left = device.operand(torch.zeros((1, 64), dtype=torch.int8), parse_pattern("31:64"))
    device.multiply(left, torch.zeros((17, 64), dtype=torch.int8), torch.zeros(17, dtype=torch.int32))
    kernel.compiled(HOPPER)


def test_dequantisation_has_no_fused_multiply_add(monkeypatch):
    kernel = recorded(monkeypatch, epilogue_kernels, "dequantize_kernel")
    acc, floats = torch.zeros((8, 300), dtype=torch.int32), torch.zeros(300)
    device.dequantize(acc, floats[:8], floats, floats)
    compiled = kernel.compiled(HOPPER)
    assert {"mul.rn.f32", "add.rn.f32"} <= set(re.findall(r"\b(?:mul|add|fma)\S*f32", compiled.asm["ptx"]))
    assert "fma" not in compiled.asm["ptx"] and "FFMA" not in machine_code(compiled.asm["cubin"])
    # what the option is for: without it the compiler does fuse them
    allowed = kernel.compiled(HOPPER, enable_fp_fusion=True)
    assert "fma.rn.f32" in allowed.asm["ptx"] and "FFMA" in machine_code(allowed.asm["cubin"])


def test_requantisation_compiles(monkeypatch):
    kernel = recorded(monkeypatch, epilogue_kernels, "requantize_kernel")
    tokens, outputs = (torch.ones(size, dtype=torch.int64).numpy() for size in (8, 300))
    device.requantize(torch.zeros((8, 300), dtype=torch.int32), Multipliers(tokens, tokens, outputs, outputs))
    kernel.compiled(HOPPER)
