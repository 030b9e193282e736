"""Evaluating a plan: what is cached is looked up, the rest trained; one value an epoch decides on pruning."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from taskgroup.search.executors import Executor, Failure
from taskgroup.search.plan import Plan, StudyData
from taskgroup.search.results import ResultStore
from taskgroup.training import GroupJob, GroupResult, mean_skill

OnEpoch = Callable[[int, float], bool]
_RETRIED = ("out_of_memory", "signal")


@dataclass(frozen=True)
class Evaluation:
    """What evaluating a plan gave.

    ``skills`` is per target the mean over validation folds of its serving group's skill; empty when pruned or failed.
    ``failure`` is the first failure, ``pruned`` whether it was stopped early, ``n_cached`` the groups not trained anew.
    """

    skills: dict[str, float]
    results: tuple[GroupResult, ...]
    keys: tuple[str, ...]
    n_cached: int
    seconds: float
    curve: tuple[dict[str, float], ...] = ()
    pruned: bool = False
    failure: Failure | None = None

    @property
    def value(self) -> float:
        """The mean skill over targets."""
        return mean_skill(self.skills)


class Evaluator:
    """Evaluates plans with one executor; several evaluators (one a thread) may share a ResultStore."""

    def __init__(self, data: StudyData, store: ResultStore, executor: Executor, time_limit: float | None) -> None:
        self.data = data
        self.store = store
        self.executor = executor
        self.time_limit = time_limit

    def evaluate(
        self, plan: Plan, seed: int, folds: Sequence[int], on_epoch: OnEpoch | None = None, *, keep: bool = False
    ) -> Evaluation:
        """Train what is missing of a plan and gather its skills.

        ``on_epoch(epoch, mean skill)`` is asked after every epoch whether to go on. Groups that finish are kept
        whatever happens to the others.
        """
        start = time.monotonic()
        jobs = self.data.jobs(plan, seed, folds)
        by_key = {job.key: job for job in jobs.values()}
        cached = {key for key in by_key if self.store.get(key) is not None}
        curves = _Curves({key: self.store.get(key) for key in cached})

        def go_on(epoch: int, skills: Mapping[str, Mapping[str, float]]) -> bool:
            curves.add(skills)
            return on_epoch is None or on_epoch(epoch, self._value(jobs, curves.at(epoch)))

        failures, pruned = self._train([job for key, job in by_key.items() if key not in cached], go_on, keep)
        results = tuple(result for key in by_key if (result := self.store.get(key)) is not None)
        complete = len(results) == len(by_key)
        final = {result.key: result.skills for result in results}
        return Evaluation(
            skills=self._skills(jobs, final) if complete else {},
            results=results,
            keys=tuple(by_key),
            n_cached=len(cached),
            seconds=time.monotonic() - start,
            curve=tuple(self._skills(jobs, curves.at(epoch)) for epoch in range(1, curves.epochs + 1)),
            pruned=pruned and not complete,
            failure=None if complete else next(iter(failures.values()), None),
        )

    def _train(self, jobs: Sequence[GroupJob], go_on: Callable, keep: bool) -> tuple[dict[str, Failure], bool]:
        """Train the jobs nobody else in this process is training, then wait for the others."""
        mine, events = [], []
        for job in jobs:
            event = self.store.claim(job.key)
            (mine if event is None else events).append(job if event is None else event)
        pruned = False

        def watched(epoch: int, skills: Mapping[str, Mapping[str, float]]) -> bool:
            nonlocal pruned
            pruned = not go_on(epoch, skills)
            return not pruned

        try:
            failures = self._run(mine, watched, keep)
            for job in mine if len(mine) > 1 and not pruned else ():
                if job.key in failures and failures[job.key].kind in _RETRIED:  # alone it may fit, or show who crashed
                    failures.pop(job.key)
                    failures |= self._run([job], lambda epoch, skills: True, keep)
        finally:
            for job in mine:
                self.store.release(job.key)
        for event in events:
            event.wait()
        return failures, pruned

    def _run(self, jobs: Sequence[GroupJob], on_epoch: Callable, keep: bool) -> dict[str, Failure]:
        if not jobs:
            return {}
        return self.executor.train(jobs, on_epoch, self.store.add, keep=keep, time_limit=self.time_limit)

    def _skills(self, jobs: Mapping, skills_of: Mapping[str, Mapping[str, float | None]]) -> dict[str, float]:
        """Per target, the mean over folds of the skill in the group that serves it."""
        gathered: dict[str, list[float]] = {}
        for (group, _), job in jobs.items():
            for target in group.serves:
                skill = skills_of.get(job.key, {}).get(target)
                if skill is not None:
                    gathered.setdefault(target, []).append(skill)
        return {target: sum(values) / len(values) for target, values in sorted(gathered.items())}

    def _value(self, jobs: Mapping, skills_of: Mapping[str, Mapping[str, float | None]]) -> float:
        return mean_skill(self._skills(jobs, skills_of))


class _Curves:
    """Per group the skills at its best epoch so far, epoch by epoch; a group that has ended keeps its last."""

    def __init__(self, cached: Mapping[str, GroupResult | None]) -> None:
        self._best: dict[str, list[Mapping[str, float]]] = {}
        self.epochs = 0
        for key, result in cached.items():
            for skills in result.curve:
                self._append(key, skills)
            self.epochs = max(self.epochs, len(result.curve))

    def add(self, skills: Mapping[str, Mapping[str, float]]) -> None:
        for key, values in skills.items():
            self._append(key, values)
            self.epochs = max(self.epochs, len(self._best[key]))

    def at(self, epoch: int) -> dict[str, Mapping[str, float]]:
        return {key: best[min(epoch, len(best)) - 1] for key, best in self._best.items()}

    def _append(self, key: str, skills: Mapping[str, float]) -> None:
        best = self._best.setdefault(key, [])
        is_best = not best or mean_skill(skills) > mean_skill(best[-1])
        best.append(skills if is_best else best[-1])
