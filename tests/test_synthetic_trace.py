"""Synthetic traces on disk."""

import numpy as np
import pytest

from accel_sim.errors import AccelSimError
from accel_sim.quantize import quantize_tokens
from accel_sim.trace import Projection, Site, Trace
from accel_sim.trace.synthetic import DISTRIBUTIONS, draw_site
from accel_sim.trace.synthetic_trace import write_synthetic_trace
from accel_sim.workload import gemm_workload, preset_workload, workload_from_trace
from accel_sim.workload.to_trace import trace_sites


def site(name: str, tokens: int, features: int = 32, outputs: int = 8) -> Site:
    projection = Projection(name=f"{name}.proj", features=features, outputs=outputs)
    return Site(name=name, features=features, tokens=tokens, projections=(projection,))


def test_it_reads_back_as_what_was_drawn(tmp_path):
    write_synthetic_trace(tmp_path / "t", [site("a", 5)], "laplace", seed=3)
    trace = Trace.open(tmp_path / "t")
    codes, scales = quantize_tokens(draw_site(DISTRIBUTIONS["laplace"], "a", 5, 32, seed=3))
    assert np.array_equal(trace.codes("a"), codes)
    assert np.array_equal(trace.scales("a"), scales)
    assert trace.positions("a").tolist() == [0, 1, 2, 3, 4]
    assert trace.manifest.model.id == "synthetic: Laplace, seed 3"


def test_its_workload_is_the_one_it_was_made_from(tmp_path):
    by_hand = gemm_workload(["6x64x16", "6x32x8"])
    workload = workload_from_trace(write_synthetic_trace(tmp_path / "t", trace_sites(by_hand)))
    for expected, found in zip(by_hand.gemms, workload.gemms, strict=True):
        assert (found.name, found.tokens, found.features, found.outputs) == (
            expected.name,
            expected.tokens,
            expected.features,
            expected.outputs,
        )
        assert np.array_equal(workload.sites[found.site].load()[0], by_hand.sites[expected.site].load()[0])


def test_projections_that_share_a_site_share_it_in_the_trace(tmp_path):
    sites = trace_sites(preset_workload("smollm2-135m", 2))[:4]
    trace = write_synthetic_trace(tmp_path / "t", sites)
    assert [len(each.projections) for each in trace.sites] == [3, 1, 2, 1]
    assert [each.layer for each in trace.sites] == [0, 0, 0, 0]


def test_weights_come_with_it_when_asked_for(tmp_path):
    workload = workload_from_trace(write_synthetic_trace(tmp_path / "t", [site("a", 5)], weights=True))
    weights = workload.gemms[0].load_weights()
    assert weights.codes.shape == (32, 8)
    assert weights.scales.shape == (8,)


def test_a_trace_without_weights_offers_none(tmp_path):
    workload = workload_from_trace(write_synthetic_trace(tmp_path / "t", [site("a", 5)]))
    assert workload.gemms[0].load_weights is None


def test_experts_without_tokens_do_nothing_and_are_counted(tmp_path):
    trace = write_synthetic_trace(tmp_path / "t", [site("busy", 5), site("idle", 0), site("idle too", 0)])
    workload = workload_from_trace(trace)
    assert [gemm.site for gemm in workload.gemms] == ["busy"]
    assert "2 sites without a token" in workload.source


def test_a_trace_in_which_nothing_has_a_token_is_refused(tmp_path):
    with pytest.raises(AccelSimError, match="no site has a token"):
        workload_from_trace(write_synthetic_trace(tmp_path / "t", [site("idle", 0)]))


def test_products_that_stand_for_several_are_refused():
    with pytest.raises(AccelSimError, match=r"experts\[0-127\].*stands for 128 products"):
        trace_sites(preset_workload("qwen3-30b-a3b", 16))


def test_what_is_there_is_not_overwritten(tmp_path):
    write_synthetic_trace(tmp_path / "t", [site("a", 5)])
    with pytest.raises(AccelSimError, match="holds a trace already"):
        write_synthetic_trace(tmp_path / "t", [site("a", 6)])
    assert write_synthetic_trace(tmp_path / "t", [site("a", 6)], force=True).sites[0].tokens == 6


def test_two_sites_of_one_name_are_refused(tmp_path):
    with pytest.raises(AccelSimError, match="a name of its own"):
        write_synthetic_trace(tmp_path / "t", [site("a", 5), site("a", 6)])
