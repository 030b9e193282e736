"""What is expected of a measure: subclass `MeasureConformance`, name the measure, and let pytest run it.

class TestMyMeasure(MeasureConformance):
    measure = staticmethod(my_measure)
"""

import math

import numpy as np

from taskgroup.affinity.labels import Measure


class MeasureConformance:
    """Rules that every measure of the relation between two regression targets keeps."""

    measure: Measure

    @staticmethod
    def _pair(n: int = 150, slope: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        x, noise = np.random.default_rng(seed).standard_normal((2, n))
        return x, slope * x + noise

    def test_a_relation_is_found_with_its_strength_between_minus_one_and_one(self) -> None:
        value, p = self.measure(*self._pair())
        assert 0.3 < abs(value) <= 1.0
        assert 0.0 <= p < 0.01

    def test_it_is_symmetric(self) -> None:
        x, y = self._pair()
        assert math.isclose(self.measure(x, y)[0], self.measure(y, x)[0], rel_tol=0.1)

    def test_units_do_not_matter(self) -> None:
        x, y = self._pair()
        assert np.allclose(
            self.measure(x, y), self.measure(1e9 * x + 3e9, 1e-9 * y), rtol=1e-5, atol=1e-12
        )

    def test_the_same_pair_gives_the_same_answer(self) -> None:
        assert tuple(self.measure(*self._pair())) == tuple(self.measure(*self._pair()))

    def test_constant_columns_and_too_few_rows_are_undefined(self) -> None:
        x, y = self._pair()
        for a, b in ((x, np.ones_like(x)), (np.ones_like(x), y), (x[:2], y[:2]), (x[:0], y[:0])):
            value, p = self.measure(a, b)
            assert math.isnan(value)
            assert p == 1.0

    def test_ties_and_outliers_are_survived(self) -> None:
        x, y = self._pair()
        for a, b in (
            (x.round(), y.round()),
            (np.append(x, 1e15), np.append(y, -1e15)),
            (x > 0.0, y > 0.0),
        ):
            value, p = self.measure(a.astype(float), b.astype(float))
            assert -1.0 <= value <= 1.0
            assert 0.0 <= p <= 1.0

    def test_without_a_relation_small_p_values_are_rare(self) -> None:
        p = np.array(
            [self.measure(*self._pair(n=60, slope=0.0, seed=seed))[1] for seed in range(300)]
        )
        assert np.mean(p <= 0.05) < 0.09  # 0.05 plus three standard errors
