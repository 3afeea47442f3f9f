"""Published times beside predicted ones: the tables, the command, and that the page says what the run found."""

import json
from pathlib import Path

import pytest
import yaml

from accel_sim.arch import load_arch
from accel_sim.cli import main as cli
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.silicon import baselines
from accel_sim.silicon.comparison import p90
from accel_sim.silicon.families import Family, Predictor
from accel_sim.silicon.model import Parameters
from accel_sim.silicon.published import Report, judge
from accel_sim.silicon.published_report import MODELS, page_lines
from accel_sim.silicon.published_tables import FOLDER, Table, read_table, shipped_tables
from accel_sim.silicon.shapes import Shape, fitted_third

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "reports/silicon_published/published.json"
DOCS = (ROOT / "docs/silicon.md").read_text(encoding="utf-8")


def small(**changes) -> Table:
    """A table of few small shapes whose times are what the model says with given parameters, the dense ones slower."""
    table = {
        "name": "small",
        "device": "made by the model",
        "arch": "a100",
        "dtype": "int8",
        "formats": {"dense": "INT8 → INT32", "sparse": "INT8 → BF16"},
        "output_bytes": {"dense": 4, "sparse": 2},
        "sparse_operand": "weights",
        "libraries": {"dense": "none", "sparse": "none"},
        "source": {"work": "none", "address": "none", "taken": "all"},
        "timing": "none",
        "warm_cache": False,
        "unknown": [],
        "products": [
            {"outputs": n, "features": k, "tokens": [64, 512, 2048], "dense_us": [1, 1, 1], "sparse_us": [1, 1, 1]}
            for n, k in ((256, 512), (512, 1024), (1024, 512), (1024, 2048))
        ],
    }
    return Table.model_validate(table | changes)


TRUTH = {"dense": Parameters(4e-6, 0.6, 0.7, 3e-7), "sparse": Parameters(6e-6, 0.5, 0.6, 2e-7)}


def as_the_model_says(table: Table) -> Table:
    products = []
    for product in table.products:
        times = {}
        for work, truth in TRUTH.items():
            family = Family(table.dtype, work, getattr(table.output_bytes, work))
            predictor = Predictor.of(load_arch(table.arch), family)
            shapes = [table.ran(Shape(tokens, product.features, product.outputs), work) for tokens in product.tokens]
            times[f"{work}_us"] = tuple(predictor.seconds(shape, truth) * 1e6 for shape in shapes)
        products.append(product.model_copy(update=times))
    return table.model_copy(update={"products": tuple(products)})


@pytest.mark.parametrize("name", shipped_tables())
def test_a_shipped_table_is_whole_and_below_the_cards_peaks(name):
    table = read_table(name)
    assert table.name == name
    assert table.unknown, "every publication leaves something unsaid"
    assert table.source.address.startswith("https://")
    arch, rows = load_arch(table.arch), list(table.rows)
    assert len({row.shape for row in rows}) == len(rows)
    for row in rows:
        for work, took in row.seconds.items():
            family = Family(table.dtype, work, getattr(table.output_bytes, work))
            ran = table.ran(row.shape, work)
            rate = baselines.roofline(arch, family, ran, arch.pattern())
            assert took > 0.6 * rate, (row.shape, work, "faster than any clock or cache explains")
            assert took < 200 * rate


def test_the_large_tables_have_the_same_shapes_and_the_small_one_borrows_parameters():
    tables = [read_table(name) for name in shipped_tables()]
    large = [table for table in tables if table.parameters_of is None]
    assert [len(list(table.rows)) for table in large] == [72, 72, 72, 72]
    shapes = [[row.shape for row in table.rows] for table in large]
    assert all(one == shapes[0] for one in shapes)
    assert {table.parameters_of for table in tables if table not in large} <= {table.name for table in large}
    assert tables.index(large[-1]) < len(large), "those whose parameters others use come first"


def test_the_cards_have_their_published_peaks():
    for name, tops, bandwidth in (("a100", 624e12, 1935e9), ("h100", 1513e12, 2000e9)):
        arch = load_arch(name)
        multipliers = arch.cores.count * arch.array.rows * arch.array.cols * arch.array.lanes
        assert 2 * multipliers * arch.technology.clock_target_hz == pytest.approx(tops, rel=1e-3)
        assert arch.dram.bytes_per_cycle * arch.technology.clock_target_hz == pytest.approx(bandwidth, rel=1e-3)


