"""A trace against its statistics: thresholded data, the union over a batch, the study, its files and its command."""

import json
from functools import partial

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from accel_sim import AccelSimError
from accel_sim.arch import load_arch
from accel_sim.cli.inputs import shipped_trace
from accel_sim.cli.masks import masks
from accel_sim.occupancy import DRAWN_MODELS, MASK_MODELS, drawn_masks
from accel_sim.simulation import Settings, WorkloadStatistics, simulate
from accel_sim.study.mask_output import json_content, markdown, write_mask_study
from accel_sim.study.masks import NATURAL, Spread, mean_zero_fraction, number_of_runs, run_mask_study
from accel_sim.study.needed import expected_needed
from accel_sim.study.text import csv_text, json_text, markdown_table, percent
from accel_sim.study.thresholded import thresholded
from accel_sim.trace import Trace
from accel_sim.workload import Gemm, SiteActivations, Workload, decode_workload, gemm_workload, workload_from_trace

SHIPPED = workload_from_trace(Trace.open(shipped_trace()))
NO_STALLS = ["dram.bytes_per_cycle=100000", "technology.wires=false"]
APP = typer.Typer()
APP.command()(masks)


def made_by_hand(codes: np.ndarray, outputs: int = 256) -> Workload:
    """Two products in two decoder blocks that read the same activations int8 [T, K], all of scale 1."""
    tokens, features = codes.shape
    load = partial(tuple, (codes, np.ones(tokens, dtype=np.float32)))
    gemms = [
        Gemm(f"layers.{layer}.mlp.down_proj", f"site{layer}", tokens, features, outputs, layer=layer)
        for layer in range(2)
    ]
    return Workload("by hand", "by hand", tuple(gemms), {gemm.site: SiteActivations(load) for gemm in gemms})


def unequal_tokens(densities: np.ndarray, features: int) -> np.ndarray:
    """Codes int8 [T, K] whose token t is non-zero with densities[t], independently."""
    nonzero = np.random.default_rng(1).random((len(densities), features)) < densities[:, None]
    return np.where(nonzero, 7, 0).astype(np.int8)


ONE_BUSY_TOKEN = made_by_hand(unequal_tokens(np.tile([0.95] + [0.1] * 31, 4), 1024))
"""One token of each panel of 32 is nearly dense, and all others wait for it."""


# Thresholded data


@pytest.mark.parametrize("fraction", [0.5, 0.8, 0.9])
def test_the_stated_fraction_of_every_site_is_zero(fraction):
    variant = thresholded(SHIPPED, fraction)
    natural = WorkloadStatistics(SHIPPED)
    for name, site in variant.sites.items():
        already = natural.zeros(name, None).zero_fraction
        assert np.mean(site.load()[0] == 0) == pytest.approx(max(fraction, already), abs=0.005)
    assert mean_zero_fraction(WorkloadStatistics(variant)) == pytest.approx(fraction, abs=0.01)


def test_the_smallest_magnitudes_go_and_the_others_stay():
    site = next(iter(SHIPPED.sites))
    (codes, scales), (cut, cut_scales) = SHIPPED.sites[site].load(), thresholded(SHIPPED, 0.7).sites[site].load()
    magnitudes = np.abs(codes.astype(float)) * scales[:, None]
    gone = (cut == 0) & (codes != 0)
    assert magnitudes[gone].max() < magnitudes[cut != 0].min()
    np.testing.assert_array_equal(cut[~gone], codes[~gone])
    np.testing.assert_array_equal(cut_scales, scales)


def test_what_is_zero_by_itself_is_no_reason_to_cut_more():
    codes = np.array([[0, 0, 0, 5]], dtype=np.int8)
    assert thresholded(made_by_hand(codes), 0.5).sites["site0"].load()[0].tolist() == codes.tolist()


def test_nothing_is_read_before_it_is_asked_for():
    def refuse():
        raise AssertionError("read")

    gemm = Gemm("layer", "site", 4, 16, 16)
    variant = thresholded(Workload("name", "source", (gemm,), {"site": SiteActivations(refuse)}), 0.5)
    with pytest.raises(AssertionError, match="read"):
        variant.sites["site"].load()


def test_a_decode_step_has_the_thresholds_of_the_whole_trace():
    site = next(iter(SHIPPED.sites))
    step, natural = decode_workload(thresholded(SHIPPED, 0.8), 4), decode_workload(SHIPPED, 4)
    whole = thresholded(SHIPPED, 0.8).sites[site].load()[0]
    rows = [row for row in step.sites[site].load()[0] if not any(np.array_equal(row, one) for one in whole)]
    assert rows == []
    assert not np.array_equal(step.sites[site].load()[0], natural.sites[site].load()[0])


