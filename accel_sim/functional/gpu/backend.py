"""The datapath as Triton kernels on a CUDA device; arrays are copied there and back.

Products go through the compressed operand: slots and bitmaps are made first, and the product's kernel follows them.
"""

from __future__ import annotations

import numpy as np
import torch
import triton
from numpy.typing import NDArray

from accel_sim import encoding as codec
from accel_sim.errors import AccelSimError
from accel_sim.functional.fixed_point import Multipliers
from accel_sim.functional.gpu import device
from accel_sim.pattern import Encoding, Pattern


class TritonBackend:
    note: str

    def __init__(self) -> None:
        if device.INTERPRETED:
            self._device = torch.device("cpu")
            where = "interpreted on the CPU (TRITON_INTERPRET is set): for checking, very slow"
        elif torch.cuda.is_available():
            self._device = torch.device("cuda")
            where = f"compiled, on {torch.cuda.get_device_name()}"
        else:
            raise AccelSimError(
                "backend 'triton': torch sees no CUDA device; TRITON_INTERPRET=1 in the environment interprets the"
                " kernels on the CPU (slow: for checking)"
            )
        self.note = f"Triton {triton.__version__}, {where}; products expand the compressed operand tile by tile"

    def select(self, x: NDArray[np.int8], pattern: Pattern, factors: NDArray[np.uint8]) -> NDArray[np.bool_]:
        weighted = None if (factors == 1).all() else self._tensor(factors)
        return self._array(x.shape, lambda: device.select(self._tensor(x), pattern, weighted), np.bool_)

    def compress(
        self, x: NDArray[np.int8], mask: NDArray[np.bool_], pattern: Pattern, encoding: Encoding
    ) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
        tokens, groups = x.shape[0], pattern.groups(x.shape[1])
        if tokens == 0:
            row = codec.row_bytes(groups, pattern, encoding)
            return np.empty((0, groups, pattern.n), np.int8), np.empty((0, row), np.uint8)
        made, _ = device.compress(self._tensor(x), pattern, encoding, mask=self._tensor(mask))
        return made.values.cpu().numpy().reshape(tokens, groups, pattern.n), made.metadata.cpu().numpy()

    def decompress(
        self,
        values: NDArray[np.int8],
        metadata: NDArray[np.uint8],
        features: int,
        pattern: Pattern,
        encoding: Encoding,
    ) -> NDArray[np.int8]:
        tokens, groups, n = values.shape
        if tokens == 0:
            return np.empty((0, features), np.int8)
        flat = self._tensor(values.reshape(tokens, groups * n))
        dense, valid = device.decompress(flat, self._tensor(metadata), features, pattern, encoding)
        codec.require_valid(valid.cpu().numpy(), pattern, encoding)
        return dense.cpu().numpy()

    def multiply(
        self,
        x: NDArray[np.int8],
        mask: NDArray[np.bool_],
        w: NDArray[np.int8],
        pattern: Pattern,
        bias: NDArray[np.int32],
    ) -> NDArray[np.int32]:
        def product() -> torch.Tensor:
            left = device.operand(self._tensor(x), pattern, mask=self._tensor(mask))
            return device.multiply(left, device.stored_weights(self._tensor(w), pattern), self._tensor(bias))

        return self._array((x.shape[0], w.shape[1]), product, np.int32)

    def requantize(self, acc: NDArray[np.int32], constants: Multipliers) -> NDArray[np.int8]:
        return self._array(acc.shape, lambda: device.requantize(self._tensor(acc), constants), np.int8)

    def dequantize(
        self,
        acc: NDArray[np.int32],
        scale_x: NDArray[np.float32],
        scale_w: NDArray[np.float32],
        bias: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        scales = self._tensor(scale_x), self._tensor(scale_w)
        biases = None if bias is None else self._tensor(bias)
        return self._array(acc.shape, lambda: device.dequantize(self._tensor(acc), *scales, biases), np.float32)

    def _tensor(self, array: NDArray) -> torch.Tensor:
        """A contiguous copy on the device."""
        return torch.tensor(np.asarray(array).ravel(), device=self._device).view(np.shape(array))

    def _array(self, shape, made, dtype) -> NDArray:
        """What `made` returns, on the host; an array of no elements launches nothing."""
        return np.empty(shape, dtype) if 0 in shape else made().cpu().numpy()
