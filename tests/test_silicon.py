"""A card beside its model, without a card: times made by the model itself, and kernels of the CPU."""

import json
from dataclasses import replace

import numpy as np
import pytest

from accel_sim import functional
from accel_sim.arch import load_arch
from accel_sim.cli import main as cli
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.silicon import baselines
from accel_sim.silicon.comparison import MODELS, compare, p90
from accel_sim.silicon.families import FAMILIES, Family, Predictor
from accel_sim.silicon.fit import BOUNDS, START, fit
from accel_sim.silicon.model import TILE_TOKENS, Parameters, predicted, seconds, stays_in_cache
from accel_sim.silicon.report import page_lines, verdict, write_report
from accel_sim.silicon.result import Machine, Measurements, Row, read_measurements
from accel_sim.silicon.shapes import Shape, fitted_third, standard_shapes
from accel_sim.timing.core_grid import CoreGrid

CHIP = load_arch("h200", ["cores.count=6", "dram.bytes_per_cycle=400"])
"""A card small enough that small products fill it."""
SHAPES = tuple(
    Shape(tokens, *pair)
    for tokens in (16, 256, 1024, 2048)
    for pair in ((256, 512), (1024, 512), (2048, 768), (4096, 1024))
)
TRUTH = {
    "dense": Parameters(4e-6, 0.62, 0.55, 4e-7),
    "sparse": Parameters(6e-6, 0.5, 0.6, 3e-7),
    "select": Parameters(launch_s=9e-6, memory_share=0.3),
}
CARD = Machine(
    device="made by the model",
    multiprocessors=6,
    l2_bytes=1,
    driver="none",
    torch="none",
    cuda="none",
    sparse_library="none",
    selection="none",
    clocks=(),
)


def measurements(spread=0.0, times=None, shapes=SHAPES) -> Measurements:
    """What a card would give that is as the model says, but for noise; or that takes `times(shape)`."""
    random, rows = np.random.default_rng(1), []
    predictors = {family: Predictor.of(CHIP, family) for family in FAMILIES}
    for dtype in ("int8", "fp16"):
        for shape in shapes:
            took = {}
            for family in (one for one in FAMILIES if one.dtype == dtype):
                ideal = times(shape) if times else predictors[family].seconds(shape, TRUTH[family.work])
                took[family.work] = ideal * float(np.exp(random.normal(0, spread)))
            rows.append(
                Row(
                    dtype=dtype,
                    **vars(shape),
                    dense_tokens=shape.tokens,
                    sparse_tokens=shape.tokens,
                    dense_s=took["dense"],
                    sparse_s=took["sparse"],
                    select_pack_s=took["select"],
                    on_the_fly_s=took["sparse"] + took["select"],
                    exact=True if dtype == "int8" else None,
                )
            )
    return Measurements(command="made", machine=CARD, repetitions=1, rows=tuple(rows))


@pytest.fixture(scope="module")
def compared():
    return compare(measurements(spread=0.03), CHIP)


def test_a_third_is_fitted_and_every_projection_and_size_is_on_both_sides():
    shapes = standard_shapes()
    third = fitted_third(shapes)
    assert len(shapes) == len(set(shapes)) >= 40
    assert len(third) == len(shapes) // 3
    assert fitted_third(tuple(reversed(shapes))) == third
    held_out = set(shapes) - third
    for of in (lambda one: one.tokens, lambda one: (one.features, one.outputs), lambda one: one.kind):
        assert {of(shape) for shape in third} == {of(shape) for shape in held_out}


def test_the_split_by_hand():
    shapes = tuple(Shape(tokens, k, 8) for tokens in (1, 2) for k in (10, 20, 30, 40))
    assert fitted_third(shapes) == {Shape(1, 10, 8), Shape(1, 40, 8), Shape(2, 30, 8)}


