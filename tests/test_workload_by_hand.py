"""Matrix products given by their sizes."""

import numpy as np
import pytest

from accel_sim.errors import AccelSimError
from accel_sim.workload import gemm_workload


def test_sizes_are_tokens_features_outputs():
    (gemm,) = gemm_workload(["512x4096x11008"]).gemms
    assert (gemm.tokens, gemm.features, gemm.outputs) == (512, 4096, 11008)


@pytest.mark.parametrize("text", ["2x64x32", "2X64X32", "2×64×32", " 2 x 64 x 32 "])
def test_any_times_sign_will_do(text):
    (gemm,) = gemm_workload([text]).gemms
    assert (gemm.tokens, gemm.features, gemm.outputs) == (2, 64, 32)


def test_equal_products_have_activations_of_their_own():
    workload = gemm_workload(["4x64x8", "4x64x8"])
    first, second = (workload.sites[gemm.site].load()[0] for gemm in workload.gemms)
    assert not np.array_equal(first, second)


def test_the_seed_decides_the_codes():
    def codes(seed: int) -> np.ndarray:
        workload = gemm_workload(["4x64x8"], seed=seed)
        return workload.sites[workload.gemms[0].site].load()[0]

    assert np.array_equal(codes(3), codes(3))
    assert not np.array_equal(codes(3), codes(4))


def test_codes_fill_the_range_of_int8_per_token():
    workload = gemm_workload(["10x64x8"], distribution="gaussian")
    codes, _ = workload.sites[workload.gemms[0].site].load()
    assert np.abs(codes.astype(int)).max(axis=1).tolist() == [127] * 10


@pytest.mark.parametrize("text", ["512x4096", "axbxc", "0x16x16", "512x4096x-1", "1.5x2x3", "1x2x3x4", ""])
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(AccelSimError, match=f"--gemm {text}: expected TOKENSxFEATURESxOUTPUTS, such as 512x4096x4096"):
        gemm_workload([text])


def test_no_product_is_refused():
    with pytest.raises(AccelSimError, match="at least one"):
        gemm_workload([])


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"sample_rows": 1}, {"distribution": "flat"}])
def test_a_wrong_option_is_refused(wrong):
    with pytest.raises(AccelSimError):
        gemm_workload(["4x64x8"], **wrong)
