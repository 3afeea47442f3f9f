"""Counts of multiplications, options of a predictor, and what imports without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from accel_sim.errors import AccelSimError
from accel_sim.sparsify.contextual import PredictorOptions, multiplications

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from accel_sim.sparsify.contextual import PredictorOptions, multiplications
from accel_sim.sparsify.contextual.thresholds import greedy_thresholds
print(multiplications(4, 8, 1, 0.5, 0.9))
"""


def test_the_papers_example_saves_3_8_times():
    """Section 3.3: d = 4096, D = 11008, r = 256, s = 0.5, s′ = 0.9."""
    dense, sparse = multiplications(4096, 11008, 256, 0.5, 0.9)
    assert dense == 3 * 4096 * 11008
    assert dense / sparse == pytest.approx(3.818, abs=5e-4)


@given(hidden=st.integers(1, 100), neurons=st.integers(1, 100), data=st.data())
def test_extremes_of_what_is_saved(hidden, neurons, data):
    rank = data.draw(st.integers(0, min(hidden, neurons)))
    dense, nothing_saved = multiplications(hidden, neurons, rank, 0.0, 0.0)
    assert nothing_saved - dense == rank * (hidden + neurons)
    assert multiplications(hidden, neurons, rank, 1.0, 1.0)[1] == rank * (hidden + neurons)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 8, 1, 0.5, 0.9), "hidden 0"),
        ((4, 8.0, 1, 0.5, 0.9), "intermediate 8.0"),
        ((4, 8, 5, 0.5, 0.9), "rank 5: expected a whole number from 0 to 4"),
        ((4, 8, -1, 0.5, 0.9), "rank -1"),
        ((4, 8, 1, 1.5, 1.5), "predicted sparsity 1.5"),
        ((4, 8, 1, float("nan"), 0.9), "predicted sparsity nan"),
        ((4, 8, 1, 0.5, 0.4), "realised sparsity 0.4: expected a share from the predicted 0.5"),
    ],
)
def test_impossible_counts_are_named(arguments, message):
    with pytest.raises(AccelSimError, match=message):
        multiplications(*arguments)


def test_nothing_of_this_needs_torch():
    found = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("(96.0, ")


@pytest.mark.parametrize(
    "options",
    [
        {"rank": 8},
        {"kind": "trained", "rank": 8, "bias": "none"},
        {"kind": "sign_bit", "sparsity": 0.7, "bins": None},
        {"kind": "oracle", "relative": True, "importance": "gate"},
        {"rank": 8, "whitening": False, "bias": "const", "at_limit": "stop"},
    ],
)
def test_options_come_back_from_their_json(options):
    made = PredictorOptions(**options)
    assert PredictorOptions.model_validate_json(made.model_dump_json()) == made
    assert PredictorOptions(**made.model_dump(exclude_defaults=True)) == made


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "kind svd needs one"),
        ({"kind": "trained"}, "kind trained needs one"),
        ({"kind": "sign_bit", "rank": 8}, "rank 8: kind sign_bit has none"),
        ({"kind": "oracle", "rank": 8}, "rank 8: kind oracle has none"),
        ({"kind": "trained", "rank": 8, "whitening": False}, "whitening: kind trained has none"),
        ({"kind": "oracle", "bias": "const"}, "bias: kind oracle has none"),
        ({"rank": 8, "bias": "none", "relative": True}, "aims at no sparsity"),
        ({"rank": 8, "sparsity": 0.0}, "greater than 0"),
        ({"rank": 8, "sparsity": 1.0}, "less than 1"),
        ({"rank": 0}, "greater than or equal to 1"),
        ({"rank": 8, "bins": 0}, "greater than or equal to 1"),
        ({"rank": 8, "initial_cap": 0.0}, "greater than 0"),
        ({"rank": 8, "turned_off": 1.5}, "less than or equal to 1"),
        ({"rank": 8, "sparsty": 0.5}, "Extra inputs"),
        ({"kind": "SVD", "rank": 8}, "svd"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        PredictorOptions(**options)


@pytest.mark.parametrize(("share", "rank"), [("2%", 31), ("0.5%", 8), ("0.001%", 1)])
def test_a_rank_can_be_a_share_of_the_neurons(share, rank):
    assert PredictorOptions(rank=share).rank_of(1536) == rank
    assert PredictorOptions(rank=7).rank_of(1536) == 7
    assert PredictorOptions(kind="oracle").rank_of(1536) is None


@pytest.mark.parametrize("rank", ["%", "-1%", "two", 0])
def test_other_ranks_are_refused(rank):
    with pytest.raises(ValidationError, match="rank"):
        PredictorOptions(rank=rank)
