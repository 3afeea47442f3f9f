"""The Triton kernels on torch tensors that are on the device already: sizes, block shapes and packing decided here.

T tokens, K features, F outputs, G groups of the pattern's M features. Inputs are contiguous and were checked by the
caller. With TRITON_INTERPRET=1 in the environment before triton is first imported, everything runs on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import comb

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from accel_sim import encoding as codec
from accel_sim.functional.fixed_point import LARGEST_SHIFT, Multipliers
from accel_sim.functional.gpu import decode_kernels, epilogue_kernels, multiply_kernels, select_kernels
from accel_sim.functional.gpu.groups import BITMAP, ENUMERATIVE, INDEX
from accel_sim.functional.gpu.select_kernels import FACTORS, MASK, NONE
from accel_sim.functional.networks import selection_network
from accel_sim.pattern import Encoding, HierarchicalPattern, Pattern

INTERPRETED = not any(isinstance(each, triton.JITFunction) for each in (select_kernels.compress_kernel, tl.sum))
"""Whether the kernels run on the CPU; triton's own functions decide when triton is imported, ours here."""

SPARE_BYTES = 8
"""Behind the slots that the product reads as words: the last quad's two words may reach that far."""
_ELEMENTS_AT_ONCE = {4: 8192, 8: 8192}
"""Of one program that selects, by M: 64 a thread share the cost of finding one's place."""
_FEWER_ELEMENTS_AT_ONCE = 4096
"""Of larger groups: 32 a thread, so that they fit its registers."""
_THREAD_BYTES = 16
"""What a thread loads at once: neighbouring groups that it holds anyway are packed together."""
_ENCODINGS = {"bitmap": BITMAP, "index": INDEX, "enumerative": ENUMERATIVE}


@dataclass(frozen=True)
class Slots:
    """A compressed matrix on the device: values int8 [T, G·N] with SPARE_BYTES behind them, metadata uint8 [T, B]."""

    values: Tensor
    metadata: Tensor
    pattern: Pattern
    features: int


def select(x: Tensor, pattern: Pattern, factors: Tensor | None) -> Tensor:
    """Mask bool [T, K] of codes int8 [T, K] with score factors uint8 [K], or None for plain magnitude."""
    tokens, features = x.shape
    mask = torch.empty(x.shape, dtype=torch.int8, device=x.device)
    words = _in_words(features, pattern)
    tile = _tile(tokens, pattern.groups(features), pattern)
    select_kernels.select_kernel[_grid(tokens, pattern.groups(features), tile)](
        _as_words(x, words), x if factors is None else factors, _as_words(mask, words), tokens, features,
        DECIDES=NONE if factors is None else FACTORS, WORDS=words, RAGGED=features % pattern.m != 0,
        **_levels(pattern), **tile, enable_fp_fusion=False,
    )  # fmt: skip
    return mask.view(torch.bool)