def test_a_sparse_operand_that_is_the_weights_is_predicted_transposed():
    shape, weights = Shape(64, 512, 1024), small()
    assert weights.ran(shape, "sparse") == Shape(1024, 512, 64)
    assert weights.ran(shape, "dense") == shape
    assert small(sparse_operand="activations").ran(shape, "sparse") == shape


def test_a_librarys_outputs_are_what_is_stored():
    chip, shape, pattern = load_arch("a100"), Shape(4096, 64, 4096), Pattern("2:4")
    wide, narrow = Family("int8", "dense"), Family("int8", "dense", 2)
    assert (wide.output_bytes, narrow.output_bytes) == (4, 2)
    moved = 2 * 4096 * 64
    assert baselines.moved_bytes(wide, shape, pattern) == moved + 4 * 4096 * 4096
    assert baselines.moved_bytes(narrow, shape, pattern) == moved + 2 * 4096 * 4096
    took = [Predictor.of(chip, family).seconds(shape, Parameters()) for family in (wide, narrow)]
    assert 1.5 < took[0] / took[1] < 2.1, "writing decides"


@pytest.fixture(scope="module")
def judged() -> Report:
    table = as_the_model_says(small())
    other = as_the_model_says(small(name="other", parameters_of="small", products=small().products[:1]))
    return judge([other, table], "made")


def test_times_that_the_model_made_are_predicted_on_shapes_it_was_not_fitted_on(judged):
    table, other = judged.tables
    assert (table.table.name, other.table.name) == ("small", "other")
    third = fitted_third(tuple(row.shape for row in table.table.rows))
    assert {line.shape for line in table.lines if line.fitted} == third and len(third) == 4
    for errors in (one for judged_table in judged.tables for one in judged_table.errors if one.kind == "all"):
        assert errors.median["fitted"] < 0.2 < errors.median["roofline"]
        assert errors.shapes == (8 if errors.table == "small" else 3)
    assert [len(one.fits) for one in judged.tables] == [2, 0], "the other table has no parameters of its own"


def test_a_warm_cache_is_a_condition_of_the_table():
    """The ideal card is faster where the same product ran before, and only there."""
    reports = [judge([small(warm_cache=warm)], "made", fitting=False).tables[0].lines for warm in (False, True)]
    for cold, warm in zip(*reports, strict=True):
        if cold.quantity != "speed-up":
            assert warm.predicted["ideal"] <= cold.predicted["ideal"]
            assert warm.predicted["roofline"] == cold.predicted["roofline"]
    assert any(warm.predicted["ideal"] < 0.8 * cold.predicted["ideal"] for cold, warm in zip(*reports, strict=True))


def test_errors_and_speedups_add_up(judged):
    table = judged.tables[0]
    times = {(line.quantity, line.shape): line for line in table.lines}
    speedups = [line for line in table.lines if line.quantity == "speed-up"]
    assert len(speedups) == 12
    for line in speedups:
        dense, sparse = times["dense", line.shape], times["sparse", line.shape]
        assert line.published == pytest.approx(dense.published / sparse.published)
        assert line.predicted["ideal"] == pytest.approx(dense.predicted["ideal"] / sparse.predicted["ideal"])
    held_out = sorted(line.error("ideal") for line in speedups if not line.fitted)
    errors = next(one for one in table.errors if (one.quantity, one.kind) == ("speed-up", "all"))
    assert errors.median["ideal"] == pytest.approx((held_out[3] + held_out[4]) / 2)
    assert errors.p90["ideal"] == p90(held_out) == held_out[-1]


def test_a_time_below_the_ideal_cards_is_named(judged):
    assert not any(one.faster_than_ideal for one in judged.tables)
    ideal = {line.shape: line.predicted["ideal"] for line in judged.tables[0].lines if line.quantity == "dense"}
    products = list(small().products)
    first = Shape(64, products[0].features, products[0].outputs)
    products[0] = products[0].model_copy(update={"dense_us": (ideal[first] * 0.9e6, 50, 50)})
    report = judge([small(products=products)], "made", fitting=False)
    found = report.tables[0].faster_than_ideal
    assert ("dense", first) in {(line.quantity, line.shape) for line in found}
    assert f"small dense, {first}: 0.90 of the ideal card's time; fits the L2" in "\n".join(page_lines(report))