def test_the_shipped_chip_has_its_published_peaks():
    arch = load_arch("h200")
    multipliers = arch.cores.count * arch.array.rows * arch.array.cols * arch.array.lanes
    assert 2 * multipliers * arch.technology.clock_target_hz == pytest.approx(1979e12, rel=1e-3)
    assert arch.dram.bytes_per_cycle * arch.technology.clock_target_hz == pytest.approx(4.8e12, rel=1e-3)


def test_a_large_product_approaches_the_peak_and_a_small_one_is_its_launch():
    arch, large = load_arch("h200"), Shape(4096, 4096, 4224)  # 32 × 33 tiles: eight for every core
    ideal = predicted(arch, large, "int8", None, Parameters())
    peak = large.macs / (132 * 4096)
    assert peak < ideal.cycles < 1.15 * peak
    small, launched = Shape(16, 64, 64), Parameters(launch_s=1e-3)
    assert seconds(arch, predicted(arch, small, "int8", None, launched), launched) == pytest.approx(1e-3, rel=0.01)


def test_half_precision_takes_twice_the_codes():
    half = predicted(CHIP, Shape(512, 256, 512), "fp16", None, Parameters())
    codes = predicted(CHIP, Shape(512, 512, 512), "int8", None, Parameters())
    assert half.plan.compute.array.sum() == codes.plan.compute.array.sum()
    assert half.plan.traffic.write.sum() * 2 == codes.plan.traffic.write.sum(), "halves instead of INT32 sums"


def test_shares_of_the_peaks_stretch_what_they_bound():
    def took(shape, **changes):
        parameters = replace(Parameters(), **changes)
        return seconds(CHIP, predicted(CHIP, shape, "int8", None, parameters), parameters)

    computing, moving = Shape(2048, 4096, 768), Shape(16, 2048, 8192)
    assert took(computing, tensor_share=0.5) == pytest.approx(2 * took(computing), rel=0.1)
    assert took(moving, memory_share=0.5) == pytest.approx(2 * took(moving), rel=0.1)
    assert took(moving, tensor_share=0.5) == pytest.approx(took(moving), rel=0.1)


def test_a_grid_by_hand():
    machine = load_arch("h200", ["cores.split=grid", "cores.count=6", "array.cols=10"])
    assert CoreGrid.of(tokens=40, outputs=30, panel_tokens=10, arch=machine) == CoreGrid(2, 3, 6)  # 2 × 1 tiles
    tall = CoreGrid.of(tokens=90, outputs=10, panel_tokens=10, arch=machine)
    assert tall == CoreGrid(5, 1, 6), "nine panels take two rounds on five cores as on six"
    assert tall.token_part.tolist() == [0, 1, 2, 3, 4, -1]


def test_a_product_of_few_tiles_is_cut_smaller_so_that_idle_cores_work():
    """16 tiles of 64 tokens keep 16 of 108 cores busy all the time, which is no reason to stop looking."""
    arch, shape = load_arch("a100"), Shape(64, 8192, 2048)
    chosen = predicted(arch, shape, "fp16", None, Parameters())
    tried = {size: predicted(arch, shape, "fp16", None, Parameters(), size).cycles for size in TILE_TOKENS}
    assert chosen.cycles == min(tried.values()) == tried[32] < 0.55 * tried[64]


def test_a_tile_between_two_powers_of_two_is_taken_where_it_fills_the_last_wave():
    """8 × 16 tiles of 128 tokens are two waves on 108 cores, 11 × 16 of 96 are two waves of less work."""
    arch, shape = load_arch("a100"), Shape(1024, 8192, 2048)
    times = {size: predicted(arch, shape, "int8", None, Parameters(), size).cycles for size in TILE_TOKENS}
    assert times[96] < 0.8 * times[128]
    filled = Shape(128 * 12, 1024, 128 * 9 * 12)  # twelve full waves: nothing else is tried
    assert predicted(arch, filled, "int8", None, Parameters()).plan.tiling.panel_tokens == TILE_TOKENS[0]


