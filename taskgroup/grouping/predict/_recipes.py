"""Distances between recipes, one hyper-parameter at a time."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from taskgroup.grouping.predict._networks import Items

# Positive numbers that span at least this factor are compared on a logarithmic scale, as learning rates are.
_LOGARITHMIC_FROM = 10.0


class RecipeScale:
    """Turns recipes into arrays in which each hyper-parameter has a distance between 0 and 1.

    Numbers lie at their place in the range seen at construction (logarithmic where the range is wide); other values,
    and a hyper-parameter that only some recipes have, are categories. Hyper-parameters that never vary are left out.

    >>> scale = RecipeScale([(("lr", 0.001), ("net", "a")), (("lr", 0.1), ("net", "b"))])
    >>> codes = scale.encode([(("lr", 0.01), ("net", "a")), (("lr", 0.1), ("net", "b"))])
    >>> scale.distances(codes[:1], codes[1:]).ravel().tolist()
    [0.5, 1.0]
    """

    def __init__(self, recipes: Sequence[Items]) -> None:
        values: dict[str, set[Any]] = {}
        for recipe in recipes:
            for name, value in recipe:
                values.setdefault(name, set()).add(value)
        names = sorted(values)
        always = {name for name in names if all(name in dict(recipe) for recipe in recipes)}
        self.names = tuple(name for name in names if len(values[name]) > 1 or name not in always)
        self._columns = [_column(values[name]) for name in self.names]

    def encode(self, recipes: Sequence[Items]) -> np.ndarray:
        """Return codes float [recipes, hyper-parameters]; NaN where a recipe has no such hyper-parameter."""
        codes = np.full((len(recipes), len(self.names)), np.nan)
        for row, recipe in enumerate(recipes):
            settings = dict(recipe)
            for place, name in enumerate(self.names):
                if name in settings:
                    codes[row, place] = self._columns[place].code(settings[name])
        return codes

    def distances(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return distances [hyper-parameters, left, right] of encoded recipes, between 0 and 1."""
        found = np.empty((len(self.names), len(left), len(right)))
        for place, column in enumerate(self._columns):
            a = left[:, place, None]
            b = right[None, :, place]
            distance = column.distance(a, b)
            absent_a = np.isnan(a)
            absent_b = np.isnan(b)
            distance[absent_a ^ absent_b] = 1.0
            distance[absent_a & absent_b] = 0.0
            found[place] = distance
        return found


class _Numbers:
    """Places of numbers in the range that was seen."""

    def __init__(self, values: set[Any]) -> None:
        low, high = min(values), max(values)
        self._is_logarithmic = low > 0 and high / low >= _LOGARITHMIC_FROM
        self._low = self._scaled(low)
        self._span = (self._scaled(high) - self._low) or 1.0

    def _scaled(self, value: float) -> float:
        if not self._is_logarithmic:
            return float(value)
        # A value that was not seen may be zero or negative: it then lies far below all others.
        return math.log(max(value, 1e-300))

    def code(self, value: Any) -> float:
        if not _is_number(value):
            return math.nan
        return (self._scaled(value) - self._low) / self._span

    @staticmethod
    def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.minimum(np.abs(a - b), 1.0)


class _Categories:
    """Numbers for values that are only equal or different."""

    def __init__(self, values: set[Any]) -> None:
        self._codes = {value: i for i, value in enumerate(sorted(values, key=repr))}

    def code(self, value: Any) -> float:
        return self._codes.setdefault(value, len(self._codes))

    @staticmethod
    def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a != b).astype(float)


def _column(values: set[Any]) -> _Numbers | _Categories:
    if all(_is_number(value) for value in values):
        return _Numbers(values)
    return _Categories(values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
