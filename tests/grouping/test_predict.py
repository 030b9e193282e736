"""Predictors of untrained sets: conformance of every one, closed forms, and a synthetic truth each can find."""

import numpy as np
import pytest

from taskgroup.errors import GroupingError
from taskgroup.grouping import Candidate
from taskgroup.grouping.predict import (
    BoostedAffinity,
    EarlyStopping,
    PairMeans,
    RidgeOnSets,
    SetProcess,
    SkillPredictor,
    SubsetMeans,
    score_predictor,
)
from taskgroup.grouping.predict.testing import (
    CalibrationConformance,
    PredictorConformance,
    all_networks,
)


class TestPairMeans(PredictorConformance):
    def make(self, networks):
        return PairMeans()


class TestSubsetMeans(PredictorConformance):
    def make(self, networks):
        return SubsetMeans()


class TestEarlyStopping(PredictorConformance):
    def make(self, networks):
        return EarlyStopping(
            [Candidate(c.tasks, {t: 3 * v for t, v in c.scores.items()}, c.cost) for c in networks]
        )


class TestSkillPredictor(PredictorConformance, CalibrationConformance):
    def make(self, networks):
        return SkillPredictor()


class TestRidgeOnSets(PredictorConformance):
    def make(self, networks):
        return RidgeOnSets()


class TestSetProcess(PredictorConformance):
    def make(self, networks):
        return SetProcess()


class TestBoostedAffinity(PredictorConformance):
    def make(self, networks):
        return BoostedAffinity("dcba", np.arange(16.0).reshape(4, 4))


def test_a_set_is_predicted_by_its_pairs_as_hoa_does():
    trained = [
        Candidate(("a", "b"), {"a": 1.0, "b": 5.0}),
        Candidate(("a", "c"), {"a": 2.0, "c": 7.0}),
        Candidate(("b", "c"), {"b": 6.0, "c": 9.0}),
        Candidate(("a",), {"a": 4.0}),
    ]
    expected = (
        PairMeans()
        .fit(trained)
        .predict([Candidate(("a", "b", "c"), {}), Candidate(("a",), {}, cost=0.5)])
    )
    np.testing.assert_allclose(expected.mean[0], [1.5, 5.5, 8.0])
    assert expected.mean[1, 0] == 4.0


def test_subset_means_average_all_sets_that_hold_the_task_and_a_helper():
    trained = [
        Candidate(("a", "b"), {"a": 1.0, "b": 0.0}),
        Candidate(("a", "b", "c"), {"a": 3.0, "b": 0.0, "c": 0.0}),
    ]
    expected = (
        SubsetMeans()
        .fit(trained)
        .predict([Candidate(("a", "c"), {}), Candidate(("a", "b"), {}, cost=2)])
    )
    assert expected.mean[0, 0] == 3.0
    assert expected.mean[1, 0] == 2.0


def test_early_values_are_scaled_by_the_ratio_of_trained_networks():
    early = [Candidate(("a",), {"a": 2.0}), Candidate(("a", "b"), {"a": 3.0, "b": 1.0})]
    trained = [Candidate(("a",), {"a": 1.0}), Candidate(("b",), {"b": 9.0})]
    expected = EarlyStopping(early).fit(trained).predict([Candidate(("a", "b"), {})])
    np.testing.assert_allclose(expected.mean[0], [1.5, 0.5])


def additive_networks(seed, n_tasks=6, noise=0.005):
    """All sets of up to four tasks; helpers add up, directed."""
    rng = np.random.default_rng(seed)
    effect = rng.normal(0, 0.05, (n_tasks, n_tasks))
    tasks = [f"t{i}" for i in range(n_tasks)]
    networks = []
    for code in range(1, 2**n_tasks):
        members = [i for i in range(n_tasks) if code >> i & 1]
        if len(members) <= 4:
            values = {
                tasks[i]: 1 + effect[i, members].sum() - effect[i, i] + noise * rng.normal()
                for i in members
            }
            networks.append(Candidate(tuple(values), values))
    return networks, tasks, effect


@pytest.mark.parametrize("predictor", [RidgeOnSets, SetProcess])
def test_additive_helpers_are_learned_from_a_third_of_the_sets(predictor):
    networks, _, _ = additive_networks(0)
    order = np.random.default_rng(1).permutation(len(networks))
    trained, held_out = [networks[i] for i in order[:20]], [networks[i] for i in order[20:]]
    score = score_predictor(predictor(), trained, held_out)
    assert score.pearson > 0.9
    assert score.spearman > 0.9
    assert score.mae < 0.03
    assert score.within_2 > 0.9


def test_pairs_rank_additive_sets_but_do_not_reach_their_size():
    networks, _, _ = additive_networks(0)
    pairs = [c for c in networks if len(c.tasks) <= 2]
    score = score_predictor(PairMeans(), pairs, [c for c in networks if len(c.tasks) > 2])
    assert score.spearman > 0.8
    assert (
        score.mae
        > score_predictor(SetProcess(), pairs, [c for c in networks if len(c.tasks) > 2]).mae
    )


def test_a_true_affinity_helps_where_next_to_nothing_was_trained():
    networks, tasks, effect = additive_networks(3)
    trained = [c for c in networks if len(c.tasks) == 1 or set(c.tasks) <= set(tasks[:3])]
    held_out = [c for c in networks if len(c.tasks) == 3 and c not in trained]
    boosted = score_predictor(BoostedAffinity(tasks, effect), trained, held_out)
    plain = score_predictor(RidgeOnSets(), trained, held_out)
    assert boosted.spearman > plain.spearman + 0.1
    assert boosted.mae < plain.mae


def test_a_half_cost_network_is_like_its_full_twin_but_not_the_same():
    trained = [c for c in all_networks() if c.cost == 1]
    process = SetProcess().fit(trained)
    twin, half = Candidate(("a",), {}), Candidate(("a",), {}, cost=0.5)
    expected = process.predict([twin, half])
    assert expected.spread[0, 0] == 0
    assert 0 < expected.spread[1, 0] < process.spread[0] * 2


def test_bad_requests_are_named():
    with pytest.raises(GroupingError, match="at least one trained set, found none"):
        PairMeans().fit([])
    with pytest.raises(GroupingError, match="a score of every task, found none of 'b'"):
        PairMeans().fit([Candidate(("a", "b"), {"a": 1})])
    fitted = PairMeans().fit([Candidate(("band_gap",), {"band_gap": 1})])
    with pytest.raises(
        GroupingError, match="no trained set holds the task 'bandgap', did you mean 'band_gap'"
    ):
        fitted.predict([Candidate(("bandgap",), {})])
    with pytest.raises(GroupingError, match="affinity must be square"):
        BoostedAffinity("ab", np.zeros((2, 3)))
    with pytest.raises(
        GroupingError, match="affinity must name every trained task, found none of 'c'"
    ):
        BoostedAffinity("ab", np.zeros((2, 2))).fit([Candidate(("c",), {"c": 1})])
    with pytest.raises(GroupingError, match="at least two measured values, found 0"):
        score_predictor(PairMeans(), [Candidate(("a",), {"a": 1})], [Candidate(("a",), {})])
