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
from accel_sim.pattern import Encoding, Pattern

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
        # topk breaks ties anyhow, so make every key different: the lower position has the larger key
        lower_first = torch.arange(pattern.m - 1, -1, -1, dtype=torch.int32, device=self._device)
        best = torch.topk(scores * pattern.m + lower_first, pattern.n, dim=2, sorted=False).indices
        kept = torch.zeros_like(scores, dtype=torch.bool).scatter_(2, best, True)
        return _array(_by_feature(kept, x.shape[1]))

    def compress(
        self, x: NDArray[np.int8], mask: NDArray[np.bool_], pattern: Pattern, encoding: Encoding
    ) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
        codes, kept = self._tensor(x), self._tensor(mask)
        dropped_last = _by_group((~kept).to(torch.int8) * 2, pattern, padding=1)
        positions = torch.sort(dropped_last, dim=2, stable=True).indices[..., : pattern.n].sort(dim=2).values
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
        return torch.tensor(np.asarray(array), device=self._device)

    def _encode(self, positions: torch.Tensor, pattern: Pattern, encoding: Encoding) -> torch.Tensor:
        """Metadata uint8 [T, B] of positions int64 [T, G, N]; 64-bit fields use the sign bit like any other."""
        if encoding == "bitmap":
            fields = (torch.ones_like(positions) << positions).sum(dim=2)
        elif encoding == "index":
            fields = positions.flatten(1)
        else:
            slots = torch.arange(pattern.n, device=self._device)
            fields = self._binomials(pattern)[slots, positions].sum(dim=2)
        bits = torch.arange(codec.field_bits(pattern, encoding), device=self._device)
        stream = ((fields[..., None] >> bits) & 1).flatten(1)
        stream = torch.nn.functional.pad(stream, (0, -stream.shape[1] % 8)).unflatten(1, (-1, 8))
        return (stream << torch.arange(8, device=self._device)).sum(dim=2).to(torch.uint8)

    def _decode(self, metadata: torch.Tensor, groups: int, pattern: Pattern, encoding: Encoding) -> torch.Tensor:
        """Positions int64 [T, G, N] of metadata uint8 [T, B]; AccelSimError where it is no code word."""
        field_bits = codec.field_bits(pattern, encoding)
        count = groups * pattern.n if encoding == "index" else groups
        stream = (metadata[..., None].to(torch.int64) >> torch.arange(8, device=self._device)) & 1
        bits = stream.flatten(1)[:, : count * field_bits].reshape(metadata.shape[0], count, field_bits)
        fields = (bits << torch.arange(field_bits, device=self._device)).sum(dim=2)
        if encoding == "index":
            positions = fields.unflatten(1, (groups, pattern.n))
            valid = (positions.diff(dim=2) > 0).all(dim=2) & (positions[..., -1] < pattern.m)
        elif encoding == "bitmap":
            valid = bits.sum(dim=2) == pattern.n
            positions = torch.sort(1 - bits, dim=2, stable=True).indices[..., : pattern.n]
        else:
            positions, valid = self._unrank(fields, pattern)
        codec.require_valid(_array(valid), pattern, encoding)
        return positions

    def _unrank(self, ranks: torch.Tensor, pattern: Pattern) -> tuple[torch.Tensor, torch.Tensor]:
        positions = torch.empty((*ranks.shape, pattern.n), dtype=torch.int64, device=self._device)
        left = ranks.clone()
        for slot in reversed(range(pattern.n)):
            column = self._binomials(pattern)[slot].contiguous()
            positions[..., slot] = torch.searchsorted(column, left, right=True) - 1
            left -= column[positions[..., slot]]
        return positions, ranks < comb(pattern.m, pattern.n)

    def _binomials(self, pattern: Pattern) -> torch.Tensor:
        return self._tensor(codec.binomials(pattern).astype(np.int64))  # C(63, 32) < 2^63


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
