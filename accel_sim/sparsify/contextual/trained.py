"""A low-rank classifier that learns which neurons are active: the predictor of Deja Vu (arXiv 2310.17157).

Two linear layers d → r → D without bias and without anything between, the sigmoid's half as the border, binary
cross-entropy over all neurons: as in the paper's released code. It learns from far fewer tokens here (the paper took
400,000), so part of them is held back to stop in time, and features are brought to one size first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from accel_sim.errors import AccelSimError

RATE = 3e-3
"""Of AdamW, for features of size 1."""
ROWS = 128
"""Tokens a step."""
EPOCHS = 60
PATIENCE = 4
"""Epochs without a better loss on what is held back after which training stops."""
HELD_BACK = 0.1
"""Of the tokens."""


def train_low_rank(
    x: Tensor,
    active: Tensor,
    rank: int,
    *,
    seed: int = 0,
    epochs: int = EPOCHS,
    rows: int = ROWS,
    rate: float = RATE,
    patience: int = PATIENCE,
) -> tuple[Tensor, Tensor]:
    """A [D, r], B [r, d] float32 whose A·B·x is positive where a neuron is probably active.

    `x` is float32 [n, d], `active` bool [n, D]. Returned are the factors of the epoch with the least loss on a tenth of
    the tokens, drawn by `seed` and not trained on. The same seed gives the same factors on the same device.

    Raises AccelSimError for fewer than two tokens, shapes that do not fit, a rank below 1 or above min(D, d), and
    values that are not finite.
    """
    if x.dim() != 2 or active.dim() != 2 or len(x) != len(active) or len(x) < 2:
        shapes = f"activations {list(x.shape)}, active {list(active.shape)}"
        raise AccelSimError(f"trained predictor: {shapes}; expected [n, d] and [n, D] of at least two tokens")
    hidden, neurons = x.shape[1], active.shape[1]
    if not 1 <= rank <= min(hidden, neurons):
        raise AccelSimError(f"trained predictor: rank {rank}; expected from 1 to {min(hidden, neurons)}")
    x = x.detach().float()
    if not bool(torch.isfinite(x).all()):
        raise AccelSimError("trained predictor: activations that are not finite")
    size = x.double().square().mean(dim=0).sqrt().float()
    size[size == 0] = 1
    scaled = x / size
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=random)
    held_back, train = order.tensor_split([max(1, round(HELD_BACK * len(x)))])
    down = (torch.randn(rank, hidden, generator=random) / hidden**0.5).to(x.device).requires_grad_()
    up = (torch.randn(neurons, rank, generator=random) / rank**0.5).to(x.device).requires_grad_()

    def loss(chosen: Tensor) -> Tensor:
        chosen = chosen.to(x.device)
        return binary_cross_entropy_with_logits(scaled[chosen] @ down.mT @ up.mT, active[chosen].float())

    optimizer = torch.optim.AdamW([down, up], lr=rate)
    best, factors, since = float("inf"), (up, down), 0
    for _ in range(epochs):
        for step in train[torch.randperm(len(train), generator=random)].split(rows):
            optimizer.zero_grad()
            with torch.enable_grad():  # a model's layers are fitted while it runs, which needs none
                loss(step).backward()
            optimizer.step()
        with torch.no_grad():
            found = sum(float(loss(part)) * len(part) for part in held_back.split(rows)) / len(held_back)
        since += 1
        if found < best:
            best, factors, since = found, (up.detach().clone(), down.detach() / size), 0
        if since >= patience:
            break
    return factors
