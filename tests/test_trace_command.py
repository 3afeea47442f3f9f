"""`accel-sim trace`: what a trace is, and its statistics, against counting by hand."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from accel_sim.cli.inputs import shipped_trace
from accel_sim.cli.trace import trace as command
from accel_sim.errors import AccelSimError
from accel_sim.functional import select
from accel_sim.functional.site_summary import summarize
from accel_sim.pattern import Pattern
from accel_sim.trace import Projection, Site, Trace
from accel_sim.trace.kinds import common_name, sites_by_kind
from accel_sim.trace.synthetic_trace import write_synthetic_trace

ROOT = Path(__file__).parents[1]


def site(name: str, layer: int, features: int, tokens: int = 7) -> Site:
    projection = Projection(name=f"model.{name}", features=features, outputs=4)
    return Site(name=name, layer=layer, features=features, tokens=tokens, projections=(projection,))


@pytest.fixture(scope="module")
def trace(tmp_path_factory) -> Trace:
    sites = [site(f"layers.{layer}.{name}", layer, k) for layer in (0, 1, 3) for name, k in (("up", 20), ("down", 36))]
    return write_synthetic_trace(tmp_path_factory.mktemp("traces") / "three", sites, weights=True)


def run(*arguments: object):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_names_that_differ_in_numbers_become_one():
    assert common_name(["l.0.e.3.up", "l.1.e.3.up", "l.2.e.5.up"]) == "l.{0-2}.e.{3,5}.up"
    assert common_name(["l.7.up"]) == "l.7.up"


def test_sites_of_different_widths_are_different_kinds():
    kinds = sites_by_kind([site("l.0.up", 0, 8), site("l.1.up", 1, 8), site("l.2.up", 2, 16)])
    assert {name: len(members) for name, members in kinds.items()} == {"l.{0-1}.up": 2, "l.2.up": 1}


def test_a_summary_of_several_sites_is_of_all_their_rows(trace):
    members = sites_by_kind(trace.sites)["layers.{0-1,3}.down"]
    found = summarize(trace, "down", members, Pattern("4:8"))
    matrices = [np.asarray(trace.codes(each.name)).astype(int) for each in members]
    codes = np.concatenate(matrices)
    padded = np.pad(codes, ((0, 0), (0, 4))) != 0  # 36 features are four groups of 8 and a half
    nonzeros = padded.reshape(-1, 8).sum(axis=1)
    assert (found.sites, found.rows, found.features) == (3, 21, 36)
    assert found.zero_fraction == pytest.approx((codes == 0).mean())
    assert found.group_nonzeros == tuple(np.bincount(nonzeros, minlength=9).tolist())
    assert found.mean_group_nonzeros == pytest.approx(nonzeros.mean())
    assert found.whole_groups == pytest.approx((nonzeros <= 4).mean())
    for share, magnitude in found.magnitude_quantiles.items():
        assert magnitude == np.quantile(np.abs(codes), share, method="inverted_cdf")
    overlaps = []
    for matrix in matrices:
        kept = [set(np.flatnonzero(row)) for row in select(matrix.astype(np.int8), "4:8")]
        overlaps += [len(a & b) / len(a | b) for a, b in pairwise(kept)]
    assert found.kept_overlap == pytest.approx(np.mean(overlaps))


def test_one_token_has_no_neighbour(tmp_path):
    opened = write_synthetic_trace(tmp_path / "t", [site("layers.0.up", 0, 20, tokens=1)])
    assert summarize(opened, "up", opened.sites, Pattern("2:4")).kept_overlap is None
    assert "–" in run(tmp_path / "t").stdout


def test_it_says_what_the_trace_is_and_a_row_a_kind(trace):
    result = run(trace.path)
    assert result.exit_code == 0, result.output
    for text in (str(trace.path), "synthetic: heavy-tailed", "0-1,3, 3 of 3", "100.00%", "all 12 files match"):
        assert text in result.stdout
    assert "6 sites feeding 6 projections, stored as int8" in result.stdout
    assert "layers.{0-1,3}.up" in result.stdout and "layers.3.up" not in result.stdout


def test_all_layers_and_chosen_layers(trace):
    assert "layers.3.up" in run(trace.path, "--all-layers").stdout
    only = run(trace.path, "--all-layers", "--layers", "0").stdout
    assert "layers.0.up" in only and "layers.3.up" not in only


def test_json_holds_the_same(trace, tmp_path):
    result = run(trace.path, "--pattern", "2:4", "--json", tmp_path / "out/t.json")
    assert f"wrote {tmp_path / 'out/t.json'}" in result.stdout
    content = json.loads((tmp_path / "out/t.json").read_text())
    assert content["pattern"] == "2:4" and content["layers"] == [0, 1, 3] and content["coverage"]["fraction"] == 1
    assert [each["name"] for each in content["sites"]] == ["layers.{0-1,3}.up", "layers.{0-1,3}.down"]
    assert content["bytes"]["activations"] + content["bytes"]["weights"] == sum(
        file.stat().st_size for file in trace.path.rglob("*.safetensors")
    )
    assert sum(content["sites"][0]["group_nonzeros"]) == 3 * 7 * 5


def test_without_a_folder_it_describes_the_shipped_trace_and_says_so():
    result = run()
    assert "the small capture that is shipped" in result.stderr and str(shipped_trace()) in result.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "nowhere: not a trace"),
        (["--pattern", "9:4"], "1 <= N <= M"),
        (["--layers", "1"], "no layer 1; there are 0,15,29"),
    ],
)
def test_refused(arguments, says):
    result = run(*arguments)
    assert isinstance(result.exception, AccelSimError) and says in str(result.exception)


def test_a_damaged_trace_is_refused(tmp_path):
    write_synthetic_trace(tmp_path / "t", [site("layers.0.up", 0, 20)])
    file = tmp_path / "t/activations/layers.0.up.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert "damaged" in str(run(tmp_path / "t").exception)


def test_it_imports_no_torch_and_prints_what_the_page_shows():
    """The example in docs/traces.md, to the letter."""
    page = (ROOT / "docs/traces.md").read_text(encoding="utf-8")
    (arguments, expected) = re.findall(r"^```console\n\$ accel-sim (trace[^\n]*)\n(.*?)^```", page, re.M | re.S)[0]
    code = (
        "import sys; from accel_sim.cli.main import main\n"
        "try: main()\nexcept SystemExit as leave: assert not leave.code\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    line = [sys.executable, "-c", code, *arguments.split()]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert [text.rstrip() for text in done.stdout.splitlines()] == expected.splitlines()
