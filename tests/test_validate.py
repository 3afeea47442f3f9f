"""`accel-sim validate`: equal backends pass, and the first wrong bit is named."""

from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from accel_sim import AccelSimError, Pattern
from accel_sim.cli.validate import validate
from accel_sim.functional import backends
from accel_sim.functional.numpy_backend import NumpyBackend
from accel_sim.functional.validation import Divergence, validate_trace
from accel_sim.pattern import parse_pattern
from accel_sim.trace import Projection, Site, Trace
from accel_sim.trace.synthetic_trace import write_synthetic_trace

PATTERNS = [Pattern("2:4"), Pattern("8:16")]


def projection(name: str, outputs: int) -> Projection:
    return Projection(name=name, features=36, outputs=outputs)


def write_trace(path: Path, weights: bool) -> Trace:
    """Two layers of 11 tokens and 36 features, no multiple of 16."""
    sites = [
        Site(
            name=f"layer{layer}.input",
            layer=layer,
            features=36,
            tokens=11,
            projections=(projection(f"layer{layer}.query", 8), projection(f"layer{layer}.key", 5)),
        )
        for layer in (0, 3)
    ]
    return write_synthetic_trace(path, sites, weights=weights)


@pytest.fixture(scope="module")
def trace(tmp_path_factory) -> Trace:
    return write_trace(tmp_path_factory.mktemp("traces") / "whole", weights=True)


class OneWrongSum(NumpyBackend):
    """Off by one in one accumulator of the projections with five outputs."""

    def multiply(self, x, mask, w, pattern, bias):
        acc = super().multiply(x, mask, w, pattern, bias)
        if acc.shape[1] == 5:
            acc[7, 2] += 1
        return acc


class HigherFeatureWins(NumpyBackend):
    """Breaks ties the wrong way."""

    def select(self, x, pattern, factors):
        kept = super().select(x[:, ::-1], pattern, factors[::-1])
        return np.ascontiguousarray(kept[:, ::-1])


def run(*arguments: str):
    app = typer.Typer()
    app.command()(validate)
    return CliRunner().invoke(app, arguments)


def test_equal_backends(trace):
    comparison = validate_trace(trace, PATTERNS, {"numba": backends.backend("numba")})
    assert comparison.backends == ("numba",)
    assert (comparison.sites, comparison.tokens, comparison.projections) == (2, 22, 4)
    assert comparison.counts["mask"] == 2 * 2 * 11 * 36
    assert comparison.counts["INT32 accumulators"] == 2 * 2 * 11 * (8 + 5)
    assert comparison.counts["INT8 outputs"] == comparison.counts["INT32 accumulators"]
    assert comparison.without_weights == []


def test_first_divergence_is_named(trace):
    with pytest.raises(Divergence) as caught:
        validate_trace(trace, PATTERNS, {"numba": backends.backend("numba"), "broken": OneWrongSum()})
    found = caught.value
    assert (found.backend, found.what, found.index) == ("broken", "INT32 accumulators", (7, 2))
    assert found.layer == "layer0.key at 2:4"


def test_index_counts_tokens_of_the_whole_site(trace, monkeypatch):
    monkeypatch.setattr("accel_sim.functional.validation._TOKENS_AT_ONCE", 8)

    class LateMistake(NumpyBackend):
        def requantize(self, acc, constants):
            codes = super().requantize(acc, constants)
            if codes.shape[0] == 3:  # the second part: tokens 8, 9, 10
                codes[1, 0] ^= 1
            return codes

    with pytest.raises(Divergence, match=r"INT8 outputs\[9, 0\]"):
        validate_trace(trace, PATTERNS, {"broken": LateMistake()})


def test_wrong_tie_rule_is_found(trace):
    with pytest.raises(Divergence, match=r"layer0\.input at 2:4: mask"):
        validate_trace(trace, [Pattern("2:4"), Pattern("1:32")], {"broken": HigherFeatureWins()})


