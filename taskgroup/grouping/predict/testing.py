"""What every predictor must do; subclass `PredictorConformance` in a test and say how yours is made."""

from itertools import combinations

import numpy as np

from taskgroup.grouping.candidates import Candidate
from taskgroup.grouping.predict._base import GainPredictor

_TASKS = ("a", "b", "c", "d")


def all_networks(seed: int = 0) -> list[Candidate]:
    """Every set of four tasks at cost 1 and the tasks alone at cost 0.5, with additive effects and noise."""
    rng = np.random.default_rng(seed)
    effect = rng.normal(0, 0.1, (4, 4))
    sets = [(s, 1.0) for size in range(1, 5) for s in combinations(range(4), size)] + [
        ((i,), 0.5) for i in range(4)
    ]
    networks = []
    for members, cost in sets:
        values = {
            _TASKS[i]: (i + 1)
            * float(1 + sum(effect[i, j] for j in members if j != i) + 0.02 * rng.normal())
            for i in members
        }
        networks.append(Candidate(tuple(values), values, cost))
    return networks


class PredictorConformance:
    """Conformance tests of a `GainPredictor`."""

    def make(self, networks: list[Candidate]) -> GainPredictor:
        """The predictor under test, new; ``networks`` for those that need early values or affinities."""
        raise NotImplementedError

    def _some(self) -> tuple[list[Candidate], list[Candidate], GainPredictor]:
        networks = all_networks()
        trained, others = networks[::2], networks[1::2]
        return trained, others, self.make(networks).fit(trained)

    def test_every_member_of_any_set_gets_a_finite_mean_and_a_spread(self) -> None:
        _, others, predictor = self._some()
        found = predictor.predict(others)
        member = np.array([[task in c.tasks for task in found.tasks] for c in others])
        assert found.tasks == _TASKS
        assert np.isfinite(found.mean[member]).all()
        assert (found.spread[member] > 0).all()
        assert np.isnan(found.mean[~member]).all()
        assert np.isnan(found.spread[~member]).all()

    def test_trained_sets_are_predicted_as_measured(self) -> None:
        trained, _, predictor = self._some()
        found = predictor.predict(trained)
        for row, candidate in enumerate(trained):
            for task, value in candidate.scores.items():
                assert found.mean[row, _TASKS.index(task)] == value
                assert found.spread[row, _TASKS.index(task)] == 0

    def test_scores_of_the_asked_sets_are_not_looked_at(self) -> None:
        _, others, predictor = self._some()
        blank = [Candidate(c.tasks, {}, c.cost) for c in others]
        np.testing.assert_array_equal(predictor.predict(others).mean, predictor.predict(blank).mean)

    def test_order_of_training_and_asking_does_not_matter(self) -> None:
        trained, others, predictor = self._some()
        again = self.make(all_networks()).fit(trained[::-1])
        np.testing.assert_allclose(
            again.predict(others[::-1]).mean[::-1], predictor.predict(others).mean, rtol=1e-9
        )
        np.testing.assert_allclose(
            again.predict(others[::-1]).spread[::-1], predictor.predict(others).spread, rtol=1e-9
        )

    def test_values_in_another_unit_give_predictions_in_that_unit(self) -> None:
        def scaled(networks: list[Candidate]) -> list[Candidate]:
            return [
                Candidate(c.tasks, {t: 1000 * v for t, v in c.scores.items()}, c.cost)
                for c in networks
            ]

        trained, others, predictor = self._some()
        again = self.make(scaled(all_networks())).fit(scaled(trained))
        np.testing.assert_allclose(
            again.predict(others).mean, 1000 * predictor.predict(others).mean, rtol=1e-9
        )
        np.testing.assert_allclose(
            again.predict(others).spread, 1000 * predictor.predict(others).spread, rtol=1e-9
        )

    def test_one_trained_set_is_enough_to_fit(self) -> None:
        networks = all_networks()
        whole = [c for c in networks if len(c.tasks) == 4]
        found = self.make(networks).fit(whole).predict(networks)
        assert np.isfinite(found.mean).sum() == sum(len(c.tasks) for c in networks)


class CalibrationConformance:
    """Conformance tests of predictors whose spreads are meant to be of one more training: are they as wide as errors?

    The truth adds up helpers, what a set has of its own, and noise; many small problems are drawn, so that the shares
    below are sharp. ``make`` is as in `PredictorConformance`.
    """

    problems = 40

    def make(self, networks: list[Candidate]) -> GainPredictor:
        """Return the predictor under test, new."""
        raise NotImplementedError

    def _errors_in_spreads(self, n_trained: int) -> np.ndarray:
        errors = []
        for seed in range(self.problems):
            networks = _noisy_networks(seed)
            trained, held_out = networks[:n_trained], networks[n_trained:]
            predictor = self.make(networks).fit(trained)
            expected = predictor.predict(held_out)
            for row, candidate in enumerate(held_out):
                for task, value in candidate.scores.items():
                    place = predictor.tasks.index(task)
                    error = value - expected.mean[row, place]
                    errors.append(error / expected.spread[row, place])
        return np.abs(errors)

    def test_held_out_trainings_fall_inside_one_and_two_spreads_as_often_as_they_should(
        self,
    ) -> None:
        for n_trained in (10, 25):
            errors = self._errors_in_spreads(n_trained)
            # A normal distribution holds .683 within one and .954 within two standard deviations.
            assert 0.62 < (errors <= 1).mean() < 0.82
            assert 0.91 < (errors <= 2).mean() < 0.99


def _noisy_networks(seed: int) -> list[Candidate]:
    """Return forty trainings of random sets of five tasks, the network of all tasks first."""
    rng = np.random.default_rng(seed)
    tasks = np.array(list("abcde"))
    effect = rng.normal(0, 0.1, (5, 5))
    spread_of_sets, noise = rng.uniform(0.01, 0.06, 5), rng.uniform(0.01, 0.05, 5)
    own: dict[tuple[int, int], float] = {}
    networks = []
    for number in range(40):
        inside = np.ones(5, dtype=bool) if number == 0 else rng.random(5) < 0.5
        if not inside.any():
            inside[rng.integers(5)] = True
        code = int(inside @ (1 << np.arange(5)))
        scores = {}
        for task in np.flatnonzero(inside):
            of_set = own.setdefault((task, code), spread_of_sets[task] * rng.normal())
            helped = effect[task] @ inside - effect[task, task]
            scores[str(tasks[task])] = 0.6 + helped + of_set + noise[task] * rng.normal()
        names = tuple(str(name) for name in tasks[inside])
        networks.append(Candidate(names, scores, key=f"training {number}"))
    return networks
