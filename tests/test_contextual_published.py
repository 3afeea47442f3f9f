"""SVDP's tables beside ours: the card's model from byte counts, its variants, and the files."""

import json
from functools import cache

import pytest
import typer
from typer.testing import CliRunner

from accel_sim import AccelSimError
from accel_sim.cli.contextual_published import contextual_published
from accel_sim.simulation import Settings, simulate
from accel_sim.study import contextual_published as study_module
from accel_sim.study.contextual_gpu import Setting, count, end_to_end, relative_time
from accel_sim.study.contextual_published import AIM, VARIANTS, PublishedStudy, run
from accel_sim.study.contextual_published_output import data, markdown, verdict, write_published
from accel_sim.study.contextual_tables import Shape, _check, published
from accel_sim.workload import DrawnNeurons, decode_workload, preset_workload

TABLES = published()


@cache
def card_alone() -> PublishedStudy:
    return run(machines=())


# Tables


def test_presets_have_the_published_shapes():
    assert set(TABLES.models) == {"llama-2-7b", "mistral-7b", "qwen2-7b"}
    wrong = TABLES.models["qwen2-7b"].model_copy(
        update={"table_12": Shape(hidden=1, intermediate=2, heads=3, key_value_heads=4)}
    )
    with pytest.raises(AccelSimError, match="table 12 says"):
        _check("qwen2-7b", wrong, TABLES.models)


def test_the_authors_reading_of_s():
    neurons = TABLES.neurons(0.5)
    assert (neurons.predicted_sparsity, neurons.realised_sparsity) == (0.45, 0.9)
    assert neurons.of_layers == {0: 0.36, 1: 0.36}
    assert TABLES.neurons(0.5, "absolute") == DrawnNeurons(0.5, 0.9)


# The card


def test_bytes_are_those_of_the_models_parameters():
    """LLaMA-2-7B: 32 layers of 4·4096² and 3·4096·11008, a head of 32,000; keys and values of 100 positions."""
    counted = count(decode_workload(preset_workload("llama-2-7b", 8), 1, 100))
    assert counted.attention == 32 * 4 * 4096**2
    assert counted.head == 4096 * 32000
    assert counted.cache == 32 * 2 * 100 * 4096
    assert set(counted.matrices) == set(range(32))
    assert set(counted.matrices[7].items()) == {(f"{name}_proj", 4096 * 11008) for name in ("gate", "up", "down")}
    assert counted.predictor == 0


def test_a_cell_by_hand():
    """LLaMA-2-7B at s = 0.5 with a pencil: seconds of bytes and operations, Table 4 interpolated in time."""
    byte_s, steps = 2 / 936e9, 199
    ffn, rank = 4096 * 11008, 256
    gate = {0: 0.36, 1: 0.36}  # else 0.45
    between = lambda a, b, share: (1 - share) / a + share / b  # noqa: E731
    at = {0.36: between(1.30, 1.90, 16 / 30), 0.45: between(1.30, 1.90, 25 / 30), 0.9: between(3.34, 4.67, 10 / 15)}
    sparse_ffn = sum(at[gate.get(layer, 0.45)] + 2 * at[0.9] for layer in range(32)) * ffn
    others = 32 * 4 * 4096**2 + 4096 * 32000
    caches = 32 * 2 * 4096 * sum(range(1001, 1200))
    dense = steps * (others + 32 * 3 * ffn) * byte_s + caches * byte_s
    sparse = steps * (others + sparse_ffn + 32 * rank * (4096 + 11008)) * byte_s + caches * byte_s
    simulated = end_to_end(TABLES, "llama-2-7b", 0.5)
    assert sum(simulated.dense.values()) == pytest.approx(dense)
    assert sum(simulated.sparse.values()) == pytest.approx(sparse)
    linear = 2 * 1000 * 32 * (4 * 4096**2 + 3 * ffn) + 2 * 4096 * 32000  # the head sees the last token alone
    attention = 2 * 2 * 32 * 4096 * 1000 * 1001 / 2  # the triangle; blocks of queries compute a little more
    assert linear + attention < simulated.prefill * 71e12 < linear + 1.15 * attention
    prefill = simulated.prefill
    assert simulated.speedup == pytest.approx((prefill + dense) / (prefill + sparse))


def test_caches_that_a_window_ends_are_summed_one_by_one(monkeypatch):
    """Mistral's window is 4,096: with a prompt close to it, caches stop growing in the middle of the answer."""
    tables = TABLES.model_copy(
        update={"run": TABLES.run.model_copy(update={"prompt_tokens": 4090, "generated_tokens": 15})}
    )
    cache_s = end_to_end(tables, "mistral-7b", 0.5).dense["cache"]
    positions = sum(min(4096, context) for context in range(4091, 4105))
    assert cache_s == pytest.approx(32 * 2 * 1024 * positions * 2 / 936e9)