def compress(
    x: Tensor,
    pattern: Pattern,
    encoding: Encoding = "bitmap",
    *,
    factors: Tensor | None = None,
    mask: Tensor | None = None,
    field_bits: int | None = None,
) -> tuple[Slots, Tensor | None]:
    """Select (or take a `mask` bool [T, K]) and compress, in one pass over x.

    x is int8 [T, K], codes, or floats [T, K], which are quantised per token on the way. Then the scales float32 [T]
    come back too, one that is not finite where a token holds what is no finite number. `field_bits` widens bitmaps.
    """
    tokens, features = x.shape
    groups = pattern.groups(features)
    quantize = x.dtype != torch.int8
    words = _in_words(features, pattern) and not quantize
    decides = NONE if factors is None and mask is None else FACTORS if mask is None else MASK
    given = x if decides == NONE else factors if mask is None else _as_words(mask.view(torch.int8), words)

    width = field_bits or pattern.metadata_bits(encoding)
    row_bytes = -(-groups * width // 8)
    values = _empty_slots(tokens, groups * pattern.n, x.device)
    metadata = torch.empty((tokens, row_bytes), dtype=torch.uint8, device=x.device)
    scales = torch.empty(tokens, dtype=torch.float32, device=x.device) if quantize else x
    value_packing = _packing(8 * pattern.n, groups * pattern.n, pattern)
    field_packing = _packing(width, row_bytes, pattern)
    together = max(value_packing.together, field_packing.together)
    tile = _tile(tokens, groups, pattern, together)
    if quantize:
        tile["BLOCK_T"] = 1
    grid = (triton.cdiv(tokens, tile["BLOCK_T"]), 1 if quantize else triton.cdiv(groups, tile["BLOCK_G"]))
    select_kernels.compress_kernel[grid](
        _as_words(x, words), given, *_binomials(pattern, x.device), scales,
        _units(values, value_packing), _units(metadata, field_packing),
        tokens, features, groups, groups * pattern.n // value_packing.unit, row_bytes // field_packing.unit,
        QUANTIZE=quantize, DECIDES=decides, WORDS=words, RAGGED=features % pattern.m != 0,
        EXACT=groups % field_packing.together == 0,
        **_levels(pattern), **_fields(pattern, encoding, width),
        VALUES_TOGETHER=value_packing.together, VALUE_UNIT=value_packing.unit,
        FIELDS_TOGETHER=field_packing.together, METADATA_UNIT=field_packing.unit,
        **tile, BLOCK_K=_power_of_two(tile["BLOCK_G"] * pattern.m), enable_fp_fusion=False,
    )  # fmt: skip
    return Slots(values, metadata, pattern, features), scales if quantize else None


def decompress(
    values: Tensor, metadata: Tensor, features: int, pattern: Pattern, encoding: Encoding
) -> tuple[Tensor, Tensor]:
    """Dense codes int8 [T, K] of values int8 [T, G·N] and metadata uint8 [T, B], and bool [T, G]: a code word?"""
    tokens, groups = values.shape[0], pattern.groups(features)
    dense = torch.zeros((tokens, features), dtype=torch.int8, device=values.device)
    valid = torch.empty((tokens, groups), dtype=torch.int8, device=values.device)
    two = isinstance(pattern, HierarchicalPattern)
    inner, outer = (pattern.inner, pattern.outer) if two else (pattern, Pattern("1:1"))
    tile = _tile(tokens, groups, pattern)
    levels = {key: value for key, value in _levels(pattern).items() if not key.endswith("NETWORK")}
    decode_kernels.decompress_kernel[_grid(tokens, groups, tile)](
        values, metadata, *_binomials(pattern, values.device), dense, valid,
        tokens, features, groups, values.shape[1], metadata.shape[1], comb(inner.m, inner.n), comb(outer.m, outer.n),
        **levels, **_fields(pattern, encoding, pattern.metadata_bits(encoding)), **tile,
    )  # fmt: skip
    return dense, valid.view(torch.bool)


def operand_bits(pattern: Pattern) -> int:
    """Bits of a group's bitmap as the product reads it: M, or the next power of two from 4 on."""
    return max(4, _power_of_two(pattern.m))


def operand(x: Tensor, pattern: Pattern, *, factors: Tensor | None = None, mask: Tensor | None = None) -> Slots:
    """The compressed operand of `multiply`: bitmaps of `operand_bits`. Two levels need the mask, and become one."""
    flat = Pattern(f"{pattern.n}:{pattern.m}")
    return compress(x, flat, factors=factors, mask=mask, field_bits=operand_bits(flat))[0]


def stored_weights(w: Tensor, pattern: Pattern) -> Tensor:
    """Weights int8 [K, F] as `multiply` reads them: int8 [F, K'], groups padded with zeros to `operand_bits`."""
    features, outputs = w.shape
    groups, bits = pattern.groups(features), operand_bits(pattern)
    padded = torch.nn.functional.pad(w.t(), (0, groups * pattern.m - features)).view(outputs, groups, pattern.m)
    return torch.nn.functional.pad(padded, (0, bits - pattern.m)).view(outputs, groups * bits).contiguous()


def multiply(left: Slots, weights: Tensor, bias: Tensor | None = None, *, expand_first: bool = False) -> Tensor:
    """acc int32 [T, F]: the `operand` times `stored_weights` int8 [F, K'], from `bias` int32 [F] on.

    With `expand_first` the operand is expanded once, to memory; else every tile of outputs expands what it needs.
    """
    bits = operand_bits(left.pattern)
    tokens, (outputs, features) = left.metadata.shape[0], weights.shape
    values, fields = _with_spare(left.values).view(torch.int32), _bitmaps(left.metadata, bits)
    sizes = (left.values.shape[1], fields.shape[1])
    shape = {"N": left.pattern.n, "M": bits}
    if expand_first:
        dense = torch.empty((tokens, features), dtype=torch.int8, device=weights.device)
        block = {"BLOCK_T": min(8, _power_of_two(tokens)), "BLOCK_K": min(512, _power_of_two(features))}
        grid = (triton.cdiv(tokens, block["BLOCK_T"]), triton.cdiv(features, block["BLOCK_K"]))
        multiply_kernels.expand_kernel[grid](values, fields, dense, tokens, features, *sizes, **shape, **block)
        values = dense
    acc = torch.empty((tokens, outputs), dtype=torch.int32, device=weights.device)
    tile = _product_tile(tokens, outputs, features, expand_first)
    grid = (triton.cdiv(tokens, tile["BLOCK_T"]) * triton.cdiv(outputs, tile["BLOCK_F"]),)
    multiply_kernels.multiply_kernel[grid](
        values, fields, weights, acc if bias is None else bias, acc, tokens, features, outputs, *sizes,
        EXPANDED=expand_first, **shape, BIASED=bias is not None, GROUP_ROWS=8, **tile,
    )  # fmt: skip
    return acc


def _product_tile(tokens: int, outputs: int, features: int, expanded: bool) -> dict[str, int]:
    """Two warp groups on 128 × 256 sums where there are that many, else fewer.

    Expanding a tile takes registers beside the sums; with half the features and one stage less nothing is spilled.
    """
    block_t = min(128, max(16, _power_of_two(tokens)))
    block_f = min(256 if block_t == 128 else 128, max(16, _power_of_two(outputs)))
    block_k = min(128 if expanded else 64, max(32, _power_of_two(features)))
    return {
        "BLOCK_T": block_t,
        "BLOCK_F": block_f,
        "BLOCK_K": block_k,
        "num_warps": 8 if block_t * block_f >= 128 * 256 else 4,
        "num_stages": 3 if expanded else 2,
    }


def requantize(acc: Tensor, constants: Multipliers) -> Tensor:
    """Codes int8 [T, F] of acc int32 [T, F]."""
    codes = torch.empty(acc.shape, dtype=torch.int8, device=acc.device)
    vectors = (
        constants.token_mantissa, constants.token_exponent, constants.output_mantissa, constants.output_exponent,
    )  # fmt: skip
    tile = _output_tile(*acc.shape)
    epilogue_kernels.requantize_kernel[_output_grid(*acc.shape, tile)](
        acc, *(torch.tensor(each, device=acc.device) for each in vectors), codes, *acc.shape,
        LARGEST_SHIFT=LARGEST_SHIFT, **tile,
    )  # fmt: skip
    return codes


def dequantize(acc: Tensor, scale_x: Tensor, scale_w: Tensor, bias: Tensor | None) -> Tensor:
    """Floats float32 [T, F] of acc int32 [T, F]; product and sum rounded one after the other."""
    floats = torch.empty(acc.shape, dtype=torch.float32, device=acc.device)
    tile = _output_tile(*acc.shape)
    epilogue_kernels.dequantize_kernel[_output_grid(*acc.shape, tile)](
        acc, scale_x, scale_w, scale_w if bias is None else bias, floats, *acc.shape,
        BIASED=bias is not None, **tile, enable_fp_fusion=False,
    )  # fmt: skip
    return floats


@dataclass(frozen=True)
class _Packing:
    together: int
    """Groups whose fields are joined before they are stored."""
    unit: int
    """Bytes of one store."""


def _packing(width: int, row_bytes: int, pattern: Pattern) -> _Packing:
    """Enough groups together for whole bytes, and for what one thread holds; the largest unit that rows are made of."""
    if width == 0:
        return _Packing(1, 1)
    whole = 8 // np.gcd(width, 8)
    together = int(max(whole, _power_of_two(_THREAD_BYTES // pattern.m or 1)))
    unit = next(size for size in (4, 2, 1) if together * width // 8 % size == 0 and row_bytes % size == 0)
    return _Packing(together, unit)


def _units(tensor: Tensor, packing: _Packing) -> Tensor:
    return tensor.view({1: torch.int8, 2: torch.int16, 4: torch.int32}[packing.unit])


def _levels(pattern: Pattern) -> dict[str, object]:
    two = isinstance(pattern, HierarchicalPattern)
    inner, outer = (pattern.inner, pattern.outer) if two else (pattern, Pattern("1:1"))
    return {
        "OUTER_N": outer.n,
        "OUTER_M": outer.m,
        "INNER_N": inner.n,
        "INNER_M": inner.m,
        "OUTER_NETWORK": _network(outer),
        "INNER_NETWORK": _network(inner),
    }


def _network(level: Pattern) -> tuple[tuple[int, int], ...]:
    return tuple((int(low), int(high)) for low, high in selection_network(level.n, level.m))


def _fields(pattern: Pattern, encoding: Encoding, width: int) -> dict[str, object]:
    """Bits of each level's fields; `width` is that of a whole group of one level."""
    if not isinstance(pattern, HierarchicalPattern):
        bits = codec.field_bits(pattern, encoding)
        return {
            "ENCODING": _ENCODINGS[encoding],
            "OUTER_BITS": 0,
            "OUTER_WIDTH": 0,
            "INNER_BITS": bits,
            "INNER_WIDTH": width,
        }
    outer, inner = pattern.outer, pattern.inner
    return {
        "ENCODING": _ENCODINGS[encoding],
        "OUTER_BITS": codec.field_bits(outer, encoding),
        "OUTER_WIDTH": outer.metadata_bits(encoding),
        "INNER_BITS": codec.field_bits(inner, encoding),
        "INNER_WIDTH": inner.metadata_bits(encoding),
    }


@cache
def _binomials(pattern: Pattern, device: torch.device) -> tuple[Tensor, Tensor]:
    """C(p, i+1) int64 [N, M] of the inner and of the outer level."""
    two = isinstance(pattern, HierarchicalPattern)
    levels = (pattern.inner, pattern.outer) if two else (pattern, Pattern("1:1"))
    inner, outer = (torch.tensor(codec.binomials(level).astype(np.int64), device=device) for level in levels)
    return inner, outer


def _in_words(features: int, pattern: Pattern) -> bool:
    """Whether four codes can be moved as one int32: rows and groups are whole words."""
    return features % 4 == 0 and pattern.m % 4 == 0


def _as_words(tensor: Tensor, words: bool) -> Tensor:
    return tensor.view(torch.int32) if words else tensor


def _empty_slots(tokens: int, row_bytes: int, device: torch.device) -> Tensor:
    """int8 [T, row_bytes], the first part of a buffer of whole words that is SPARE_BYTES longer.

    What the spare bytes hold is read, and never used: no bit of a bitmap belongs to them.
    """
    size = tokens * row_bytes
    buffer = torch.empty(size + SPARE_BYTES + -size % 4, dtype=torch.int8, device=device)
    return buffer[:size].view(tokens, row_bytes)


def _with_spare(values: Tensor) -> Tensor:
    """The whole buffer of `_empty_slots`."""
    return torch.as_strided(values, (values.untyped_storage().nbytes(),), (1,), 0)


def _bitmaps(metadata: Tensor, bits: int) -> Tensor:
    kinds = {4: torch.uint8, 8: torch.uint8, 16: torch.uint16, 32: torch.uint32, 64: torch.uint64}
    return metadata.view(kinds[bits])


def _tile(tokens: int, groups: int, pattern: Pattern, together: int = 1) -> dict[str, int]:
    """Groups and, where a row has few of them, tokens of one program; groups are a multiple of `together`."""
    width = _power_of_two(pattern.m)
    at_once = _ELEMENTS_AT_ONCE.get(width, _FEWER_ELEMENTS_AT_ONCE) // width
    block_g = max(together, min(at_once, _power_of_two(groups)))
    return {"BLOCK_T": max(1, min(_power_of_two(tokens), at_once // block_g)), "BLOCK_G": block_g}


def _grid(tokens: int, groups: int, tile: dict[str, int]) -> tuple[int, int]:
    return triton.cdiv(tokens, tile["BLOCK_T"]), triton.cdiv(groups, tile["BLOCK_G"])


def _output_tile(tokens: int, outputs: int) -> dict[str, int]:
    block_f = min(256, _power_of_two(outputs))
    return {"BLOCK_T": min(_power_of_two(tokens), 1024 // block_f), "BLOCK_F": block_f}


def _output_grid(tokens: int, outputs: int, tile: dict[str, int]) -> tuple[int, int]:
    return triton.cdiv(tokens, tile["BLOCK_T"]), triton.cdiv(outputs, tile["BLOCK_F"])


def _power_of_two(number: int) -> int:
    """The least that is not below `number`."""
    return 1 << max(0, number - 1).bit_length()
