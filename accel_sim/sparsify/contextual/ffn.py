"""A gated FFN as a predictor sees it: three weights and what makes zeros."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from accel_sim.errors import AccelSimError

Activation = Literal["relu", "drelu", "silu", "gelu", "gelu_tanh"]

ZERO = 1e-8
"""Gates up to this size count as zero, as in the code of SVDP (arXiv 2603.14110)."""

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "drelu": functional.relu,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
}


@dataclass(frozen=True, eq=False)
class GatedFfn:
    """y = W_down·(act(W_gate·x) ⊙ W_up·x), all float32; d hidden features, D neurons, T tokens.

    `activation` is a name or a function of the gate alone. `drelu` (TurboSparse, arXiv 2406.05955) takes ReLU of gate
    and up. Raises AccelSimError for weights that do not fit each other, are not float32, or not finite.
    """

    gate: Tensor
    """[D, d]"""
    up: Tensor
    """[D, d]"""
    down: Tensor
    """[d, D]"""
    activation: Activation | Callable[[Tensor], Tensor]
    gate_bias: Tensor | None = None
    """[D]"""
    up_bias: Tensor | None = None
    """[D]"""
    down_bias: Tensor | None = None
    """[d]"""

    def __post_init__(self) -> None:
        if self.gate.dim() != 2:
            raise AccelSimError(f"gated FFN: gate {list(self.gate.shape)}; expected [D, d]")
        neurons, hidden = self.gate.shape
        expected = {
            "gate": (neurons, hidden),
            "up": (neurons, hidden),
            "down": (hidden, neurons),
            "gate_bias": (neurons,),
            "up_bias": (neurons,),
            "down_bias": (hidden,),
        }
        for name, shape in expected.items():
            tensor = getattr(self, name)
            if tensor is None:
                continue
            if tensor.shape != shape or tensor.dtype != torch.float32:
                raise AccelSimError(
                    f"gated FFN: {name} {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}; "
                    f"expected float32 {list(shape)}"
                )
            if not bool(torch.isfinite(tensor).all()):
                raise AccelSimError(f"gated FFN: {name}: values that are not finite")
        if not callable(self.activation) and self.activation not in _FUNCTIONS:
            known = ", ".join(get_args(Activation))
            raise AccelSimError(f"gated FFN: activation {self.activation!r}; expected {known}, or a function")

    @property
    def hidden(self) -> int:
        return self.gate.shape[1]

    @property
    def intermediate(self) -> int:
        return self.gate.shape[0]

    def gate_activations(self, x: Tensor) -> Tensor:
        """act(W_gate·x) [T, D] of x [T, d]."""
        function = self.activation if callable(self.activation) else _FUNCTIONS[self.activation]
        return function(functional.linear(x.float(), self.gate, self.gate_bias))

    def up_values(self, x: Tensor) -> Tensor:
        """W_up·x [T, D] of x [T, d], after dReLU's second ReLU."""
        up = functional.linear(x.float(), self.up, self.up_bias)
        return functional.relu(up) if self.activation == "drelu" else up

    def products(self, x: Tensor) -> Tensor:
        """act(W_gate·x) ⊙ W_up·x [T, D] of x [T, d]: what down_proj reads."""
        return self.gate_activations(x) * self.up_values(x)

    def dense(self, x: Tensor) -> Tensor:
        """y [T, d] of x [T, d]."""
        return functional.linear(self.products(x), self.down, self.down_bias)

    def masked(self, x: Tensor, mask: Tensor) -> Tensor:
        """y [T, d] of x [T, d] with the neurons of bool mask [T, D] alone."""
        return functional.linear(torch.where(mask, self.products(x), 0), self.down, self.down_bias)

    def open_gates(self, x: Tensor) -> Tensor:
        """bool [T, D]: gates that are not zero, that is larger than 1e-8 in size."""
        return self.gate_activations(x).abs() > ZERO

    def realised(self, x: Tensor) -> Tensor:
        """bool [T, D]: the neurons that are active. With dReLU both halves must be."""
        active = self.open_gates(x)
        return active & (self.up_values(x).abs() > ZERO) if self.activation == "drelu" else active
