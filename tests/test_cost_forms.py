"""The closed forms' fit: exact on exact rows, relative, and refused where it has no answer."""

import pytest

from accel_sim.cost.forms import FORMS, TERMS, fit, fit_unit, merge_sort_comparators, terms
from accel_sim.errors import AccelSimError

SHAPES = [(1, 4), (2, 4), (4, 8), (8, 16), (16, 32)]


@pytest.mark.parametrize("kind", ["select_onehot", "decode_bitmap_onehot", "top_n_rank", "encode_enumerative"])
def test_a_fit_finds_the_coefficient_that_made_the_rows(kind):
    rows = [(n, m, 8, 1.5 * FORMS[kind].pieces(n, m, 8)) for n, m in SHAPES]
    found = fit((kind,), rows)
    assert found.coefficients == pytest.approx({kind: 1.5})
    assert found.rms_percent == pytest.approx(0, abs=1e-9) and found.rows == 5


def test_two_terms_are_found_together():
    rows = [(lanes, lanes, 8, 771 * lanes + 377) for lanes in (1, 2, 4, 8)]
    (found,) = fit_unit("dot_product", rows)
    assert found.coefficients == pytest.approx({"dot_product_lane": 771, "dot_product_fixed": 377})


def test_every_row_weighs_the_same_whatever_its_size():
    rows = [(1, 8, 8, 56 * 1.1), (1, 1024, 8, 1023 * 8 * 0.9)]
    found = fit(("select_full",), rows)
    # Σ(x/y) / Σ(x/y)² of x/y = 1/1.1 ("56 pieces") and 1/0.9; unweighted least squares would give nearly 0.9.
    assert found.coefficients["select_full"] == pytest.approx((1 / 1.1 + 1 / 0.9) / (1 / 1.1**2 + 1 / 0.9**2))
    assert found.worst_percent == pytest.approx(100 * abs(found.coefficients["select_full"] / 1.1 - 1))
    assert found.rms_percent < found.worst_percent


def test_wider_rows_count_only_for_forms_with_a_width():
    rows = [(2, 4, 8, 10.0), (2, 4, 16, 20.0)]
    assert fit_unit("select_onehot", rows)[0].rows == 2
    assert [found.rows for found in fit_unit("top_n_cascade", rows)] == [1]


def test_odd_even_merge_sort_has_the_comparators_of_batchers_network():
    assert [merge_sort_comparators(m) for m in (4, 8, 16, 32)] == [5, 19, 63, 191]


def test_every_term_is_a_form():
    assert all(terms(unit) == fits for unit, fits in TERMS.items())
    assert terms("magnitude") == (("magnitude",),)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: terms("flux_capacitor"), "no closed form; with one: .*select_onehot"),
        (lambda: fit(("dot_product_lane", "dot_product_fixed"), [(1, 1, 8, 5.0)]), "1 rows for 2 coefficients"),
        (lambda: fit(("magnitude",), [(1, 4, 8, 0.0)]), "no area"),
    ],
)
def test_what_cannot_be_fitted_says_why(call, message):
    with pytest.raises(AccelSimError, match=message):
        call()
