"""The validation that `--device cuda` makes, on backends that are there: counts, reports, differences that count."""

import json

import numpy as np
import pytest
import typer
from test_validate import OneWrongSum, write_trace
from typer.testing import CliRunner

from accel_sim import AccelSimError
from accel_sim.cli.validate import validate
from accel_sim.functional import backends
from accel_sim.functional.drawn_cases import drawn_cases
from accel_sim.functional.numpy_backend import NumpyBackend
from accel_sim.functional.thorough import cases, validate_thoroughly
from accel_sim.functional.validation import Divergence, validate_drawn, validate_trace
from accel_sim.pattern import Pattern

PATTERN = Pattern("2:4")


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    return write_trace(tmp_path_factory.mktemp("traces") / "whole", weights=True)


@pytest.fixture
def small_large_cases(monkeypatch):
    monkeypatch.setattr("accel_sim.functional.drawn_cases._LARGE_TOKENS", 9)
    monkeypatch.setattr("accel_sim.functional.drawn_cases._LARGE_OUTPUTS", 7)


def run(*arguments: str):
    app = typer.Typer()
    app.command()(validate)
    return CliRunner().invoke(app, arguments)


def test_every_case_counts_what_it_compared(trace, small_large_cases):
    numba = backends.backend("numba")
    results = validate_thoroughly(trace, [PATTERN], {"numba": numba, "again": numba}, rows=3)
    assert len(results) == cases([PATTERN])
    by_name = {(each.name, str(each.pattern)): each for each in results}
    whole = by_name["trace", "2:4"]
    assert whole.comparison.reference == "numba" and whole.comparison.backends == ("again",)
    assert whole.int32_results == 2 * 2 * 3 * (8 + 5)  # sites, masks, tokens, outputs
    assert whole.comparison.operations == 2 * 36 * whole.int32_results
    assert set(whole.gops()) == {"numba", "again"} and min(whole.gops().values()) > 0
    sampled = by_name["trace, 3 tokens a site", "2:4"]
    assert sampled.comparison.reference == "numpy" and sampled.comparison.backends == ("numba", "again")
    assert sampled.values_compared == 2 * sum(sampled.comparison.counts.values())
    assert by_name["drawn, small", "4:4"].int32_results > 0
    assert sum(each.comparison.divergences for each in results) == 0


def test_differences_are_counted_and_the_run_goes_on(trace):
    found = validate_trace(trace, [PATTERN], {"broken": OneWrongSum()}, stop=False)
    assert found.divergences == 2  # one sum of one projection of each site
    assert [each.layer for each in found.differences] == ["layer0.key at 2:4", "layer3.key at 2:4"]
    assert found.counts["INT8 outputs"] == found.counts["INT32 accumulators"] == 2 * 11 * (8 + 5)


def test_drawn_cases_find_what_is_wrong():
    class StartsAtZero(NumpyBackend):
        def multiply(self, x, mask, w, pattern, bias):
            return super().multiply(x, mask, w, pattern, np.zeros_like(bias))

    with pytest.raises(Divergence, match=r"drawn any 1x5x19 at 2:4: INT32 accumulators"):
        validate_drawn([PATTERN], {"broken": StartsAtZero()})


def test_drawn_cases_hold_what_their_names_say():
    made = list(drawn_cases(PATTERN, large=False))
    again = list(drawn_cases(PATTERN, large=False))
    assert all(np.array_equal(one.x, other.x) for one, other in zip(made, again, strict=True))
    largest = next(each for each in made if each.name == "drawn largest 37x601x40")
    assert set(np.unique(largest.x)) == set(np.unique(largest.weight.codes)) == {-127, 127}
    assert any(each.x.shape[0] == 1 for each in made) and any(not each.x.any() for each in made)
    # the start may be so large that the sums just fit
    room = 2**31 - 1 - 601 * 127**2
    assert all(np.abs(each.weight.start.astype(np.int64)).max() <= room for each in made if each.x.shape[1] == 601)


def test_the_report(trace, small_large_cases, tmp_path):
    out = tmp_path / "report"
    result = run("--trace", str(trace.path), "--device", "cpu", "--pattern", "2:4", "--rows", "4", "--out", str(out))
    assert result.exit_code == 0, result.output
    data = json.loads((out / "validation.json").read_text())
    assert data["divergences"] == 0 and data["seconds"] > 0 and data["device"]
    assert data["values_compared"] == sum(case["values_compared"] for case in data["cases"])
    assert data["int32_results"] == sum(case["int32_results"] for case in data["cases"]) > 0
    assert data["absent"]["triton"] == "left out by --device cpu"
    assert {case["pattern"] for case in data["cases"]} == {"2:4", "4:4"}
    page = (out / "validation.md").read_text()
    assert "no value differs" in page and f"{data['int32_results']:,} INT32 results" in page
    assert "`triton`: not part of this run" in page
    assert f"compared     {data['values_compared']:,} values" in result.output


def test_a_report_of_differences_ends_with_status_1(trace, small_large_cases, tmp_path, monkeypatch):
    monkeypatch.setitem(backends._BACKENDS, "torch", OneWrongSum)
    backends.backend.cache_clear()
    try:
        result = run(
            "--trace", str(trace.path), "--device", "cpu", "--pattern", "2:4", "--rows", "9", "--out", str(tmp_path)
        )
    finally:
        backends.backend.cache_clear()
    assert result.exit_code == 1
    assert "layer0.key at 2:4: INT32 accumulators[7, 2]" in result.output
    data = json.loads((tmp_path / "validation.json").read_text())
    assert data["divergences"] == 2 * 2 * 2  # sites, masks, and the eighth token twice
    assert "values differ**" in (tmp_path / "validation.md").read_text()


def test_a_folder_that_cannot_be_written_is_refused_first(trace, tmp_path):
    (tmp_path / "file").write_text("")
    result = run("--trace", str(trace.path), "--device", "cpu", "--out", str(tmp_path / "file"))
    assert isinstance(result.exception, AccelSimError) and "is a file; expected a folder" in str(result.exception)
