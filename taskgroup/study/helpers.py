"""Which targets help one target, by a model of all networks that a run has trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from taskgroup.errors import RunError, did_you_mean
from taskgroup.execution.results import ResultStore
from taskgroup.grouping.predict import Network, SkillModel
from taskgroup.intervals import Interval, percentile_bounds
from taskgroup.search.evidence import observation_of
from taskgroup.spec.config import load_study
from taskgroup.spec.plan import StudyData
from taskgroup.tracking import find_run, read_study
from taskgroup.training import GroupResult

# Draws of the skills: the bounds of 95 % intervals to about a twentieth of their width.
_DRAWS = 2000


@dataclass(frozen=True)
class Helper:
    """What a target is expected to gain by being learned together with another one, over being learned alone.

    Attributes:
        name: the other target.
        gain: expected difference of skill, with its 95 % interval.
        probability: that the gain is positive.
        networks: trained networks that hold both.
    """

    name: str
    gain: Interval
    probability: float
    networks: int


@dataclass(frozen=True)
class HelpersOfTarget:
    """The helpers of a target, most helpful first, and the trained network that is expected to serve it best."""

    target: str
    helpers: tuple[Helper, ...]
    best: tuple[str, ...]
    best_gain: Interval


def helpers_of(folder: Path, target: str) -> HelpersOfTarget:
    """Return what helps a target in a run, finished or not.

    Raises RunError: the study has no such target, or its networks do not tell.
    """
    folder = find_run(folder)
    data = StudyData(load_study(read_study(folder).config))
    names = data.targets.names
    if target not in names:
        raise RunError(
            f"{folder}: the study has no target '{target}'; {did_you_mean(target, names)}"
        )
    store = ResultStore(folder / "results", "reader")
    results = [result for result in store if _counts(result, names)]
    model = SkillModel()
    observations = [observation_of(result) for result in sorted(results, key=lambda r: r.key)]
    if observations:
        model.update(observations)
    missing = sorted(set(names) - set(model.tasks))
    if missing:
        raise RunError(
            f"{folder}: no network of '{missing[0]}' has been trained yet; go on with: taskgroup resume {folder}"
        )
    return _helpers(model, [observation.network for observation in observations], target)


def _counts(result: GroupResult, names: Sequence[str]) -> bool:
    """Return whether a result is of the targets of the study, trained on all its rows."""
    return set(result.targets) <= set(names) and "train_share" not in result.job.split


def _helpers(model: SkillModel, trained: Sequence[Network], target: str) -> HelpersOfTarget:
    holding = [network for network in dict.fromkeys(trained) if target in network.tasks]
    column = model.tasks.index(target)
    mean = model.posterior_mean(holding)[:, column]
    best = holding[int(np.argmax(mean))]
    others = [name for name in model.tasks if name != target]
    # All by one recipe, that of the network which serves the target best: recipes are not compared here.
    alone = Network((target,), best.recipe)
    pairs = [Network((target, name), best.recipe) for name in others]
    posterior = model.posterior([alone, *pairs, best])
    draws = posterior.sample(_DRAWS)[:, :, column]
    expected = posterior.mean[:, column]
    found = []
    for place, name in enumerate(others, start=1):
        drawn = draws[:, place] - draws[:, 0]
        networks = sum(name in network.tasks for network in holding)
        gain = _interval(float(expected[place] - expected[0]), drawn)
        found.append(Helper(name, gain, float(np.mean(drawn > 0)), networks))
    found.sort(key=lambda helper: -helper.gain.mean)
    best_gain = _interval(float(expected[-1] - expected[0]), draws[:, -1] - draws[:, 0])
    return HelpersOfTarget(target, tuple(found), best.tasks, best_gain)


def _interval(mean: float, drawn: np.ndarray) -> Interval:
    return Interval(mean, *percentile_bounds(drawn), len(drawn))