def test_what_fits_half_the_cache_comes_from_it_when_the_same_product_ran_before():
    arch, pattern = load_arch("a100"), Pattern("2:4")
    small, large = Shape(64, 2048, 9000), Shape(64, 2048, 11000)  # 18 and 23 MB beside 20 MiB
    assert stays_in_cache(arch, small, "int8", None, 2) and not stays_in_cache(arch, large, "int8", None, 2)
    took = {
        (shape, warm): seconds(arch, predicted(arch, shape, "int8", None, Parameters(), warm=warm), Parameters())
        for shape in (small, large)
        for warm in (False, True)
    }
    assert took[small, True] < 0.8 * took[small, False]
    assert took[large, True] == took[large, False], "a sweep over more than it holds finds nothing"
    port = arch.cores.shared_buffer_bytes_per_cycle * arch.technology.clock_target_hz
    assert took[small, True] > small.features * small.outputs / port, "the L2 has a bandwidth, too"
    moved = 11000 * 1024 * 1.25 + 2048 * 64 + 64 * 11000 * 2  # X^T · W^T with half of X and two bits a kept value
    turned = Shape(large.outputs, large.features, large.tokens)
    assert moved <= arch.cores.shared_buffer_bytes / 2 and stays_in_cache(arch, turned, "int8", pattern, 2)


@pytest.mark.parametrize("work", ["dense", "sparse", "select"])
def test_the_fit_finds_what_made_the_times(work):
    predictor, truth = Predictor.of(CHIP, Family("int8", work)), TRUTH[work]
    times = {shape: predictor.seconds(shape, truth) for shape in fitted_third(SHAPES)}
    found = fit(predictor, times)
    assert found.error < 0.02 < fit_error(predictor, times, START)
    assert found.parameters.launch_s == pytest.approx(truth.launch_s, rel=0.15)
    assert found.parameters.memory_share == pytest.approx(truth.memory_share, rel=0.15)
    assert found.parameters.tensor_share == pytest.approx(truth.tensor_share, rel=0.1)
    assert found.at_bound == ()


def fit_error(predictor, times, parameters):
    return np.mean([abs(np.log(predictor.seconds(shape, parameters) / took)) for shape, took in times.items()])


def test_a_fit_that_wants_the_impossible_says_which_bound_stops_it():
    predictor = Predictor.of(CHIP, Family("int8", "select"))
    times = {shape: predictor.seconds(shape, replace(Parameters(), launch_s=1e-6)) / 50 for shape in SHAPES}
    assert "memory_share" in fit(predictor, times).at_bound
    assert BOUNDS["memory_share"][1] == 1
    with pytest.raises(AccelSimError, match="2 measured times, at least 4"):
        fit(predictor, dict(list(times.items())[:2]))


def test_baselines_by_hand():
    assert baselines.constant([3.0, 1.0, 2.0]) == 2.0
    chip = load_arch("h200")
    clock, large, small = chip.technology.clock_target_hz, Shape(4096, 4096, 4096), Shape(16, 4096, 4096)
    pattern, rate = Pattern("2:4"), 132 * 4096 * clock
    dense, sparse, select = (Family("int8", work) for work in ("dense", "sparse", "select"))
    assert baselines.roofline(chip, dense, large, pattern) == pytest.approx(4096**3 / rate)
    assert baselines.roofline(chip, sparse, large, pattern) == pytest.approx(4096**3 / 2 / rate)
    assert baselines.roofline(chip, Family("fp16", "dense"), large, pattern) == pytest.approx(2 * 4096**3 / rate)
    moved = 16 * 4096 + 4096 * 4096 + 16 * 4096 * 4
    assert baselines.roofline(chip, dense, small, pattern) == pytest.approx(moved / (2623 * clock))
    packed = 16 * 4096 // 2 * 10 // 8  # half of the codes, two bits each
    assert baselines.roofline(chip, select, small, pattern) == pytest.approx((16 * 4096 + packed) / (2623 * clock))


