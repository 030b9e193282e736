"""Statistics of a formula's elements, against numbers worked out by hand."""

import warnings

import numpy as np
import pytest

from taskgroup.datasets.composition import (
    PROPERTIES,
    composition_names,
    composition_statistics,
    element_properties,
)
from taskgroup.errors import InputError


def _of(formula: str) -> dict[str, float]:
    return dict(zip(composition_names(), composition_statistics([formula])[0], strict=True))


def test_statistics_are_weighted_by_the_formula():
    found = _of("Al2O3")  # Z 13 and 8
    assert found["mean-Z"] == pytest.approx((2 * 13 + 3 * 8) / 5)
    assert found["deviation-Z"] == pytest.approx(5 * np.sqrt(0.4 * 0.6))
    assert (found["least-Z"], found["largest-Z"]) == (8, 13)
    assert found["mean-X"] == pytest.approx(0.4 * 1.61 + 0.6 * 3.44)
    assert (found["least-row"], found["largest-group"]) == (2, 16)


def test_an_element_has_no_deviation_and_the_way_a_formula_is_written_does_not_matter():
    assert all(value == 0 for name, value in _of("Fe").items() if name.startswith("deviation"))
    assert np.allclose(*composition_statistics(["NaCl", "Cl2Na2"]))


def test_what_is_not_known_is_nan_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = _of("Ne")
    assert np.isnan(found["mean-X"])
    assert found["mean-Z"] == 10


@pytest.mark.parametrize(
    ("symbol", "places"),
    [("He", [0, 0, 0, 0]), ("Na", [1, 0, 0, 0]), ("O", [0, 2, 0, 0]), ("Fe", [0, 0, 4, 0]), ("Pd", [0, 0, 0, 0]),
     ("Ga", [0, 5, 0, 0]), ("Gd", [0, 0, 9, 7])],
)  # fmt: skip
def test_places_left_in_the_outermost_shells_are_those_of_the_free_atom(symbol, places):
    found = dict(zip(PROPERTIES, element_properties(symbol), strict=True))
    assert [found[f"empty_{shell}"] for shell in "spdf"] == places


def test_no_rows_have_no_statistics():
    assert composition_statistics([]).shape == (0, len(composition_names()))


@pytest.mark.parametrize("text", ["X1", "foo", "", "NaCl)"])
def test_what_is_no_formula_is_named(text):
    with pytest.raises(InputError, match=r"composition: '.*' is not a formula of elements"):
        composition_statistics([text])
