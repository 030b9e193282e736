"""The learning curve of a study's choice: the same networks on fewer rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from taskgroup.errors import RunError
from taskgroup.execution import make_executor
from taskgroup.execution.evaluator import Evaluator
from taskgroup.execution.results import ResultStore
from taskgroup.export import load_bundle, predict
from taskgroup.export.bundle import Bundle
from taskgroup.spec.config import load_study
from taskgroup.spec.plan import Plan, Recipe, StudyData
from taskgroup.study.finalise import refit
from taskgroup.study.release import bounds, refit_bundle, skill_draws
from taskgroup.tracking import Interval, find_run, read_study
from taskgroup.tracking.learning_points import LearningPoint, write_learning
from taskgroup.training import GroupJob

SHARES = (0.125, 0.25, 0.5, 1.0)


def learning_curve(run: str | Path, shares: Sequence[float] = SHARES) -> list[LearningPoint]:
    """Refit the exported grouping on shares of the training rows and test each; kept in the run folder.

    Members, seeds, recipes and test rows are the bundle's; what was trained before is not trained again. Raises
    RunError: no run, or one that has not ended; ConfigError: a share that is not in (0, 1] or leaves too few rows.
    """
    folder = find_run(run)
    if not (folder / "export").exists():
        raise RunError(f"{folder}: the study has not ended; go on with: taskgroup resume {folder}")
    config = load_study(read_study(folder).config)
    plan = exported_plan(load_bundle(folder / "export"))
    executor = make_executor(config.executor.kind, folder, config.executor.threads, "learning")
    points = []
    try:
        for share in sorted(set(shares)):
            data = StudyData(config, share)
            store = ResultStore(folder / "results")
            members = refit(Evaluator(data, store, executor, config.executor.time_limit), plan)
            rows = data.splits.split(data.split.test_fold, data.split.validation_folds[0]).test
            bundle = refit_bundle(folder, data, plan.grouping, members, config.name)
            draws = skill_draws(predict(bundle, data.dataset, rows=rows), data, rows)
            mean = np.nanmean([np.clip(each, -1, None) for each in draws.values()], axis=0)
            skills = {target: _interval(each) for target, each in draws.items()}
            points.append(LearningPoint(share, _mean_rows(data, members), _interval(mean), skills))
    finally:
        executor.close()
    write_learning(folder, points)
    return points


def exported_plan(bundle: Bundle) -> Plan:
    """The grouping of a bundle with the recipes its networks were trained by."""
    jobs = [GroupJob.from_dict(group["members"][0]) for group in bundle.spec.provenance["groups"]]
    recipes = {job.targets: Recipe(job.model, job.training) for job in jobs}
    grouping = bundle.spec.grouping
    return Plan(grouping, tuple(recipes[group.targets] for group in grouping.groups))


def _mean_rows(data: StudyData, members: Sequence[Any]) -> float:
    """Training rows of a member, with any label or none, on average."""
    folds = [member.results[0].job.split["validation_fold"] for member in members]
    splits = [
        data.splits.split(data.split.test_fold, fold).with_train_share(data.train_share)
        for fold in folds
    ]
    return float(np.mean([len(split.train) for split in splits]))


def _interval(draws: np.ndarray) -> Interval:
    return Interval(float(draws[0]), *bounds(draws[1:]), n=len(draws) - 1)
