"""Architecture files: inheritance, overrides, and errors that say where."""

import json

import pytest

from accel_sim.arch import Arch, load_arch, shipped_archs
from accel_sim.arch.derived import (
    activation_port_bytes_per_cycle,
    selector_units,
    tile_row_cycles,
    weight_port_bytes_per_cycle,
)
from accel_sim.arch.load import file_schema
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_shipped_machines_load_and_keep_the_multipliers():
    machines = {name: load_arch(name) for name in shipped_archs()}
    assert set(machines) >= {"dense.yaml", "2x4.yaml", "4x8.yaml", "8x16.yaml", "16x32.yaml", "flexible.yaml"}
    for name in ("2x4", "4x8", "8x16", "16x32", "8x16_narrow", "flexible", "edge"):
        arch = load_arch(name)
        assert arch.array == machines["dense.yaml"].array
        assert arch.sram.weight_bytes == machines["dense.yaml"].sram.weight_bytes
        assert arch.dense().sparsity.patterns == ()


def test_a_study_file_states_only_what_differs(folder):
    (folder / "wide.yaml").write_text("extends: 8x16.yaml\nname: wide\narray:\n  cols: 64\n")
    arch = load_arch("wide.yaml")
    assert (arch.array.cols, arch.array.rows) == (64, 32)
    assert arch.sparsity.patterns == (Pattern("8:16"),)


def test_a_file_here_comes_before_a_shipped_one(folder):
    (folder / "8x16.yaml").write_text("name: mine\nsparsity:\n  patterns: 4:8\n")
    assert load_arch("8x16.yaml").name == "mine"
    assert load_arch("8x16.yaml").sparsity.patterns == (Pattern("4:8"),), "unquoted N:M is text, not a base-60 number"


def test_overrides_apply_last():
    arch = load_arch("8x16.yaml", ["array.rows=64", "sparsity.selector.kind=radix", "dram.bytes_per_cycle=51.2"])
    assert (arch.array.rows, arch.sparsity.selector.kind, arch.dram.bytes_per_cycle) == (64, "radix", 51.2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\narray:\n  rowz: 3\n", r"bad.yaml: array.rowz: unknown key; accepted here: rows, cols, lanes"),
        ("name: a\nfoo: 3\n", r"foo: unknown key; accepted here: name, description, array"),
        ("name: a\narray:\n  rows: 0\n", r"array.rows: .*greater than or equal to 1, not 0"),
        ("name: a\nsparsity:\n  patterns: ['9:8']\n", r"sparsity.patterns.0: pattern '9:8': N:M needs 1 <= N <= M"),
        ("name: a\nsparsity:\n  patterns: ['2:4', '1:4']\n", r"one density"),
        ("name: a\nsparsity:\n  metadata: huffman\n", r"sparsity.metadata: .*'bitmap', 'index' or 'enumerative'"),
        ("array:\n  rows: 4\n", r"name: Field required"),
        ("name: [unclosed\n", r"bad.yaml line 2, column 1: not valid YAML"),
        ("- a\n- b\n", r"expected a mapping"),
        ("name: a\nextends: bad.yaml\n", r"goes round in a circle \(bad.yaml -> bad.yaml\)"),
        ("name: a\nextends: nowhere.yaml\n", r"arch nowhere.yaml: no such file; shipped machines: "),
    ],
)
def test_bad_files_say_what_and_where(folder, text, message):
    (folder / "bad.yaml").write_text(text)
    with pytest.raises(AccelSimError, match=message) as error:
        load_arch("bad.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("array.rows", "expected key.path=value"),
        ("array.rows.deep=3", "rows is a value, not a section"),
        ("array.rows=[", "not valid YAML"),
        ("array.rowz=3", "array.rowz: unknown key"),
    ],
)
def test_bad_overrides_say_what_and_where(override, message):
    with pytest.raises(AccelSimError, match=message):
        load_arch("8x16.yaml", [override])


