"""The datapath on PyTorch, on the CPU or a CUDA device.

Products are dense products of the pruned codes: what is not kept adds 0, so they equal the sum over the slots.
`torch._int_mm` is the fast way, but on a CPU without VNNI it saturates pairs of products in 16 bits and returns wrong
sums, so it is compared with float64 once, and left alone where it fails.
"""

from __future__ import annotations

from math import comb

import numpy as np
import torch
from numpy.typing import NDArray

from accel_sim import encoding as codec
from accel_sim.errors import AccelSimError
from accel_sim.functional.fixed_point import LARGEST_SHIFT, Multipliers
from accel_sim.pattern import Encoding, HierarchicalPattern, Pattern

_FILLER, _DROPPED = 1, 2
"""After 0, what the mask keeps: what slots that are missing prefer, padding before what the mask drops."""
_CHECKED_SHAPES = ((1, 64, 16), (17, 1000, 24), (64, 1536, 576))
"""T, K, F of the self-check: one token, nothing aligned, a common size; the library picks its kernel by shape."""


class TorchBackend:
    note: str

    def __init__(self, device: str) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise AccelSimError("backend 'torch:cuda': torch sees no CUDA device")
        self._device = torch.device(device)
        where = torch.cuda.get_device_name() if device == "cuda" else "the CPU"
        fault = _int_mm_fault(self._device)
        self._product = _float64_product if fault else _int_mm_product
        how = (
            f"in float64, because torch._int_mm {fault}" if fault else "by torch._int_mm, self-checked against float64"
        )
        self.note = f"PyTorch {torch.__version__} on {where}; products {how}"

    def select(self, x: NDArray[np.int8], pattern: Pattern, factors: NDArray[np.uint8]) -> NDArray[np.bool_]:
        codes, factors = self._tensor(x).to(torch.int32), self._tensor(factors).to(torch.int32)
        scores = _by_group(codes.abs() * factors, pattern, padding=-1)
        if isinstance(pattern, HierarchicalPattern):
            kept = _highest_of_two_levels(scores, pattern)
        else:
            kept = _highest(scores, pattern.n)
        return _array(_by_feature(kept, x.shape[1]))

    def compress(
        self, x: NDArray[np.int8], mask: NDArray[np.bool_], pattern: Pattern, encoding: Encoding
    ) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
        codes, kept = self._tensor(x), self._tensor(mask)
        dropped_last = _by_group((~kept).to(torch.int8) * _DROPPED, pattern, padding=_FILLER)
        if isinstance(pattern, HierarchicalPattern):
            positions = _lowest_of_two_levels(dropped_last, pattern)
        else:
            positions = _lowest(dropped_last, pattern.n)
        values = torch.gather(_by_group(codes * kept, pattern, padding=0), 2, positions)
        return _array(values), _array(self._encode(positions, pattern, encoding))

    def decompress(
        self,
        values: NDArray[np.int8],
        metadata: NDArray[np.uint8],
        features: int,
        pattern: Pattern,
        encoding: Encoding,
    ) -> NDArray[np.int8]:
        tokens, groups, _ = values.shape
        positions = self._decode(self._tensor(metadata), groups, pattern, encoding)
        dense = torch.zeros((tokens, groups, pattern.m), dtype=torch.int8, device=self._device)
        return _array(_by_feature(dense.scatter_(2, positions, self._tensor(values)), features))

    def multiply(
        self,
        x: NDArray[np.int8],
        mask: NDArray[np.bool_],
        w: NDArray[np.int8],
        pattern: Pattern,
        bias: NDArray[np.int32],
    ) -> NDArray[np.int32]:
        pruned = self._tensor(x) * self._tensor(mask)
        return _array(self._product(pruned, self._tensor(w)) + self._tensor(bias))

    def requantize(self, acc: NDArray[np.int32], constants: Multipliers) -> NDArray[np.int8]:
        token = self._tensor(constants.token_mantissa)[:, None], self._tensor(constants.token_exponent)[:, None]
        output = self._tensor(constants.output_mantissa), self._tensor(constants.output_exponent)
        mantissa = (token[0] * output[0] + 2**30) >> 31
        shift = (31 - token[1] - output[1]).clamp(1, LARGEST_SHIFT)
        product = self._tensor(acc).to(torch.int64) * mantissa
        magnitude = (product.abs() + (torch.ones_like(shift) << (shift - 1))) >> shift
        return _array((product.sign() * magnitude.clamp(max=127)).to(torch.int8))

    def dequantize(
        self,
        acc: NDArray[np.int32],
        scale_x: NDArray[np.float32],
        scale_w: NDArray[np.float32],
        bias: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        scale = self._tensor(scale_x)[:, None] * self._tensor(scale_w)
        product = self._tensor(acc).to(torch.float32) * scale
        return _array(product if bias is None else product + self._tensor(bias))

    def _tensor(self, array: NDArray) -> torch.Tensor:
        """A copy of the array whose strides are those of its shape.

        NumPy may give an axis of length 1 the stride 0, PyTorch keeps it, and torch._int_mm then returns what lay in
        memory (2.13, CPU).
        """
        flat = torch.tensor(np.asarray(array).ravel(), device=self._device)
        return flat.view(np.shape(array))

    def _encode(self, positions: torch.Tensor, pattern: Pattern, encoding: Encoding) -> torch.Tensor:
        """Metadata uint8 [T, B] of positions int64 [T, G, N]."""
        if isinstance(pattern, HierarchicalPattern):
            apart = positions.unflatten(2, (pattern.outer.n, pattern.inner.n))
            inner = self._encode_level(apart % pattern.inner.m, pattern.inner, encoding)
            bits = torch.cat(
                [self._encode_level(apart[..., 0] // pattern.inner.m, pattern.outer, encoding), inner.flatten(2)], 2
            )
        else:
            bits = self._encode_level(positions, pattern, encoding)
        stream = bits.flatten(1)
        stream = torch.nn.functional.pad(stream, (0, -stream.shape[1] % 8)).unflatten(1, (-1, 8))
        return (stream << torch.arange(8, device=self._device)).sum(dim=2).to(torch.uint8)

    def _encode_level(self, positions: torch.Tensor, level: Pattern, encoding: Encoding) -> torch.Tensor:
        """Bits int64 [..., metadata_bits] of positions int64 [..., N]; fields of 64 bits use the sign bit as well."""
        if encoding == "bitmap":
            fields = (torch.ones_like(positions) << positions).sum(dim=-1, keepdim=True)
        elif encoding == "index":
            fields = positions
        else:
            slots = torch.arange(level.n, device=self._device)
            fields = self._binomials(level)[slots, positions].sum(dim=-1, keepdim=True)
        bits = torch.arange(codec.field_bits(level, encoding), device=self._device)
        return ((fields[..., None] >> bits) & 1).flatten(-2)

    def _decode(self, metadata: torch.Tensor, groups: int, pattern: Pattern, encoding: Encoding) -> torch.Tensor:
        """Positions int64 [T, G, N] of metadata uint8 [T, B]; AccelSimError where it is no code word."""
        width = pattern.metadata_bits(encoding)
        stream = (metadata[..., None].to(torch.int64) >> torch.arange(8, device=self._device)) & 1
        bits = stream.flatten(1)[:, : groups * width].reshape(metadata.shape[0], groups, width)
        if isinstance(pattern, HierarchicalPattern):
            outer, inner = pattern.outer, pattern.inner
            outer_bits, inner_bits = bits.split(
                [outer.metadata_bits(encoding), width - outer.metadata_bits(encoding)], 2
            )
            chosen, valid = self._decode_level(outer_bits, outer, encoding)
            inner_bits = inner_bits.unflatten(2, (outer.n, inner.metadata_bits(encoding)))
            within, all_valid = self._decode_level(inner_bits, inner, encoding)
            valid = valid & all_valid.all(dim=2)
            positions = (chosen[..., None] * inner.m + within).flatten(2)
        else:
            positions, valid = self._decode_level(bits, pattern, encoding)
        codec.require_valid(_array(valid), pattern, encoding)
        return positions

    def _decode_level(
        self, bits: torch.Tensor, level: Pattern, encoding: Encoding
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions int64 [..., N] of bits int64 [..., metadata_bits], and bool [...]: are they a code word?"""
        if encoding == "bitmap":
            return _lowest(1 - bits, level.n), bits.sum(dim=-1) == level.n
        field_bits = codec.field_bits(level, encoding)
        weights = torch.arange(field_bits, device=self._device)
        if encoding == "index":
            positions = (bits.unflatten(-1, (level.n, field_bits)) << weights).sum(dim=-1)
            return positions, (positions.diff(dim=-1) > 0).all(dim=-1) & (positions[..., -1] < level.m)
        return self._unrank((bits << weights).sum(dim=-1), level)

    def _unrank(self, ranks: torch.Tensor, level: Pattern) -> tuple[torch.Tensor, torch.Tensor]:
        positions = torch.empty((*ranks.shape, level.n), dtype=torch.int64, device=self._device)
        left = ranks.clone()
        for slot in reversed(range(level.n)):
            column = self._binomials(level)[slot].contiguous()
            positions[..., slot] = torch.searchsorted(column, left, right=True) - 1
            left -= column[positions[..., slot]]
        return positions, ranks < comb(level.m, level.n)

    def _binomials(self, level: Pattern) -> torch.Tensor:
        return self._tensor(codec.binomials(level).astype(np.int64))  # C(63, 32) < 2^63


def _highest(scores: torch.Tensor, n: int) -> torch.Tensor:
    """Mask of the `n` highest along the last axis of scores int32 [..., M], ties to the lower position."""
    m = scores.shape[-1]
    # topk breaks ties anyhow, so make every key different: the lower position has the larger key
    lower_first = torch.arange(m - 1, -1, -1, dtype=scores.dtype, device=scores.device)
    best = torch.topk(scores * m + lower_first, n, dim=-1, sorted=False).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, best, True)


def _highest_of_two_levels(scores: torch.Tensor, pattern: HierarchicalPattern) -> torch.Tensor:
    """Mask [T, G, M1·M0] of scores int32 [T, G, M1·M0], padding −1, which counts nothing.

    An inner group of only padding has the sum 0 and the highest positions, so ties keep it behind every real one.
    """
    inner = scores.unflatten(2, (pattern.outer.m, pattern.inner.m))
    kept = _highest(inner, pattern.inner.n)
    strength = (inner.clamp(min=0) * kept).sum(dim=3, dtype=torch.int32)  # at most 64 · 2^15, times 64 in a key
    return (kept & _highest(strength, pattern.outer.n)[..., None]).flatten(2)


def _lowest(preference: torch.Tensor, n: int) -> torch.Tensor:
    """Positions int64 [..., N], ascending, of the `n` lowest along the last axis, equal ones by position."""
    return torch.sort(preference, dim=-1, stable=True).indices[..., :n].sort(dim=-1).values


def _lowest_of_two_levels(preference: torch.Tensor, pattern: HierarchicalPattern) -> torch.Tensor:
    """Positions int64 [T, G, N1·N0], ascending, of preferences int8 [T, G, M1·M0]: as `numpy_backend.slots`."""
    outer, inner = pattern.outer, pattern.inner
    apart = preference.unflatten(2, (outer.m, inner.m))
    least, most = apart.amin(dim=3), apart.amax(dim=3)
    chosen = _lowest(torch.where(least == 0, least, most), outer.n)[..., None]
    within = _lowest(apart, inner.n).gather(2, chosen.expand(-1, -1, -1, inner.n))
    return (chosen * inner.m + within).flatten(2)


def _int_mm_product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """x int8 [T, K] times w int8 [K, F] as int32 [T, F], by the library's INT8 kernel."""
    tokens, outputs = x.shape[0], w.shape[1]
    if x.device.type == "cuda":  # cuBLASLt wants more than 16 rows, multiples of 8, and the weights column by column
        x, w = _padded(x, 32, 8), _padded(w, 8, 8)
        w = w.t().contiguous().t()
    return torch._int_mm(x, w)[:tokens, :outputs]


def _float64_product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """The same in float64, whose 53 bits hold every INT32 sum."""
    return (x.to(torch.float64) @ w.to(torch.float64)).to(torch.int32)


def _int_mm_fault(device: torch.device) -> str:
    """What is wrong with torch._int_mm on this device; empty when it is exact on random and on saturating operands."""
    generator = np.random.default_rng(0)
    for tokens, features, outputs in _CHECKED_SHAPES:
        signs = np.where(generator.random((features, outputs)) < 0.5, -127, 127)
        largest = np.full((tokens, features), 127), np.where(np.arange(outputs) % 2, signs, 127)
        random = generator.integers(-127, 128, (tokens, features)), generator.integers(-127, 128, (features, outputs))
        for left, right in (largest, random):
            x, w = (torch.tensor(side.astype(np.int8), device=device) for side in (left, right))
            try:
                exact = torch.equal(_int_mm_product(x, w), _float64_product(x, w))
            except RuntimeError as error:
                return f"failed its self-check ({str(error).splitlines()[0]})"
            if not exact:
                return f"returned wrong sums in its self-check ({tokens}x{features}x{outputs})"
    return ""


def _padded(matrix: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    return torch.nn.functional.pad(matrix, (0, -matrix.shape[1] % columns, 0, -matrix.shape[0] % rows))


def _by_group(tensor: torch.Tensor, pattern: Pattern, padding: int) -> torch.Tensor:
    """[T, K] → [T, G, M], the last group filled up with `padding`."""
    missing = -tensor.shape[1] % pattern.m
    return torch.nn.functional.pad(tensor, (0, missing), value=padding).unflatten(1, (-1, pattern.m))


def _by_feature(grouped: torch.Tensor, features: int) -> torch.Tensor:
    """[T, G, M] → [T, K] without the padding."""
    return grouped.flatten(1)[:, :features]


def _array(tensor: torch.Tensor) -> NDArray:
    return tensor.contiguous().cpu().numpy()
