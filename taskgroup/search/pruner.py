"""The group pruner: stops training groups that cannot become part of the best assembly.

A study is not after a good trial but after good groups, since the final grouping is assembled out of the groups of all
trials. So single groups are stopped, not trials. The rule, for a group g that has been trained for e epochs:

1. Finished groups show how much a skill may still rise: ``rise(e)`` is the 0.9 quantile, over the targets of the last
   300 finished groups, of (final skill - best skill by epoch e). Groups that had ended by epoch e count as 0.
2. The optimistic score of target t in group g is ``skill(g, t, e) + rise(e)``.
3. The exact solver assembles the best groupings of 1, 2, 3, ... networks out of all finished groups with their final
   skills and all running groups with their optimistic scores.
4. A running group that stands in none of these assemblies is stopped.

The rule is applied after ``warmup`` epochs and whenever the number of epochs has doubled; in between, nothing is
decided.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from taskgroup.errors import InfeasibleError
from taskgroup.execution.evaluator import best_so_far
from taskgroup.grouping import Candidate, Group, solve_each
from taskgroup.search.assembly import TrainedGroup
from taskgroup.spec.objective import ObjectiveConfig
from taskgroup.spec.sections import AssemblyConfig
from taskgroup.training import GroupResult

# Finished groups that the rise of a skill is learnt from: the space that the sampler visits changes with time.
_RECENT = 300
# Finished groups needed before any group is stopped: a quantile of fewer numbers says little.
_FEWEST = 8
# Quantile of the rises: one group in ten rises more than is expected here, and may be stopped wrongly.
_QUANTILE = 0.9
# Doublings of the warm-up: more epochs than any training has.
_MOST_RUNGS = 20
_ALL_COUNT = ObjectiveConfig()


class GroupPruner:
    """Says which groups can no longer become part of the best assembly; safe to call from several threads.

    Parameters
    ----------
    config: what an assembly may be.
    warmup: epochs that every group is trained.
    objective: which targets count, and how much.
    """

    def __init__(
        self,
        config: AssemblyConfig,
        warmup: int,
        objective: ObjectiveConfig = _ALL_COUNT,
    ) -> None:
        self._config = config
        self._objective = objective
        first_rung = max(1, warmup)
        self._rungs = {first_rung * 2**i for i in range(_MOST_RUNGS)}
        self._finished: dict[tuple[str, ...], Candidate] = {}
        self._rises: deque[NDArray[np.float64]] = deque(maxlen=_RECENT)
        self._lock = threading.Lock()

    def learn(self, groups: Iterable[TrainedGroup], results: Iterable[GroupResult]) -> None:
        """Take in finished groups, and the learning curves of their networks."""
        with self._lock:
            for group in groups:
                self._keep_better(group.candidate)
            for result in results:
                self._learn_rise(result)

    def _keep_better(self, candidate: Candidate) -> None:
        """Of one set of targets under several recipes, keep the one with the larger sum of skills."""
        targets = candidate.tasks
        if targets in self._finished:
            known_sum = sum(self._finished[targets].scores.values())
            if known_sum >= sum(candidate.scores.values()):
                return
        self._finished[targets] = candidate

    def _learn_rise(self, result: GroupResult) -> None:
        """Keep, for each epoch and target, final skill minus the best skill by then: [epochs, targets]."""
        final_skills = result.skills
        targets = [target for target, skill in final_skills.items() if skill is not None]
        if not targets:
            return
        rises = []
        for skills in best_so_far(result.curve):
            rises.append([final_skills[target] - skills[target] for target in targets])
        self._rises.append(np.array(rises))

    def stopped(
        self, epoch: int, running: Mapping[Group, Mapping[str, float]]
    ) -> Collection[Group]:
        """Return the groups to stop after ``epoch`` (from 1).

        ``running`` holds, per group in training, the skill that each of its targets has reached. A target whose skill
        is undefined (labels of one class only) is left out, and decides nothing.
        """
        with self._lock:
            if epoch not in self._rungs or len(self._rises) < _FEWEST:
                return ()
            rise = self._expected_rise(epoch)
            candidates: dict[Group, Candidate] = {}
            for number, (group, skills) in enumerate(running.items()):
                scores = {target: skill + rise for target, skill in skills.items()}
                candidates[group] = Candidate(
                    tasks=group.targets, scores=scores, key=f"running-{number}"
                )
            return self._unwanted(candidates)

    def _expected_rise(self, epoch: int) -> float:
        """Return how much a skill may still rise after an epoch: ``rise(e)`` of the rule above."""
        rises = []
        for rise_by_epoch in self._rises:
            if epoch <= len(rise_by_epoch):
                rises.append(rise_by_epoch[epoch - 1])
            else:
                n_targets = rise_by_epoch.shape[1]
                rises.append(np.zeros(n_targets))
        return float(np.quantile(np.concatenate(rises), _QUANTILE))

    def _unwanted(self, running: Mapping[Group, Candidate]) -> list[Group]:
        """Return the running groups that stand in no best assembly of any number of networks."""
        best_scores = self._best_scores(running.values())
        weights = self._objective.weights_of(list(best_scores))
        doubtful = {}
        for group, candidate in running.items():
            # The best of all at some target is in the largest assembly, where sets may overlap: no need to solve.
            is_best = any(
                score >= best_scores[target] and weights[target] > 0
                for target, score in candidate.scores.items()
            )
            if self._config.disjoint or not is_best:
                doubtful[group] = candidate
        if not doubtful:
            return []
        wanted_keys = self._wanted(list(doubtful.values()), weights)
        return [group for group, candidate in doubtful.items() if candidate.key not in wanted_keys]

    def _best_scores(self, running: Iterable[Candidate]) -> dict[str, float]:
        """Return the best score of each target over finished and running groups."""
        best_scores: dict[str, float] = {}
        for candidate in (*self._finished.values(), *running):
            for target, score in candidate.scores.items():
                best_scores[target] = max(score, best_scores.get(target, score))
        return best_scores

    def _wanted(self, doubtful: Sequence[Candidate], weights: Mapping[str, float]) -> set[str]:
        """Return the keys of all candidates in the best assemblies of 1, 2, ... networks, up to one per target."""
        n_targets = len(weights)
        open_keys = {candidate.key for candidate in doubtful}
        candidates = [*self._finished.values(), *doubtful]
        most_networks = min(self._config.max_networks or n_targets, n_targets)
        wanted_keys: set[str] = set()
        # Too few finished groups may serve all targets in no way: then nothing more is known to be wanted.
        with contextlib.suppress(InfeasibleError):
            for solution in solve_each(
                candidates,
                most_networks,
                disjoint=self._config.disjoint,
                weights=weights,
                higher_is_better=True,
            ):
                wanted_keys |= {group.key for group in solution.groups}
                if open_keys <= wanted_keys:
                    break
        return wanted_keys
