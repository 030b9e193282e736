"""Stopping groups that no best grouping will want.

A trial is not what a study is after: its groups are, since the final grouping is assembled out of every group trained
in any trial. So groups are stopped, not trials: a group goes on as long as it may still enter a best assembly.
"""

import contextlib
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from taskgroup.errors import InfeasibleError
from taskgroup.execution.evaluator import best_so_far
from taskgroup.grouping import Candidate, Group, solve_each
from taskgroup.search.assembly import TrainedGroup
from taskgroup.spec.config import AssemblyConfig
from taskgroup.training import GroupResult

_RECENT = 300  # finished results the rise of a skill is learnt from
_FEWEST = 8  # finished results before any group is stopped
_HOPE = 0.9  # quantile of the rises of finished groups: how much better a running group may be expected to become


class GroupPruner:
    """Which groups may still enter a best assembly.

    A running group's hope is what its targets' skills would be at the end, if they rose from this epoch on as much as
    nine in ten of finished groups did (those that had ended by then by nothing). With hopes for scores, next to the
    trained groups with their skills, the exact solver assembles the best groupings of 1, 2, ... networks: a group that
    stands in none of them is stopped. It is asked at ``warmup`` epochs and whenever their number has doubled; an epoch
    in between decides nothing.

    Parameters
    ----------
    config: what an assembly may be.
    warmup: epochs every group gets.
    """

    def __init__(self, config: AssemblyConfig, warmup: int) -> None:
        self._config = config
        self._rungs = _rungs(max(1, warmup))
        self._trained: dict[tuple[str, ...], Candidate] = {}
        self._rises: deque[NDArray[np.float64]] = deque(maxlen=_RECENT)
        self._from_low: deque[NDArray[np.float64]] = deque(maxlen=_RECENT)

    def learn(self, trained: Iterable[TrainedGroup], results: Iterable[GroupResult]) -> None:
        """Let finished groups be known, and how they got there."""
        for each in trained:
            known = self._trained.get(each.candidate.tasks)
            if known is None or sum(known.scores.values()) < sum(each.candidate.scores.values()):
                self._trained[each.candidate.tasks] = each.candidate
        for result in results:
            final, best = result.skills, best_so_far(result.curve)
            known = [target for target, skill in final.items() if skill is not None]
            if known:
                self._rises.append(
                    np.array(
                        [[final[target] - skills[target] for target in known] for skills in best]
                    )
                )

    def learn_low(self, low: GroupResult, full: GroupResult) -> None:
        """Let be known what a finished group had at low fidelity."""
        rise = [
            skill - low.skills[t]
            for t, skill in full.skills.items()
            if None not in (skill, low.skills[t])
        ]
        if rise:
            self._from_low.append(np.array(rise))

    def stopped(
        self, epoch: int, running: Mapping[Group, Mapping[str, float]]
    ) -> Collection[Group]:
        """Groups to stop after ``epoch`` (from 1), given the skill each target of the running groups has reached.

        Epoch 0 asks which not to begin, given what their targets reach at low fidelity. A target whose skill does not
        exist (one class only) is left out, and decides nothing.
        """
        if epoch == 0:
            known = self._from_low
        elif epoch in self._rungs:
            known = [
                each[epoch - 1] if epoch <= len(each) else np.zeros(each.shape[1])
                for each in self._rises
            ]
        else:
            return ()
        if len(known) < _FEWEST:
            return ()
        rise = float(np.quantile(np.concatenate(known), _HOPE))
        hopes = [
            {target: skill + rise for target, skill in skills.items()}
            for skills in running.values()
        ]
        best: dict[str, float] = {}
        for scores in [*(each.scores for each in self._trained.values()), *hopes]:
            for target, score in scores.items():
                best[target] = max(score, best.get(target, score))
        doubtful = {  # the best of all at some target needs no solver, unless sets must not overlap
            group: Candidate(tasks=group.targets, scores=scores, key=f"running-{i}")
            for i, (group, scores) in enumerate(zip(running, hopes, strict=True))
            if self._config.disjoint
            or all(score < best[target] for target, score in scores.items())
        }
        wanted = self._wanted(list(doubtful.values()), len(best)) if doubtful else set()
        return [group for group, candidate in doubtful.items() if candidate.key not in wanted]

    def _wanted(self, doubtful: Sequence[Candidate], most: int) -> set[str]:
        """Keys of the doubtful candidates that stand in a best assembly of 1, 2, ... ``most`` networks."""
        open_keys = {candidate.key for candidate in doubtful}
        wanted: set[str] = set()
        candidates = [*self._trained.values(), *doubtful]
        most = min(self._config.max_networks or most, most)
        with contextlib.suppress(InfeasibleError):
            for solution in solve_each(
                candidates, most, disjoint=self._config.disjoint, higher_is_better=True
            ):
                wanted |= {group.key for group in solution.groups}
                if open_keys <= wanted:
                    break
        return wanted


def _rungs(warmup: int) -> frozenset[int]:
    """Epochs at which groups may be stopped: ``warmup``, twice as many, and so on."""
    return frozenset(warmup << i for i in range(20))
