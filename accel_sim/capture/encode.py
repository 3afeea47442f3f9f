"""Activations as a trace stores them: made where they are, checked once they have come to the host."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from accel_sim.errors import AccelSimError
from accel_sim.quantize.int8 import quantize_tokens
from accel_sim.quantize.tensors import NOT_FINITE, quantize_on_device
from accel_sim.trace.format import StoredType


@dataclass(frozen=True)
class Encoded:
    """Rows in the stored type."""

    stored: Tensor
    """[T, K] int8 codes, or floats."""
    scales: Tensor | None
    """float32 [T] of codes; None for floats."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.stored,) if self.scales is None else (self.stored, self.scales)


def encode(rows: Tensor, dtype: StoredType, name: str, positions: np.ndarray) -> Encoded:
    """Rows [T, K] as they are stored, on their own device and without waiting for it.

    Always a copy: the model may go on to change the tensor in place before its rows are written. Raises AccelSimError
    as `arrays` does where the rows are on the host already.
    """
    if dtype != "int8":
        return Encoded(rows.to(getattr(torch, dtype), copy=True, memory_format=torch.contiguous_format), None)
    if rows.device.type != "cpu":
        return Encoded(*quantize_on_device(rows))
    codes, scales = quantize_tokens(rows.float().numpy(), name, positions)
    return Encoded(torch.from_numpy(codes), torch.from_numpy(scales))


def arrays(
    encoded: Encoded, dtype: StoredType, name: str, positions: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows and scales as arrays, bfloat16 as its bits in uint16, of tensors that have come to the host.

    Raises AccelSimError for a value that is not finite, naming `name`, its token's position and the feature.
    """
    stored = encoded.stored
    if encoded.scales is None:
        wrong = ~torch.isfinite(stored)
        if wrong.any():
            row, feature = (int(i) for i in wrong.nonzero()[0])
            value = float(stored[row, feature])
            raise AccelSimError(f"{name}: token {positions[row]}, feature {feature} is {value}, no finite {dtype}")
        return (stored.view(torch.uint16) if dtype == "bfloat16" else stored).numpy(), None
    codes, scales = stored.numpy(), encoded.scales.numpy()
    if not np.isfinite(scales).all():
        row, feature = np.argwhere(codes == NOT_FINITE)[0]
        where = f"{name}: token {positions[row]}, feature {feature}"
        raise AccelSimError(f"{where} is not finite; INT8 quantisation needs finite values")
    return codes, scales
