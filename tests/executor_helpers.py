"""FFNs with random weights, masks of every nasty kind, and how far float sums may differ."""

from __future__ import annotations

import numpy as np

from accel_sim.executors import GatedFFN

SIZES = [(70, 129), (200, 301), (64, 64), (5, 3), (1, 1)]
"""d and D: nothing aligned, more than one lane block, exactly one, less than one."""


def random_ffn(d: int, neurons: int, seed: int = 0, biases: bool = True, **changes) -> GatedFFN:
    draw = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return draw.standard_normal(shape).astype(np.float32)

    parts = {"gate": normal(neurons, d), "up": normal(neurons, d), "down": normal(d, neurons)}
    if biases:
        parts |= {"gate_bias": normal(neurons), "up_bias": normal(neurons), "down_bias": normal(d)}
    return GatedFFN.of(**parts, **changes)


def random_x(tokens: int, d: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((tokens, d)).astype(np.float32)


def masks(tokens: int, neurons: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(2)
    one = np.zeros((tokens, neurons), bool)
    one[-1, -1] = True
    ties = np.where(draw.random((tokens, neurons)) < 0.5, 0.0, draw.standard_normal((tokens, neurons)))
    return {
        "none": np.zeros((tokens, neurons), bool),
        "all": np.ones((tokens, neurons), bool),
        "one neuron of one token": one,
        "half": draw.random((tokens, neurons)) < 0.5,
        "scores with ties at zero": ties.astype(np.float32),
        "negative scores": -np.abs(draw.standard_normal((tokens, neurons))).astype(np.float32),
    }


def error_bound(ffn: GatedFFN, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """[T, d]: how far two orders of the same float32 sums can be apart, twice γ_n Σ|terms| through both products.

    γ_n = n·u / (1 − n·u) (Higham, Accuracy and Stability of Numerical Algorithms, §3.1). A gate within its own error
    of the threshold may fall on either side, and is then worth at most that error more.
    """
    ffn = ffn.in_float32()
    wide = [np.abs(each.astype(np.float64)) for each in (ffn.gate, ffn.up, ffn.down)]
    size = np.abs(x.astype(np.float64))
    gate_size = size @ wide[0].T + np.abs(ffn.gate_bias)
    up_size = size @ wide[1].T + np.abs(ffn.up_bias)
    relative = _gamma(2 * ffn.features + 4) + _gamma(ffn.neurons + 2)
    spill = ffn.threshold if ffn.threshold else 0.0
    # at a jump of FATReLU a gate may appear or vanish whole; tests keep their gates away from it
    assert spill == 0 or _clear_of_the_jump(ffn, x)
    product = np.where(mask, gate_size * up_size, 0)
    return 2 * (relative * (product @ wide[2]) + _gamma(2) * np.abs(ffn.down_bias)) + 1e-30


def _gamma(n: int) -> float:
    unit = 2.0**-24
    return n * unit / (1 - n * unit)


def _clear_of_the_jump(ffn: GatedFFN, x: np.ndarray) -> bool:
    gate = x.astype(np.float64) @ ffn.gate.T.astype(np.float64) + ffn.gate_bias
    size = np.abs(x.astype(np.float64)) @ np.abs(ffn.gate.T.astype(np.float64)) + np.abs(ffn.gate_bias)
    return bool((np.abs(gate - ffn.threshold) > _gamma(ffn.features + 2) * size).all())


def as_bool(mask: np.ndarray) -> np.ndarray:
    return mask if mask.dtype == bool else mask > 0


def refuses_what_it_must(executor) -> None:
    """An executor class on tensors names bad values and shapes."""
    import pytest
    import torch

    from accel_sim import AccelSimError
    from accel_sim.executors.torch_ffn import TorchFFN

    ffn = executor(TorchFFN.of(random_ffn(5, 3)))
    x, scores = torch.ones(2, 5), torch.ones(2, 3)
    bad_x, bad_scores = x.clone(), scores.clone()
    bad_x[1, 4] = bad_scores[1, 2] = torch.nan
    for arguments, message in (
        ((bad_x, scores), "x: token 1, feature 4 is nan"),
        ((x, bad_scores), "score of token 1, neuron 2 is nan"),
        ((x[0],), r"x: got torch.float32 \[5\], expected floats \[tokens, 5\]"),
        ((x.int(),), "x: got torch.int32"),
        ((x, scores[:, :2]), r"mask: got torch.float32 \[2, 2\], expected bool or float scores \[2, 3\]"),
        ((x, scores > 0, "both"), "pipeline 'both'"),
        ((x, None, "parallel"), "'parallel' without a mask"),
    ):
        with pytest.raises(AccelSimError, match=message):
            ffn.run(*arguments)
