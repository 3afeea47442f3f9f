"""The executor on a CUDA device: three Triton kernels, without an index list and without a copy."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from accel_sim.errors import AccelSimError
from accel_sim.executors.masks import Outcome, Pipeline
from accel_sim.executors.torch_ffn import TorchFFN, checked_activations, checked_mask

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_REDUCED_AT_ONCE, _REDUCED_OUTPUTS = 64, 32
"""Partial sums and outputs of one program of the reduction: few, since there is little for all of them to do."""
_REDUCING_REGISTERS = 64


@dataclass(frozen=True)
class Blocks:
    """How the kernels cut their work: powers of two and fixed, so that a result does not depend on the device.

    The defaults are reasoned for one token on a GPU with about 130 multiprocessors, at 80 % skipped and more: what is
    left there is a thousand rows of 8 KB, and all of them should be asked for at once, since a GPU must have some 4 MB
    in flight to use its memory's whole rate. `benchmarks.gpu.executors --tune` tries others on a device.
    """

    segment: int = 1024
    """Neurons that a group of programs shares: so many that about as many are needed in each."""
    programs: int = 128
    """In such a group: at 90 % skipped one for each neuron that is left, and all groups' run side by side."""
    features: int = 4096
    """Of a row of gate or up at once, all tokens together."""
    gate_warps: int = 4
    down_segment: int = 128
    """Neurons of one partial sum."""
    down_rows: int = 16
    """Rows of down in flight together, all tokens together."""
    down_outputs: int = 256
    """Outputs of a program."""
    down_warps: int = 4
    gate_registers: int = 80
    """Of a thread at one token and two bytes a weight, at most. Told a number, the compiler asks for a whole row before
    it multiplies; left alone it saves registers and waits for the memory four times. Tests read the machine code."""
    down_registers: int = 96

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("registers"):
                if not 16 <= value <= 255:
                    raise AccelSimError(f"Blocks.{field.name}: got {value}, expected 16 to 255")
            elif value < 1 or value & (value - 1):
                raise AccelSimError(f"Blocks.{field.name}: got {value}, expected a power of two")


class TritonExecutor:
    """Runs one FFN; weights fp32, fp16 or bf16, sums fp32, outputs in the dtype of the activations.

    With `check_values=False` nothing waits for the device, and a call can be captured in a CUDA graph. Raises
    AccelSimError where triton is not installed, and for weights on a CPU unless Triton interprets.
    """

    def __init__(self, ffn: TorchFFN, check_values: bool = True, blocks: Blocks | None = None) -> None:
        try:
            from accel_sim.executors import triton_kernels
        except ModuleNotFoundError as error:
            raise AccelSimError(
                f"executor 'triton': {error.name} is not installed; pip install 'accel_sim[gpu]'"
            ) from None
        if ffn.gate.device.type != "cuda" and not triton_kernels.INTERPRETED:
            raise AccelSimError(
                f"executor 'triton': weights on {ffn.gate.device}; it needs a CUDA device, or TRITON_INTERPRET=1 in the"
                " environment before triton is imported (slow: for checking)"
            )
        if ffn.gate.dtype not in _DTYPES:
            raise AccelSimError(f"executor 'triton': weights of {ffn.gate.dtype}; expected one of {_DTYPES}")
        self.ffn, self._kernels, self._check_values = ffn, triton_kernels, check_values
        self.blocks = blocks or Blocks()

    @torch.no_grad()
    def run(self, x: Tensor, mask: Tensor | None = None, pipeline: Pipeline = "sequential") -> Outcome:
        """Outputs [T, d] in the dtype of x [T, d], under `mask` [T, D]: bool, scores, or None."""
        x = checked_activations(x, self.ffn, self._check_values).contiguous()
        mask = checked_mask(mask, x, self.ffn, pipeline, self._check_values)
        with torch.cuda.device_of(x):  # Triton launches on the current device; a model may be on several
            return Outcome(self.down(self.gate_and_up(x, mask, pipeline), x.dtype), None)

    def gate_and_up(self, x: Tensor, mask: Tensor | None, pipeline: Pipeline) -> Tensor:
        """float32 [T, D]: activated gate · up, 0 where a neuron is skipped or not active. Unchecked: see `run`."""
        ffn, blocks = self.ffn, self.blocks
        tokens = x.shape[0]
        h = torch.empty((tokens, ffn.neurons), device=x.device)
        scores = h if mask is None else mask.contiguous()
        if scores.dtype == torch.bool:
            scores = scores.view(torch.uint8)
        at_once = _power_of_two(tokens)
        segment, programs = (min(_power_of_two(ffn.neurons), each) for each in (blocks.segment, blocks.programs))
        self._kernels.gate_up_kernel[(-(-ffn.neurons // segment), programs)](
            ffn.gate, ffn.gate_bias, ffn.up, ffn.up_bias, x, scores, h, ffn.threshold,
            tokens, ffn.neurons, ffn.features,
            MASKED=mask is not None, PARALLEL=pipeline == "parallel", RECTIFIED=ffn.activation == "drelu",
            SEGMENT=segment, PROGRAMS=programs,
            BLOCK_T=at_once, BLOCK_K=_within(ffn.features, blocks.features // at_once), num_warps=blocks.gate_warps,
            **_registers(tokens, blocks.gate_registers, x.dtype, ffn.gate.dtype),
        )  # fmt: skip
        return h

    def down(self, h: Tensor, dtype: torch.dtype) -> Tensor:
        """[T, d] in `dtype`, of h float32 [T, D]."""
        ffn, blocks, kernels = self.ffn, self.blocks, self._kernels
        tokens, neurons, features = h.shape[0], ffn.neurons, ffn.features
        at_once = _power_of_two(tokens)
        segments = -(-neurons // blocks.down_segment)
        partial = torch.empty((segments, tokens, features), device=h.device)
        y = torch.empty((tokens, features), dtype=dtype, device=h.device)
        rows = max(1, blocks.down_rows // at_once)
        width = _within(features, blocks.down_outputs * blocks.down_rows // (rows * at_once))
        kernels.down_kernel[(-(-features // width), segments)](
            ffn.down, h, partial, tokens, neurons, features,
            SEGMENT=blocks.down_segment, ROWS=rows, BLOCK_T=at_once, BLOCK_K=width, num_warps=blocks.down_warps,
            **_registers(tokens, blocks.down_registers, ffn.down.dtype),
        )  # fmt: skip
        kernels.reduce_kernel[(tokens, -(-features // _REDUCED_OUTPUTS))](
            partial, ffn.down_bias, y, segments, tokens, features,
            ROWS=_REDUCED_AT_ONCE, BLOCK_K=_REDUCED_OUTPUTS, **_registers(tokens, _REDUCING_REGISTERS),
        )  # fmt: skip
        return y


def _registers(tokens: int, most: int, *loaded: torch.dtype) -> dict[str, int]:
    """The compiler's option for one token, where `loaded` may be wider than two bytes; more tokens are left to it."""
    wider = max([2, *(each.itemsize for each in loaded)]) // 2
    return {"maxnreg": min(255, most * wider)} if tokens == 1 else {}


def _power_of_two(number: int) -> int:
    """The least that is not below `number`."""
    return 1 << max(0, number - 1).bit_length()


def _within(length: int, most: int) -> int:
    """Elements of a block: at most `most`, no more than cover `length`, and 16 at least."""
    return max(16, min(_power_of_two(length), most))