def run(capsys, monkeypatch, *arguments) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["accel-sim", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    said = capsys.readouterr()
    return left.value.code or 0, said.out, said.err


def test_the_command_writes_a_page_data_and_a_picture(capsys, monkeypatch, tmp_path):
    arguments = ("silicon", "published", "--no-fit", "--table", "a100_fp16_pytorch", "--out", tmp_path)
    status, said, _ = run(capsys, monkeypatch, *arguments)
    assert status == 0 and "a100_fp16_pytorch dense: median error" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["published.json", "published.md", "published.png"]
    made = Report.model_validate_json((tmp_path / "published.json").read_text())
    assert made.command == "accel-sim silicon published --table a100_fp16_pytorch --no-fit"
    page = (tmp_path / "published.md").read_text()
    for row in made.tables[0].table.rows:
        assert f"| {row.shape.tokens} | {row.shape.features} | {row.shape.outputs} |" in page
    assert "None of these times was measured by this project" in page


def shipped() -> dict:
    return yaml.safe_load((FOLDER / "a100_fp16_pytorch.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        (lambda data: data["products"][0]["dense_us"].pop(), "products.0: Value error, dense_us: 3 times for 4"),
        (lambda data: data["products"][1]["sparse_us"].__setitem__(0, -1), "products.1.sparse_us.0: "),
        (lambda data: data.update(dtype="int4"), "dtype: "),
        (lambda data: data.update(sparse_operand="both"), "sparse_operand: "),
        (lambda data: data.pop("unknown"), "unknown: "),
        (lambda data: data["products"].append(data["products"][0]), "products: 3072 × 3072 × 768 stands there twice"),
        (lambda data: data.update(arch="none"), "none"),
    ],
)
def test_a_damaged_table_names_the_field(damage, where, capsys, monkeypatch, tmp_path):
    data = shipped()
    damage(data)
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump(data))
    arguments = ("silicon", "published", "--no-fit", "--table", path, "--out", tmp_path / "out")
    status, _, said = run(capsys, monkeypatch, *arguments)
    assert status == 2 and len(said.splitlines()) == 1 and where in said
    assert not (tmp_path / "out").exists()


def test_an_unknown_table_lists_the_shipped_ones(capsys, monkeypatch, tmp_path):
    status, _, said = run(capsys, monkeypatch, "silicon", "published", "--table", "v100", "--out", tmp_path / "out")
    assert status == 2 and len(said.splitlines()) == 1 and "a100_int8" in said


def test_borrowed_parameters_need_their_table():
    with pytest.raises(AccelSimError, match="parameters_of: a100_fp16 is not among the tables read"):
        judge([read_table("a100_fp16_pytorch")], "made")


def test_the_report_is_of_the_shipped_tables():
    report = Report.model_validate_json(REPORT.read_text(encoding="utf-8"))
    assert [one.table for one in report.tables] == [read_table(name) for name in shipped_tables()]


def test_the_page_has_the_reports_figures():
    report = json.loads(REPORT.read_text(encoding="utf-8"))
    for one in report["tables"]:
        for errors in one["errors"]:
            if errors["kind"] != "all":
                continue
            cells = [
                f"{errors['median'][model]:.1%} / {errors['p90'][model]:.1%}" if model in errors["median"] else "–"
                for model in MODELS
            ]
            line = f"| {errors['table']} | {errors['quantity']} | {errors['shapes']} | {' | '.join(cells)} |"
            assert line in DOCS, line
        for fit in one["fits"]:
            values = fit["parameters"]
            shown = f"{values['launch_s'] * 1e6:.3g} | {values['tensor_share']:.2f} | {values['memory_share']:.2f}"
            shown += f" | {values['latency_s'] * 1e9:.3g} | {', '.join(fit['at_bound']) or 'none'}"
            assert f"| {one['table']['name']} | {fit['family'].split()[1]} | {shown} |" in DOCS
