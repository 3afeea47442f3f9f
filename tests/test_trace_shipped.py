"""The small real trace in the repository is whole, small, and what its README says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from accel_sim import shipped
from accel_sim.trace import Coverage, Manifest, Projection, Site, Trace
from accel_sim.trace.format import ModelInfo, StoredFile, TextCut, TokenizerInfo

PAGE = Path(__file__).parents[1] / "docs/traces.md"
FOLDER = shipped.folder("traces") / "smollm2-135m"


@pytest.fixture(scope="module")
def trace() -> Trace:
    return Trace.open(FOLDER, verify=True)


def test_it_has_the_first_a_middle_and_the_last_block(trace):
    assert trace.manifest.layers == (0, 15, 29) and trace.manifest.layers_in_model == 30
    assert len(trace.sites) == 12 and trace.manifest.coverage.fraction == 1.0


def test_it_is_small_and_names_no_path_of_the_machine_that_made_it(trace):
    assert sum(path.stat().st_size for path in FOLDER.rglob("*")) < 5_000_000
    assert not any(argument.startswith(("/", "~")) for argument in trace.manifest.command)


def test_the_readme_has_the_command_that_made_it(trace):
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert " ".join(trace.manifest.command[1:]) in readme


def test_one_block_has_weights(trace):
    with_weights = [each.name for site in trace.sites for each in site.projections if each.has_weight]
    assert len(with_weights) == 7 and all("layers.15." in name for name in with_weights)
    weight = trace.weight("model.layers.15.mlp.down_proj")
    assert weight.codes.shape == (1536, 576) and weight.scales.shape == (576,) and weight.bias is None


def test_every_row_reaches_full_scale_in_order_of_position(trace):
    for site in trace.sites:
        assert (np.abs(trace.codes(site.name).astype(int)).max(axis=1) == 127).all()
        assert trace.positions(site.name).tolist() == list(range(96))
        assert not trace.sequences(site.name).any() and (trace.scales(site.name) > 0).all()


def test_the_page_on_traces_names_every_field():
    page = PAGE.read_text(encoding="utf-8")
    for model in (Manifest, ModelInfo, TokenizerInfo, TextCut, Coverage, StoredFile, Site, Projection):
        missing = [name for name in model.model_fields if not re.search(rf"`(\w+\.)?{name}(`|\[\]`|\.)", page)]
        assert not missing, (model.__name__, missing)


def test_the_pages_example_runs(capsys, monkeypatch):
    monkeypatch.chdir(PAGE.parents[1])
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(example, str(PAGE), "exec"), {})
    assert "layers.0.self_attn.q_proj+k_proj+v_proj (96, 576)" in capsys.readouterr().out