def test_a_variant_says_what_it_is():
    variant = thresholded(SHIPPED, 0.8)
    assert variant.name == f"{SHIPPED.name}, 80% zeros"
    assert "magnitude-thresholded to 80% zeros a site, not a ReLU model" in variant.source


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 80])
def test_fractions_lie_between_none_and_all(fraction):
    with pytest.raises(AccelSimError, match="expected a number between 0 and 1"):
        thresholded(SHIPPED, fraction)


# The union over a batch


def test_needed_features_with_a_pencil():
    """Channels set always, half the time and never; two tokens of density ½."""
    channels, tokens = np.array([1.0, 0.5, 0.0]), np.array([0.5, 0.5])
    assert expected_needed(channels, tokens, "iid") == 3 * 0.75
    assert expected_needed(channels, tokens, "marginal") == 1 + 0.75
    assert expected_needed(channels, tokens, "token") == 3 * 0.75
    assert expected_needed(channels, np.array([1.0, 0.0]), "token") == 3


@pytest.mark.parametrize("model", DRAWN_MODELS)
def test_expectations_are_the_mean_of_draws(model):
    mask = np.random.default_rng(2).random((8, 500)) < np.linspace(0.01, 0.4, 8)[:, None] * np.linspace(0.1, 1, 500)
    unions = [drawn_masks(mask, model, seed).any(axis=0).sum() for seed in range(200)]
    expected = expected_needed(mask.mean(axis=0), mask.mean(axis=1), model)
    assert abs(np.mean(unions) - expected) < 5 * np.std(unions) / np.sqrt(200)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(1, 300))
def test_one_density_for_all_channels_expects_no_less_than_their_own(densities, batch):
    """Jensen: 1 − (1 − p)^B is concave in p."""
    channels, tokens = np.array(densities), np.full(batch, np.mean(densities))
    assert expected_needed(channels, tokens, "marginal") <= expected_needed(channels, tokens, "iid") * (1 + 1e-9) + 1e-9


# The study


def study_of(workload, *names, **options):
    return run_mask_study([load_arch(name, NO_STALLS) for name in names], workload, **options)


def test_models_without_tokens_are_optimistic_where_tokens_differ():
    study = study_of(ONE_BUSY_TOKEN, "16x16_unstructured", seeds=3)
    errors = {model: study.error(NATURAL, "16x16_unstructured", model).cycles_error for model in DRAWN_MODELS}
    assert errors["iid"].high < -0.3 and errors["marginal"].high < -0.3
    assert abs(errors["token"].mean) < 0.03


def test_errors_are_those_of_two_runs_of_the_simulator():
    arch = load_arch("16x16_elastic", NO_STALLS)
    study = run_mask_study([arch], ONE_BUSY_TOKEN, seeds=2)
    real = simulate(arch, ONE_BUSY_TOKEN, settings=Settings(quality=False)).cycles
    drawn = [
        simulate(arch, ONE_BUSY_TOKEN, settings=Settings(masks="iid", seed=seed, quality=False)).cycles
        for seed in (0, 1)
    ]
    error = study.error(NATURAL, "16x16_elastic", "iid")
    assert error.cycles_error == Spread.of([cycles / real - 1 for cycles in drawn])
    assert error.speedup_error == Spread.of([real / cycles - 1 for cycles in drawn])


def test_parts_add_up_to_the_whole():
    study = study_of(SHIPPED, "16x16_unstructured", seeds=1)
    by_part = {part: 0 for part in ("all", "projections", "layer")}
    for error in study.errors:
        if error.masks == "token":
            by_part[error.part] += error.cycles
    assert by_part["all"] == by_part["projections"] == by_part["layer"] == study.times[0].cycles
    assert {e.name for e in study.errors if e.part == "projections"} == {"q/k/v", "o", "gate/up", "down"}


def test_data_without_zeros_leave_nothing_to_be_wrong_about():
    study = study_of(made_by_hand(np.full((64, 256), 3, dtype=np.int8)), "16x16_elastic", seeds=2)
    assert {error.cycles_error for error in study.errors} == {Spread(0.0, 0.0, 0.0)}


def test_more_zeros_are_faster_than_fixed():
    study = study_of(SHIPPED, "16x16_elastic", zero_fractions=(0.5, 0.9), seeds=1)
    speedups = [time.speedup_over_fixed for time in study.times]
    assert [time.data for time in study.times] == [NATURAL, "50% zeros", "90% zeros"]
    assert speedups == sorted(speedups) and speedups[-1] > 1.3
    assert all(time.fixed_cycles == time.dense_cycles for time in study.times)  # 16:16 without skipping is dense
    assert {time.window for time in study.times} == {512}


def test_gathering_machines_are_asked_about_batches():
    study = study_of(SHIPPED, "8x16_row_gather", zero_fractions=(0.9,), seeds=1, batches=(1, 8))
    assert not study.times and len(study.needed) == 2 * 2 * len(MASK_MODELS)
    real = {(one.data, one.batch): one for one in study.needed if one.masks == "real"}
    assert 0.45 < real[NATURAL, 1].share <= 0.5 < real[NATURAL, 8].share < 1
    assert real["90% zeros", 8].share < real[NATURAL, 8].share
    arch = load_arch("8x16_row_gather", NO_STALLS)
    for batch in (1, 8):
        result = simulate(arch, decode_workload(SHIPPED, batch), settings=Settings(quality=False))
        assert real[NATURAL, batch].cycles == result.cycles