@pytest.mark.parametrize("interpolation", ["time", "speedup"])
@pytest.mark.parametrize("preset", TABLES.models)
def test_measured_sparsities_give_measured_times(preset, interpolation):
    relative = relative_time(TABLES, preset, interpolation)
    assert relative(0.0) == 1
    for sparsity, speedup in TABLES.models[preset].table_4.items():
        assert 1 / relative(sparsity) == pytest.approx(speedup)
    times = [relative(step / 100) for step in range(96)]
    assert times == sorted(times, reverse=True)


def test_what_was_not_measured_is_not_made_up():
    for interpolation in ("time", "speedup", "fit", "ideal"):
        with pytest.raises(AccelSimError, match=r"table 4 ends at 0\.95"):
            relative_time(TABLES, "llama-2-7b", interpolation)(0.97)
    with pytest.raises(AccelSimError, match="interpolation guess"):
        Setting(interpolation="guess")


def test_every_cell_is_within_the_aim():
    cells = card_alone().cells
    assert len(cells) == 12 and all(abs(cell.error) <= AIM for cell in cells)
    assert verdict(cells).startswith("12 of 12 cells are within 10%")


def test_switches_work_in_the_direction_they_must():
    plain = end_to_end(TABLES, "qwen2-7b", 0.5).speedup
    faster = ({"prefill": False}, {"predictor": False}, {"interpolation": "ideal"}, {"gate_sparsity": 0.95})
    for change in faster:
        assert end_to_end(TABLES, "qwen2-7b", 0.5, Setting(**change)).speedup > plain
    for change in ({"peak": 0.5}, {"gate_sparsity": 0.85}):
        assert end_to_end(TABLES, "qwen2-7b", 0.5, Setting(**change)).speedup < plain


def test_variants_are_the_same_cells():
    study = card_alone()
    assert [variant.name for variant in study.variants] == list(VARIANTS)
    assert study.variants[0].speedups == tuple(cell.simulated for cell in study.cells)
    for variant in study.variants:
        errors = [ours / cell.published - 1 for ours, cell in zip(variant.speedups, study.cells, strict=True)]
        assert variant.within_aim == sum(abs(error) <= AIM for error in errors)
        assert abs(variant.worst_error) == max(map(abs, errors))


# Our machines, on fewer layers than the models have


@cache
def on_a_machine() -> PublishedStudy:
    return run(machines=("datacenter_contextual",), models=("llama-2-7b",))


def test_a_unit_cell_is_one_run_of_the_simulator():
    study = on_a_machine()
    unit = next(unit for unit in study.units if unit.s == 0.5)
    work = TABLES.contextual("llama-2-7b", TABLES.neurons(0.5))
    from accel_sim.arch import load_arch

    settings = Settings(scope="model", quality=False)
    arch = load_arch("datacenter_contextual")
    step = simulate(arch, decode_workload(work, 1, 1100), settings=settings)
    prefill = simulate(arch.dense(), TABLES.workload("llama-2-7b"), settings=settings)
    assert unit.decode_speedup == step.speedup_time and unit.bottleneck == step.bottleneck
    expected = (prefill.time_s + 199 * step.dense_time_s) / (prefill.time_s + 199 * step.time_s)
    assert unit.end_to_end == pytest.approx(expected)
    assert unit.decode_speedup > unit.end_to_end > 1


def test_more_predicted_is_faster():
    speedups = [unit.end_to_end for unit in on_a_machine().units]
    assert speedups == sorted(speedups) and len(speedups) == 4


# Files and command


def test_the_files_hold_the_figures(tmp_path):
    study = on_a_machine()
    written = write_published(study, tmp_path)
    assert [path.name for path in written] == ["published.md", "published.json", "published.png"]
    read = json.loads((tmp_path / "published.json").read_text())
    assert len(read["cells"]) == len(read["units"]) == 4 and read["assumptions"]
    assert read["cells"][1]["simulated"] == pytest.approx(study.cells[1].simulated, rel=1e-5)
    text = (tmp_path / "published.md").read_text()
    assert f"{study.cells[0].simulated:.3f}" in text and "GA102" in text
    assert data(study)["gpu"]["bandwidth_bytes_per_s"] == 936e9
    assert "machines of ours" not in markdown(card_alone())


def test_the_command(tmp_path, monkeypatch):
    app = typer.Typer()
    app.command()(contextual_published)
    done = CliRunner().invoke(app, ["--no-machines", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "12 of 12 cells" in done.output and (tmp_path / "published.md").is_file()


def test_progress_is_told_of_every_run():
    assert study_module.simulations(("a", "b")) == 2 * 3 * 5 and study_module.simulations(()) == 0