def test_nine_tenths():
    assert p90(range(1, 11)) == 9
    assert p90([5.0]) == 5.0


def test_a_card_as_the_model_says_is_predicted_and_beats_both_baselines(compared):
    rows = [row for row in compared.errors if row.kind == "all"]
    assert len(rows) == 10
    for row in rows:
        assert row.median["simulator"] < 0.1
        assert row.beats_baselines and "WORSE" not in verdict(row)


def test_the_report_adds_up(compared, tmp_path):
    third = fitted_third(SHAPES)
    assert all(point.fitted == (point.shape in third) for point in compared.points)
    for row in compared.errors:
        kinds = [one.shapes for one in compared.errors if (one.dtype, one.quantity) == (row.dtype, row.quantity)]
        assert kinds[0] == sum(kinds[1:]) == len(SHAPES) - len(third)
        for model in MODELS:
            assert row.median[model] <= row.p90[model]
    times = {(p.dtype, p.quantity, p.shape): p for p in compared.points}
    for point in compared.points:
        if point.quantity == "speed-up":
            dense, sparse = (times[point.dtype, work, point.shape] for work in ("dense", "sparse"))
            assert point.measured == pytest.approx(dense.measured / sparse.measured)
            assert point.simulator == pytest.approx(dense.simulator / sparse.simulator)
    written = write_report(compared, tmp_path)
    assert [path.name for path in written] == ["silicon.md", "silicon.json", "silicon.png"]
    page = written[0].read_text()
    assert "Nobody can measure this" in page and "8:16" in page and "16:32" in page
    assert json.loads(written[1].read_text())["exact_shapes"] == len(SHAPES)


def test_a_card_of_another_kind_is_reported_as_such():
    """A second for whatever is asked: no parameters make the model right, and the report must not hide it."""
    alien = compare(measurements(times=lambda shape: 1.0), CHIP)
    dense = next(row for row in alien.errors if (row.quantity, row.kind) == ("dense", "all"))
    assert not dense.beats_baselines and "WORSE than constant" in verdict(dense) and "NOT within" in verdict(dense)
    page = "\n".join(page_lines(alien))
    assert "WORSE" in page and "the model spends" in page


def test_a_sum_that_differs_and_a_refusal_stand_on_the_page():
    good = measurements(shapes=SHAPES[:12])
    rows = list(good.rows)
    rows[3] = rows[3].model_copy(update={"exact": False})
    rows[4] = rows[4].model_copy(
        update={"sparse_s": None, "on_the_fly_s": None, "refused": {"sparse_s": "no such shape"}}
    )
    page = "\n".join(page_lines(compare(good.model_copy(update={"rows": tuple(rows)}), CHIP)))
    assert f"differ from the functional mode**: {rows[3].shape}" in page
    assert f"int8 {rows[4].shape}, sparse_s: no such shape" in page


def run(capsys, monkeypatch, *arguments) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["accel-sim", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code or 0, capsys.readouterr().err


def test_without_a_card_measuring_refuses_in_one_line(capsys, monkeypatch, tmp_path):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, said = run(capsys, monkeypatch, "silicon", "measure", "--out", tmp_path / "new")
    assert status == 2 and len(said.splitlines()) == 1 and "no CUDA device" in said
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        (lambda data: data["rows"][1].update(dense_s=-1), "rows.1.dense_s"),
        (lambda data: data["rows"][0].update(dtype="int4"), "rows.0.dtype"),
        (lambda data: data.update(rows=[]), "rows"),
        (lambda data: data["machine"].pop("driver"), "machine.driver"),
        (lambda data: data.update(extra=1), "extra"),
    ],
)
def test_a_damaged_file_names_the_field(damage, where, capsys, monkeypatch, tmp_path):
    path = tmp_path / "measurements.json"
    measurements(times=lambda shape: 1e-3, shapes=SHAPES[:2]).write(path)
    assert read_measurements(path).rows[1].dense_s > 0
    data = json.loads(path.read_text())
    damage(data)
    path.write_text(json.dumps(data))
    status, said = run(capsys, monkeypatch, "silicon", "compare", "--measured", path, "--out", tmp_path)
    assert status == 2 and len(said.splitlines()) == 1 and f"measurements.json: {where}: " in said


