"""From clustering settings to groupings."""

from dataclasses import replace

import pytest

from taskgroup.affinity import Affinity, affinity_matrix
from taskgroup.errors import GroupingError
from taskgroup.grouping import Grouping, cluster, target_graph
from taskgroup.search.groupings import GroupingBuilder
from taskgroup.spec.space import GroupingSettings
from tests.conftest import small_dataset

DEFAULT = GroupingSettings(sparsifier="threshold", threshold=0.2)
TARGETS = ("level", "level_too", "spread", "volume")


class Spearman:
    """Gives one affinity and counts how often it was asked for it."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.affinity: Affinity = affinity_matrix(small_dataset().targets, measure="spearman")

    def __call__(self, name: str) -> Affinity:
        self.names.append(name)
        return self.affinity


@pytest.fixture
def affinity_of() -> Spearman:
    return Spearman()


@pytest.fixture
def builder(affinity_of: Spearman) -> GroupingBuilder:
    return GroupingBuilder(TARGETS, DEFAULT, affinity_of)


def test_a_grouping_is_the_clustering_of_the_target_graph(builder, affinity_of):
    settings = DEFAULT.model_copy(update={"method": "hierarchical", "k": 2})
    graph = target_graph(affinity_of.affinity, sparsifier="threshold", threshold=0.2)
    assert builder.grouping(settings) == cluster(graph, method="hierarchical", k=2)
    assert len(builder.grouping(settings)) == 2


def test_equal_settings_are_clustered_once(builder, affinity_of):
    first = builder.grouping(DEFAULT)
    assert builder.grouping(DEFAULT.model_copy()) is first
    assert affinity_of.names == ["spearman"]


def test_methods_that_ignore_the_graph_need_no_affinity(builder, affinity_of):
    settings = DEFAULT.model_copy(update={"affinity": "gradient", "k": 3})
    groupings = {
        method: builder.grouping(settings.model_copy(update={"method": method}))
        for method in ("singles", "together", "random")
    }
    assert groupings == {
        "singles": Grouping.singles(TARGETS),
        "together": Grouping.together(TARGETS),
        "random": Grouping.random(TARGETS, 3, settings.seed),
    }
    assert affinity_of.names == []


def test_random_groups_are_as_many_as_the_default_grouping_has(builder):
    default = builder.grouping(DEFAULT)
    for seed in range(3):
        settings = DEFAULT.model_copy(update={"method": "random", "seed": seed})
        assert builder.grouping(settings) == Grouping.random(TARGETS, len(default), seed)


def test_more_groups_than_targets_are_one_per_target(builder):
    settings = DEFAULT.model_copy(update={"method": "hierarchical", "k": 9})
    assert len(builder.grouping(settings)) == 4


def test_negative_gradients_separate_and_negative_correlations_join():
    opposite = affinity_matrix(small_dataset().targets.select(("level", "level_too")), "spearman")
    values = opposite.values.copy()
    values[0, 1] = values[1, 0] = -0.9
    affinity = replace(opposite, values=values)
    builder = GroupingBuilder(("level", "level_too"), DEFAULT, lambda name: affinity)
    assert len(builder.grouping(DEFAULT)) == 1
    assert len(builder.grouping(DEFAULT.model_copy(update={"affinity": "gradient"}))) == 2


def test_an_affinity_that_does_not_exist_is_an_error(builder):
    def unknown(name: str) -> Affinity:
        raise GroupingError(f"Unknown measure '{name}'")

    with pytest.raises(GroupingError, match="Unknown measure"):
        GroupingBuilder(TARGETS, DEFAULT, unknown).grouping(DEFAULT)
