"""Tensors on their way to host memory while the device goes on computing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class HostCopy:
    """Copies of some tensors, started when it is made and there when :meth:`wait` returns.

    What lies on a CUDA device is packed and travels in one piece, to pinned memory and on a stream of its own, so that
    neither the host nor the model's stream waits for it. What is on the host already is handed on as it is.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = list(tensors)
        self._packed = []
        for device in {each.device for each in tensors if each.device.type == "cuda"}:
            places = [place for place, each in enumerate(tensors) if each.device == device]
            self._packed.append((places, _Packed([tensors[place] for place in places], device)))
            for place in places:  # what was packed need not stay
                self._tensors[place] = torch.empty(0)

    def wait(self) -> list[Tensor]:
        """The tensors on the host, in their order."""
        for places, packed in self._packed:
            for place, tensor in zip(places, packed.wait(), strict=True):
                self._tensors[place] = tensor
        return self._tensors


class _Packed:
    """The bytes of some tensors of one CUDA device, on their way to pinned memory."""

    def __init__(self, tensors: list[Tensor], device: torch.device) -> None:
        self._kinds = [(each.shape, each.dtype) for each in tensors]
        packed = pack(tensors)
        self._host = torch.empty(len(packed), dtype=torch.uint8, pin_memory=True)
        stream = _copying_stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            self._host.copy_(packed, non_blocking=True)
            self._arrived = stream.record_event()
        packed.record_stream(stream)  # its memory is not given away before the copy has ended

    def wait(self) -> list[Tensor]:
        self._arrived.synchronize()
        return unpack(self._host, self._kinds)


def pack(tensors: Sequence[Tensor]) -> Tensor:
    """The bytes of contiguous tensors, uint8 [n]: those of the widest elements first, so that all stay aligned."""
    return torch.cat([tensors[i].reshape(-1).view(torch.uint8) for i in _order([each.dtype for each in tensors])])


def unpack(packed: Tensor, kinds: Sequence[tuple[torch.Size, torch.dtype]]) -> list[Tensor]:
    """The tensors of these shapes and types, in their order, that `pack` made `packed` of; they share its memory."""
    found: dict[int, Tensor] = {}
    start = 0
    for index in _order([dtype for _, dtype in kinds]):
        shape, dtype = kinds[index]
        end = start + shape.numel() * dtype.itemsize
        found[index] = packed[start:end].view(dtype).reshape(shape)
        start = end
    return [found[index] for index in range(len(kinds))]


def _order(dtypes: list[torch.dtype]) -> list[int]:
    return sorted(range(len(dtypes)), key=lambda index: -dtypes[index].itemsize)


_streams: dict[torch.device, torch.cuda.Stream] = {}


def _copying_stream(device: torch.device) -> torch.cuda.Stream:
    if device not in _streams:
        _streams[device] = torch.cuda.Stream(device)
    return _streams[device]
