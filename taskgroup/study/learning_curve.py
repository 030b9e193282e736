"""The learning curve of a study's choice: the same networks on fewer rows."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from taskgroup.errors import RunError
from taskgroup.execution import make_executor
from taskgroup.execution.evaluator import Evaluator
from taskgroup.execution.executor import Executor
from taskgroup.execution.results import ResultStore
from taskgroup.export import load_bundle, predict
from taskgroup.spec.config import StudyConfig, load_study
from taskgroup.spec.plan import Plan, StudyData
from taskgroup.study.recorded_plans import bundle_plan
from taskgroup.study.refit import Members, refit, refit_bundle
from taskgroup.study.release import interval_of_draws, mean_draws, skill_draws
from taskgroup.tracking import find_run, read_study
from taskgroup.tracking.learning_points import LearningPoint, write_learning

# Each share is twice the one before: skill grows about evenly with the logarithm of the rows.
SHARES = (0.125, 0.25, 0.5, 1.0)


def learning_curve(run: str | Path, shares: Sequence[float] = SHARES) -> list[LearningPoint]:
    """Train the exported grouping on shares of the training rows, test each, and keep the curve in the run folder.

    Members, seeds, recipes and test rows are those of the bundle; what was trained before is not trained again.

    Raises RunError: no run, or one that has not ended; ConfigError: a share that is not in (0, 1] or leaves too few
    rows.
    """
    folder = find_run(run)
    if not (folder / "export").exists():
        raise RunError(f"{folder}: the study has not ended; go on with: taskgroup resume {folder}")
    config = load_study(read_study(folder).config)
    plan = bundle_plan(load_bundle(folder / "export"))
    executor = make_executor(config.executor.kind, folder, config.executor.threads, "learning")
    with closing(executor):
        points = [_point(folder, config, plan, executor, share) for share in sorted(set(shares))]
    write_learning(folder, points)
    return points


def _point(
    folder: Path, config: StudyConfig, plan: Plan, executor: Executor, share: float
) -> LearningPoint:
    """Return one point of the curve: the plan trained on a share of the training rows."""
    data = StudyData(config, share)
    store = ResultStore(folder / "results")
    evaluator = Evaluator(data, store, executor, config.executor.time_limit)
    members = refit(evaluator, plan)
    bundle = refit_bundle(folder, data, plan, members, config.name)
    predictions = predict(bundle, data.dataset, rows=data.test_rows)
    draws = skill_draws(predictions, data, data.test_rows)
    return LearningPoint(
        share=share,
        rows=_mean_training_rows(data, members),
        mean=interval_of_draws(mean_draws(draws)),
        skills={target: interval_of_draws(of_target) for target, of_target in draws.items()},
    )


def _mean_training_rows(data: StudyData, members: Members) -> float:
    """Return the number of training rows of a member, labelled or not, on average."""
    n_rows = []
    for member in members:
        fold = member.results[0].job.split["validation_fold"]
        split = data.splits.split(data.split.test_fold, fold).with_train_share(data.train_share)
        n_rows.append(len(split.train))
    return float(np.mean(n_rows))