def test_machines_that_skip_nothing_are_named_and_left_out():
    study = study_of(ONE_BUSY_TOKEN, "8x16", "16x16_elastic", seeds=1)
    assert study.independent == ("8x16",)
    assert {error.machine for error in study.errors} == {"16x16_elastic"}


def test_some_machine_must_depend_on_the_masks():
    with pytest.raises(AccelSimError, match="8x16: no time depends on where the non-zeros are"):
        study_of(SHIPPED, "8x16")


def test_two_fractions_of_one_name_are_refused():
    with pytest.raises(AccelSimError, match=r"--zero-fraction 0.5,0.501: expected"):
        study_of(SHIPPED, "16x16_elastic", zero_fractions=(0.5, 0.501))


def test_progress_comes_as_often_as_foretold():
    archs, told = [load_arch(name) for name in ("8x16", "16x16_elastic", "8x16_row_gather")], []
    run_mask_study(archs, ONE_BUSY_TOKEN, seeds=2, on_progress=told.append)
    assert len(told) == number_of_runs(archs, (), 2) == len(DRAWN_MODELS) * 2 + 1


# Its files and its command


def test_files_say_what_the_study_found(tmp_path):
    study = study_of(SHIPPED, "16x16_elastic", "8x16_row_gather", seeds=2, batches=(1, 4))
    written = write_mask_study(study, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written}
    assert (tmp_path / "errors_by_layer.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads((tmp_path / "masks.json").read_text())
    token = next(error for error in content["errors"] if error["masks"] == "token")
    assert token["cycles"] == study.times[0].cycles == sum(token["layer_cycles"])
    assert token["cycles_error"][0] == pytest.approx(
        study.error(NATURAL, "16x16_elastic", "token").cycles_error.mean, abs=1e-5
    )
    assert len((tmp_path / "masks.csv").read_text().splitlines()) == 1 + len(DRAWN_MODELS) * 5


def test_the_same_study_gives_the_same_bytes(tmp_path):
    study = study_of(ONE_BUSY_TOKEN, "16x16_elastic", seeds=1)
    for folder in ("a", "b"):
        write_mask_study(study, tmp_path / folder)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_the_table_shows_means_with_their_spread():
    study = study_of(ONE_BUSY_TOKEN, "16x16_elastic", seeds=2)
    error = study.error(NATURAL, "16x16_elastic", "iid").cycles_error
    assert percent(error.mean) in markdown(study)
    assert "not a ReLU model" in markdown(study) and "not a ReLU model" in json_content(study)["data"]


def test_the_command(tmp_path):
    arguments = ["--arch", "16x16_elastic", "--arch", "8x16", "--seeds", "1", "--zero-fraction", "0.8"]
    result = CliRunner().invoke(APP, [*arguments, "--batches", "1", "--out", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "note: --batches: is of machines that gather weights" in result.output
    assert "80% zeros" in result.output and "independent of where the non-zeros are: 8x16" in result.output
    assert (tmp_path / "masks.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--zero-fraction", "half"], "--zero-fraction half: expected numbers"),
        (["--zero-fraction", "1.5"], "zero fraction 1.5: expected"),
        (["--batches", "1,x"], "--batches 1,x: expected whole numbers"),
        (["--batches", "100000"], "batch"),
    ],
)
def test_what_the_command_refuses(arguments, message, tmp_path):
    with pytest.raises(AccelSimError, match=message):
        CliRunner().invoke(APP, [*arguments, "--seeds", "1", "--out", str(tmp_path / "x")], catch_exceptions=False)
    assert not (tmp_path / "x").exists()


# Text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.123, "+12.3%"), (-0.0004, "-0.04%"), (-0.0006, "-0.1%"), (1e-7, "0"), (1.5, "+150.0%")],
)
def test_percentages_hide_nothing(value, text):
    assert percent(value) == text


def test_json_has_a_row_a_line():
    content = {"name": "x", "rows": [{"a": 1.23456789, "b": [0.1, 2]}, {"a": 2, "b": []}], "none": []}
    text = json_text(content)
    assert json.loads(text) == {"name": "x", "rows": [{"a": 1.23457, "b": [0.1, 2]}, {"a": 2, "b": []}], "none": []}
    assert len(text.splitlines()) == 8


def test_tables():
    assert markdown_table(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |\n"
    assert csv_text([{"a": "x", "b": 0.1}]) == "a,b\nx,0.1\n"


def test_a_trace_is_needed_for_the_study_of_batches():
    with pytest.raises(AccelSimError, match="batch"):
        study_of(gemm_workload(["8x64x64"]), "8x16_row_gather", batches=(2**20,))