def test_another_dtype_is_a_divergence(trace):
    class Wide(NumpyBackend):
        def multiply(self, *arguments):
            return super().multiply(*arguments).astype(np.int64)

    with pytest.raises(Divergence, match="int64"):
        validate_trace(trace, PATTERNS, {"broken": Wide()})


def test_floats_are_compared_as_bits(tmp_path):
    class Zeros:
        def draw(self, generator, rows, features):
            return np.zeros((rows, features), np.float32)

    class NegativeZero(NumpyBackend):
        def dequantize(self, *arguments):
            return -super().dequantize(*arguments)

    projections = (projection("layer0.query", 8),)
    site = Site(name="layer0.input", layer=0, features=36, tokens=2, projections=projections)
    trace = write_synthetic_trace(tmp_path / "t", [site], Zeros(), weights=True)
    with pytest.raises(Divergence, match=r"float32 outputs\[0, 0\] is -0\.0 from backend broken, and 0\.0 from"):
        validate_trace(trace, PATTERNS, {"broken": NegativeZero()})


def test_without_weights(tmp_path):
    comparison = validate_trace(
        write_trace(tmp_path / "t", weights=False), PATTERNS, {"numba": backends.backend("numba")}
    )
    assert comparison.projections == 0
    assert comparison.without_weights[:2] == ["layer0.query", "layer0.key"]
    assert comparison.counts["bitmap metadata"] > 0 and "INT32 accumulators" not in comparison.counts


def test_command(trace):
    result = run("--trace", str(trace.path), "--pattern", "4:8", "--layers", "3", "--rows", "5")
    assert result.exit_code == 0, result.output
    assert "1 sites, 5 token rows, 2 projections" in result.output
    assert "EQUAL" in result.output and "numba" in result.output
    for name in backends.BACKENDS:
        assert name in result.output


def test_command_with_two_levels(trace):
    result = run("--trace", str(trace.path), "--pattern", "1:2 of 4:8", "--pattern", "2:4")
    assert result.exit_code == 0, result.output
    assert "patterns     1:2 of 4:8, 2:4" in result.output and "EQUAL" in result.output


def test_the_wrong_inner_group_is_found(trace):
    class WeakestWins(NumpyBackend):
        def select(self, x, pattern, factors):
            kept = super().select(x, pattern.inner, factors)
            return kept & ~super().select(x, pattern, factors)

    pattern = parse_pattern("1:2 of 4:8")
    with pytest.raises(Divergence, match=r"layer0\.input at 1:2 of 4:8: mask with factors"):
        validate_trace(trace, [pattern], {"broken": WeakestWins()})


def test_command_with_a_broken_backend(trace, monkeypatch):
    monkeypatch.setitem(backends._BACKENDS, "numba", OneWrongSum)
    backends.backend.cache_clear()
    try:
        result = run("--trace", str(trace.path))
    finally:
        backends.backend.cache_clear()
    assert result.exit_code == 1
    assert "layer0.key at 2:4: INT32 accumulators[7, 2]" in result.output and "backend numba" in result.output


def test_command_without_torch(trace, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    backends.backend.cache_clear()
    try:
        result = run("--trace", str(trace.path), "--rows", "2")
    finally:
        backends.backend.cache_clear()
    assert result.exit_code == 0
    assert "torch is not installed" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layers", "7"], "no layer 7; there are 0,3"),
        (["--layers", "0-999999999"], "no layer 1; there are 0,3"),
        (["--layers", "x"], "expected indices and ranges"),
        (["--pattern", "9:4"], "1 <= N <= M"),
        (["--pattern", "1:2 of 9:4"], "1 <= N <= M"),
        (["--pattern", "1:2 of 4:8 of 2:4"], "expected N1:M1 of N0:M0"),
    ],
)
def test_command_refuses(trace, arguments, message):
    result = run("--trace", str(trace.path), *arguments)
    assert isinstance(result.exception, AccelSimError) and message in str(result.exception)


def test_cuda_that_was_asked_for_must_be_there(trace):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is there")
    result = run("--trace", str(trace.path), "--device", "cuda")
    assert isinstance(result.exception, AccelSimError) and "no CUDA device" in str(result.exception)
