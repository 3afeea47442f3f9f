"""What a neuron is worth to a token."""

from __future__ import annotations

import torch
from torch import Tensor

from accel_sim.sparsify.contextual.ffn import GatedFfn
from accel_sim.sparsify.contextual.options import Importance


def importance(ffn: GatedFfn, x: Tensor, kind: Importance) -> Tensor:
    """w float32 [T, D], not negative, of x [T, d]: the cost of leaving neuron i out for token t.

    `full` is (act(gate)·up)²·‖W_down[:, i]‖², the squared norm of what the neuron adds to the output (SVDP, Algorithm
    2); `gate_up` leaves the column's norm out, `gate` the up half as well (the paper's ablation).
    """
    if kind == "gate":
        return ffn.gate_activations(x).square()
    squares = ffn.products(x).square()
    if kind == "gate_up":
        return squares
    return squares * ffn.down.double().square().sum(dim=0).float()


def gate_sparsity(ffn: GatedFfn, x: Tensor, tokens: int = 1024) -> float:
    """Share of (token, neuron) pairs of x [T, d] whose gate is zero, taken so many `tokens` at a time."""
    is_open = sum(int(torch.count_nonzero(ffn.open_gates(rows))) for rows in x.split(tokens))
    return 1 - is_open / (len(x) * ffn.intermediate)
