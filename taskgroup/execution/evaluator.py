"""Evaluating a plan: what is cached is looked up, the rest trained; after every epoch groups may be stopped."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from taskgroup.execution.executors import Executor, Failure, OnEpoch
from taskgroup.execution.results import ResultStore
from taskgroup.grouping import Group
from taskgroup.search.pruner import best_so_far
from taskgroup.spec.plan import Plan, Repeat, StudyData
from taskgroup.training import GroupJob, GroupResult, mean_skill

Watch = Callable[[int, Mapping[Group, Mapping[str, float]]], Collection[Group]]
_RETRIED = ("out_of_memory", "signal")


@dataclass(frozen=True)
class Evaluation:
    """What evaluating a plan gave.

    ``skills`` is per target the mean over repeats of its serving group's skill; empty when pruned or failed.
    ``failure`` is the first failure, ``n_cached`` the groups not trained anew.
    """

    skills: dict[str, float]
    results: tuple[GroupResult, ...]
    keys: tuple[str, ...]
    n_cached: int
    seconds: float
    curve: tuple[dict[str, float], ...] = ()
    failure: Failure | None = None

    @property
    def value(self) -> float:
        """The mean skill over targets."""
        return mean_skill(self.skills)


class Evaluator:
    """Evaluates plans with one executor; several evaluators (one a thread) may share a ResultStore."""

    def __init__(
        self, data: StudyData, store: ResultStore, executor: Executor, time_limit: float | None
    ) -> None:
        self.data = data
        self.store = store
        self.executor = executor
        self.time_limit = time_limit
        self._stopped: dict[str, Sequence[Mapping[str, float]]] = {}

    def evaluate(
        self,
        plan: Plan,
        repeats: Sequence[Repeat],
        watch: Watch | None = None,
        *,
        keep: bool = False,
    ) -> Evaluation:
        """Train what is missing of a plan, each group with every repeat (a seed and a validation fold).

        With ``watch`` all train in step, else as many at once as the executor can, the longest first, so that little is
        lost to a kill. ``watch(epoch, skills)`` gets, after every epoch, the skill that each target of each group in
        training has reached, and answers which groups to stop. Groups that finish are kept whatever happens to the
        others. A job once stopped is not begun again for a caller who watches.
        """
        start = time.monotonic()
        jobs = self.data.jobs(plan, repeats)
        by_key = {job.key: job for job in jobs.values()}
        cached = {key for key in by_key if key in self.store}
        stopped = (
            {}
            if watch is None
            else {key: self._stopped[key] for key in by_key if key in self._stopped}
        )
        keys = {
            group: [jobs[group, repeat].key for repeat in repeats] for group in plan.grouping.groups
        }
        curves = _Curves({key: best_so_far(self.store.get(key).curve) for key in cached} | stopped)

        def on_epoch(epoch: int, skills: Mapping[str, Mapping[str, float]]) -> Collection[str]:
            curves.add(skills)
            if watch is None:
                return list(skills)
            reached = curves.at(epoch)
            running = {
                group: _mean([reached[key] for key in own if key in reached])
                for group, own in keys.items()
                if not skills.keys().isdisjoint(own)
            }
            for key in (
                key for group in watch(epoch, running) for key in keys[group] if key in skills
            ):
                self._stopped[key] = curves.of(key)
            return [key for key in skills if key not in self._stopped]

        todo = [job for key, job in by_key.items() if key not in cached and key not in stopped]
        failures = self._train(todo, on_epoch, keep, in_step=watch is not None)
        self.store.sync()
        results = tuple(result for key in by_key if (result := self.store.get(key)) is not None)
        complete = len(results) == len(by_key)
        final = {result.key: result.skills for result in results}
        return Evaluation(
            skills=self._skills(jobs, final) if complete else {},
            results=results,
            keys=tuple(by_key),
            n_cached=len(cached),
            seconds=time.monotonic() - start,
            curve=tuple(
                self._skills(jobs, curves.at(epoch)) for epoch in range(1, curves.epochs + 1)
            ),
            failure=None if complete else next(iter(failures.values()), None),
        )

    def _train(
        self, jobs: Sequence[GroupJob], on_epoch: OnEpoch, keep: bool, *, in_step: bool
    ) -> dict[str, Failure]:
        """Train the jobs nobody else in this process is training, then wait for the others."""
        mine, events = [], []
        for job in jobs:
            event = self.store.claim(job.key)
            (mine if event is None else events).append(job if event is None else event)
        failures: dict[str, Failure] = {}
        at_once = len(mine) if in_step else self.executor.at_once
        longest_first = mine if in_step else sorted(mine, key=self.data.labelled_rows, reverse=True)
        try:
            for start in range(0, len(mine), at_once or 1):
                part = longest_first[start : start + at_once]
                failures |= self._run(part, on_epoch, keep)
                for job in part if len(part) > 1 else ():
                    if (
                        job.key in failures and failures[job.key].kind in _RETRIED
                    ):  # alone it may fit, or show who did
                        failures.pop(job.key)
                        failures |= self._run([job], on_epoch, keep)
        finally:
            for job in mine:
                self.store.release(job.key)
        for event in events:
            event.wait()
        return failures

    def _run(self, jobs: Sequence[GroupJob], on_epoch: OnEpoch, keep: bool) -> dict[str, Failure]:
        if not jobs:
            return {}
        return self.executor.train(
            jobs, on_epoch, self.store.add, keep=keep, time_limit=self.time_limit
        )

    def _skills(
        self, jobs: Mapping, skills_of: Mapping[str, Mapping[str, float | None]]
    ) -> dict[str, float]:
        """Per target, the mean over repeats of the skill in the group that serves it."""
        gathered: dict[str, list[float]] = {}
        for (group, _), job in jobs.items():
            for target in group.serves:
                skill = skills_of.get(job.key, {}).get(target)
                if skill is not None:
                    gathered.setdefault(target, []).append(skill)
        return {target: sum(values) / len(values) for target, values in sorted(gathered.items())}


class _Curves:
    """Per group the skills at its best epoch so far, epoch by epoch; a group that has ended keeps its last."""

    def __init__(self, known: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
        self._best = {key: list(best) for key, best in known.items()}
        self.epochs = max(map(len, self._best.values()), default=0)

    def add(self, skills: Mapping[str, Mapping[str, float]]) -> None:
        for key, values in skills.items():
            self._append(key, values)
            self.epochs = max(self.epochs, len(self._best[key]))

    def of(self, key: str) -> Sequence[Mapping[str, float]]:
        return self._best[key]

    def at(self, epoch: int) -> dict[str, Mapping[str, float]]:
        return {key: best[min(epoch, len(best)) - 1] for key, best in self._best.items()}

    def _append(self, key: str, skills: Mapping[str, float]) -> None:
        best = self._best.setdefault(key, [])
        is_best = not best or mean_skill(skills) > mean_skill(best[-1])
        best.append(skills if is_best else best[-1])


def _mean(of_folds: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    """The mean over folds of each target's skill; one that no fold can tell is left out."""
    known = {
        target: [skills[target] for skills in of_folds if skills[target] is not None]
        for target in of_folds[0]
    }
    return {target: sum(values) / len(values) for target, values in known.items() if values}