@pytest.mark.parametrize(
    "override",
    [
        "array.rows=1000000000000000000",
        "array.requantisers=100000000000000000000000",
        "sram.weight_port_bytes_per_cycle=100000000000000000000000",
        "dram.bytes_per_cycle=.inf",
        "dram.bytes_per_cycle=1.0e-15",
        "dram.latency_cycles=1000000000000000000",
        "technology.clock_target_hz=.inf",
        "technology.clock_target_hz=1.0e-300",
        "technology.utilisation=1.0e-300",
    ],
)
def test_machines_beyond_the_engines_integers_are_refused(override):
    with pytest.raises(AccelSimError, match=rf"{override.partition('=')[0]}: Input should be (less|greater) than"):
        load_arch("8x16.yaml", [override])


def test_a_pattern_that_is_not_built_in_is_refused():
    with pytest.raises(AccelSimError, match=r"arch 8x16: pattern 2:4 is not built in; sparsity.patterns: 8:16"):
        load_arch("8x16").pattern(Pattern("2:4"))


def test_equal_n_and_m_runs_dense():
    assert load_arch("8x16", ["sparsity.patterns=['4:4']"]).pattern() is None


def test_ports_follow_the_demand():
    # 32 columns of 16 lanes: 512 B a cycle dense; g·M = 32 B a column at every 50 % pattern.
    assert weight_port_bytes_per_cycle(load_arch("dense")) == 512
    for name in ("2x4", "4x8", "8x16", "16x32", "flexible"):
        assert weight_port_bytes_per_cycle(load_arch(name)) == 1024
    assert weight_port_bytes_per_cycle(load_arch("8x16_narrow")) == 512
    # A row takes 16 kept bytes and 32 bits of bitmap a cycle.
    assert activation_port_bytes_per_cycle(load_arch("8x16")) == 32 * (16 + 4)


def test_selectors_for_full_rate():
    assert selector_units(load_arch("8x16"), Pattern("8:16")) == 2 * 32
    write_back = load_arch("8x16", ["sparsity.selector.placement=write_back"])
    assert selector_units(write_back, Pattern("8:16")) == 2 * 32 * 32 // 512
    assert selector_units(load_arch("dense"), None) == 0


def test_tile_row_cycles_by_hand():
    assert tile_row_cycles(16, 576, None) == 36
    assert tile_row_cycles(16, 576, Pattern("2:4")) == 18
    assert tile_row_cycles(16, 576, Pattern("16:32")) == 18
    assert tile_row_cycles(16, 33, Pattern("16:32")) == 2
    assert tile_row_cycles(4, 64, Pattern("8:16")) == 4 * 2


def test_schema_documents_every_key():
    schema = json.loads(json.dumps(file_schema()))
    assert schema["properties"]["extends"]["type"] == "string"
    for section in [schema, *schema["$defs"].values()]:
        for key, field in section["properties"].items():
            assert "description" in field or "$ref" in field, f"{key} has no description"
    assert schema["properties"].keys() - {"extends"} == Arch.model_fields.keys()


def test_ports_of_a_machine_that_skips_zeros_feed_every_slice_by_default():
    # Sixteen lanes in slices of four: four groups of 16 weights a column and cycle, for 32 columns.
    elastic = ["sparsity.skipping=elastic", "sparsity.operand_mux=full", "sparsity.elastic_lanes=4"]
    assert weight_port_bytes_per_cycle(load_arch("8x16", elastic)) == 32 * 4 * 16
    assert weight_port_bytes_per_cycle(load_arch("8x16", [*elastic, "sparsity.weight_groups_per_cycle=3"])) == 32 * 48


def test_nobody_builds_selectors_where_software_or_nobody_selects():
    for name in ("8x16_software", "weights_8x16", "16x16_elastic"):
        arch = load_arch(name)
        assert selector_units(arch, arch.pattern()) == 0