def test_only_chips_with_a_selection_kernel_are_compared():
    few = measurements(times=lambda shape: 1e-3)
    with pytest.raises(AccelSimError, match="existing_chip"):
        compare(few, load_arch("8x16"))
    with pytest.raises(AccelSimError, match="placement software"):
        compare(few, load_arch("h200", ["sparsity.selector.placement=load"]))


def cpu_kernels(**changes):
    torch = pytest.importorskip("torch")
    from accel_sim.silicon.kernels import Kernels
    from accel_sim.silicon.selection import select_2_of_4

    def product(x, wt):
        return (x.double() @ wt.t().double()).to(torch.int32)

    kernels = Kernels(
        "int8", product, select_2_of_4, lambda x: x, lambda x, wt: 7, lambda x, wt, n: product(x, wt), 32, 48
    )
    return replace(kernels, **changes)


def test_a_row_pads_checks_and_tunes_as_it_says():
    pytest.importorskip("torch")
    from accel_sim.silicon.measure import measure_shape

    tuned, ran = [], []

    def timer(work):
        ran.append(work().shape[0])
        return 1e-3

    kernels = cpu_kernels()
    told = replace(kernels, sparse=lambda x, wt, n: (tuned.append(n), kernels.sparse(x, wt, n))[1])
    row = measure_shape(Shape(16, 64, 24), told, timer, "cpu")
    assert (row.dense_tokens, row.sparse_tokens) == (32, 48)
    assert ran == [32, 48, 48, 48] and set(tuned) == {7}
    assert row.exact is True and row.refused == {}


def test_wrong_sums_and_refusals_are_told_from_right_ones():
    pytest.importorskip("torch")
    from accel_sim.silicon.measure import measure_shape

    kernels = cpu_kernels()
    wrong = replace(kernels, sparse=lambda x, wt, n: kernels.sparse(x, wt, n) + 1)
    assert measure_shape(Shape(16, 64, 24), wrong, lambda work: 1e-3, "cpu").exact is False

    def no(*_):
        raise RuntimeError("no kernel for this shape\nmore")

    refused = measure_shape(Shape(16, 64, 24), replace(kernels, sparse=no), lambda work: work() is None or 1e-3, "cpu")
    assert refused.dense_s and refused.select_pack_s and refused.sparse_s is None and refused.exact is None
    assert refused.refused == {"sparse_s": "no kernel for this shape"}


def test_selection_on_the_card_is_the_functional_modes():
    torch = pytest.importorskip("torch")
    from accel_sim.silicon.selection import select_2_of_4

    random = np.random.default_rng(0)
    for codes in (random.integers(-127, 128, (50, 64)), random.integers(-2, 3, (50, 64)), np.zeros((3, 8))):
        x = codes.astype(np.int8)
        expected = np.where(functional.select(x, "2:4"), x, 0)
        np.testing.assert_array_equal(select_2_of_4(torch.from_numpy(x)).numpy(), expected)
        halves = torch.from_numpy(x.astype(np.float16))
        np.testing.assert_array_equal(select_2_of_4(halves).numpy(), expected.astype(np.float16))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["int8", "fp16"])
def test_a_card_measures_a_small_product(dtype):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    from accel_sim.silicon.measure import measure

    rows = [row for row in measure([Shape(64, 512, 256)], "test").rows if row.dtype == dtype]
    assert len(rows) == 1 and not rows[0].refused
    assert rows[0].exact is (True if dtype == "int8" else None)
    assert 0 < rows[0].sparse_s < rows[0].on_the_fly_s < 1
