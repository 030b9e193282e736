"""Stopping groups: against a brute-force search of all assemblies, and in a real study."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from taskgroup.datasets import Dataset, TargetTable, write_store
from taskgroup.grouping import Candidate, Group
from taskgroup.search.assembly import TrainedGroup
from taskgroup.search.pruner import GroupPruner
from taskgroup.spec.config import AssemblyConfig
from taskgroup.spec.plan import Recipe
from taskgroup.study import Study
from taskgroup.training import mean_skill
from tests.conftest import small_dataset


class Finished:
    """The part of a GroupResult that GroupPruner reads: one target that rises by ``rise`` from epoch 10 to epoch 20."""

    def __init__(self, rise: float) -> None:
        self.curve = tuple({"a": 0.5 + rise * max(0, epoch - 10) / 10} for epoch in range(1, 21))
        self.skills = {"a": 0.5 + rise}


def trained(**scores: float) -> TrainedGroup:
    return TrainedGroup(
        Candidate(tasks=tuple(scores), scores=scores, key="+".join(scores)), Recipe(None, None), ()
    )


def pruner_knowing(
    *groups: TrainedGroup, rise: float = 0.1, config: AssemblyConfig | None = None
) -> GroupPruner:
    pruner = GroupPruner(config or AssemblyConfig(), warmup=10)
    pruner.learn(groups, [Finished(rise)] * 8)
    return pruner


def group(**skills: float) -> dict[Group, dict[str, float]]:
    return {Group(tuple(skills)): skills}


SINGLES = trained(a=0.8), trained(b=0.8), trained(c=0.8)


def test_a_group_whose_optimistic_score_is_below_everything_is_stopped_and_one_above_goes_on():
    pruner = pruner_knowing(*SINGLES, trained(a=0.7, b=0.7, c=0.7))
    assert pruner.stopped(10, group(a=0.69)) == [Group(("a",))]
    assert pruner.stopped(10, group(a=0.71)) == []


def test_a_group_that_is_best_at_one_target_goes_on_since_the_others_may_help_it():
    pruner = pruner_knowing(*SINGLES, trained(a=0.7, b=0.7, c=0.7))
    assert pruner.stopped(10, group(a=0.75, b=0.1)) == []


def test_a_group_that_is_best_at_nothing_goes_on_if_it_makes_the_best_of_few_networks():
    pruner = pruner_knowing(*SINGLES, trained(a=0.7, b=0.7, c=0.7))
    assert pruner.stopped(10, group(a=0.65, b=0.65)) == []  # with c alone the best of two networks
    assert pruner.stopped(10, group(a=0.55, b=0.55)) == [Group(("a", "b"))]


def test_the_expected_rise_shrinks_as_epochs_pass():
    pruner = pruner_knowing(*SINGLES)
    assert pruner.stopped(10, group(a=0.75)) == []
    assert pruner.stopped(20, group(a=0.75)) == [Group(("a",))]
    assert pruner.stopped(40, group(a=0.79)) == [Group(("a",))]  # finished groups had ended
    assert pruner.stopped(40, group(a=0.81)) == []


def test_nothing_is_stopped_before_warm_up_between_rungs_or_with_few_finished_groups():
    pruner = pruner_knowing(*SINGLES)
    assert pruner.stopped(9, group(a=0.0)) == pruner.stopped(11, group(a=0.0)) == ()
    young = GroupPruner(AssemblyConfig(), warmup=10)
    young.learn(SINGLES, [Finished(0.1)] * 7)
    assert young.stopped(10, group(a=0.0)) == ()


@pytest.mark.parametrize("disjoint", [False, True])
@pytest.mark.parametrize("low", [0.55, 0.62, 0.66, 0.69, 0.73])
def test_what_is_stopped_stands_in_no_best_assembly_of_any_size(disjoint: bool, low: float):
    pool = [*SINGLES, trained(a=0.76, b=0.77), trained(b=0.78, c=0.7), trained(a=0.7, b=0.7, c=0.7)]
    running = group(a=low, c=low)
    pruner = pruner_knowing(*pool, config=AssemblyConfig(disjoint=disjoint))
    optimistic = {t: s + 0.1 for t, s in running[Group(("a", "c"))].items()}

    def best(candidates: list[dict[str, float]], size: int) -> float:
        values = []
        for chosen in combinations(candidates, size):
            covered = [target for each in chosen for target in each]
            if set(covered) == set("abc") and (not disjoint or len(covered) == 3):
                values.append(
                    mean_skill({t: max(each[t] for each in chosen if t in each) for t in "abc"})
                )
        return max(values, default=-1.0)

    without = [dict(each.candidate.scores) for each in pool]
    sizes = (1, 2, 3)
    below = [max(best(without, n) for n in sizes[:k]) for k in sizes]
    gains = [
        max(best([*without, optimistic], n) for n in sizes[:k]) > below[k - 1] + 1e-9 for k in sizes
    ]
    assert bool(pruner.stopped(10, running)) == (not any(gains))


def test_a_study_stops_groups_and_begins_none_of_them_again(make_config, tmp_path: Path):
    content = ("search.n_trials=14", "search.warmup_epochs=1", "space.training.epochs=12")
    stopped = Study(make_config(*content), tmp_path / "stopping").run()
    whole = Study(make_config(*content, "search.pruner=none"), tmp_path / "whole").run()
    states = [record.state for record in stopped.records()]
    assert "PRUNED" in states
    assert all(record.state == "COMPLETE" for record in whole.records())
    for record in stopped.records():
        if record.kind == "baseline":
            assert record.state == "COMPLETE"


def test_a_target_that_validation_rows_cannot_tell_disturbs_no_study(make_config, tmp_path: Path):
    whole = small_dataset()
    values = whole.targets.values.copy()
    values[whole.splits(by="formula", folds=5, seed=0).split(0, 1).validation, 2] = np.nan
    table = TargetTable(whole.targets.specs, whole.ids, values)
    rows = np.arange(len(whole))
    parts = whole.densities(rows), whole.lattices, whole.formulas, whole.formulas
    write_store(tmp_path / "data", Dataset.from_arrays("small", whole.ids, table, *parts))
    content = ("search.n_trials=14", "search.warmup_epochs=1", "space.training.epochs=12")
    study = Study(make_config(*content, f"dataset={tmp_path / 'data'}"), tmp_path / "run").run()
    states = [record.state for record in study.records() if record.kind == "trial"]
    assert "PRUNED" in states
    assert set(states) <= {"COMPLETE", "PRUNED"}


def test_a_stopped_trial_that_is_proposed_again_is_no_new_trial(make_config, tmp_path: Path):
    study = Study(
        make_config("search.n_trials=20", "search.warmup_epochs=1", "space.training.epochs=12"),
        tmp_path / "run",
    )
    records = [record for record in study.run().records() if record.kind == "trial"]
    keys = [record.keys for record in records]
    assert len(keys) == len(set(keys))
