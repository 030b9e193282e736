"""Evaluating a plan: what is cached is looked up, the rest trained; after every epoch groups may be stopped.

From here to a gradient step: ``Evaluator.evaluate`` calls ``Executor.train``, which calls ``train_in_step`` (in this
process or a worker), which advances ``fit_halves``, whose loop takes the steps. ``taskgroup.execution.executor`` tells
how the decision who goes on travels the same way.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from taskgroup.execution.claims import Claims
from taskgroup.execution.executor import (
    DISK_FULL,
    SUPERSEDED,
    Executor,
    Failure,
    OnEpoch,
    TargetSkills,
    all_go_on,
)
from taskgroup.execution.failures import append_failure
from taskgroup.execution.results import ResultStore
from taskgroup.grouping import Group
from taskgroup.spec.plan import Plan, Repeat, StudyData
from taskgroup.training import GroupJob, GroupResult, mean_skill

_log = logging.getLogger(__name__)

# Failures that may be the fault of who trained beside: alone the job may fit, or show that it was the one.
_RETRIED_KINDS = frozenset({"out_of_memory", "signal"})

# A network of the bundle is worth more attempts, whatever stopped it: a whole search has led to it. One that ran out of
# time goes on from its checkpoint.
_RETRIED_KINDS_OF_BUNDLE = _RETRIED_KINDS | {"time_out"}
_ATTEMPTS_FOR_BUNDLE = 3

# Seconds between two looks whether another process has trained what this one waits for.
_WAIT_SECONDS = 0.1

Jobs = Mapping[tuple[Group, Repeat], GroupJob]


@dataclass(frozen=True)
class Evaluation:
    """Outcome of evaluating a plan.

    Parameters
    ----------
    skills: per target the mean over repeats of the skill in the group that serves it; empty when any job was stopped
        or failed.
    results: of all jobs that are trained.
    keys: of all jobs, trained or not.
    n_cached: how many jobs were trained before.
    seconds: wall time.
    curve: per epoch, ``skills`` as they were then.
    failure: the first failure, where there was any.
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
        """Mean skill over targets."""
        return mean_skill(self.skills)


class Evaluator:
    """Evaluates plans with one executor; several evaluators, one per thread, may share a ResultStore.

    Parameters
    ----------
    data: the rows and targets of the study.
    store: the results of the run.
    executor: trains what is missing.
    time_limit: seconds after which a training fails.
    claims: keep several processes from training the same network; None where there is one process.
    """

    def __init__(
        self,
        data: StudyData,
        store: ResultStore,
        executor: Executor,
        time_limit: float | None,
        claims: Claims | None = None,
    ) -> None:
        self.data = data
        self.store = store
        self.executor = executor
        self.time_limit = time_limit
        self.claims = claims
        # Best skills so far, epoch by epoch, of the jobs that were stopped.
        self._stopped: dict[str, list[TargetSkills]] = {}

    def evaluate(
        self,
        plan: Plan,
        repeats: Sequence[Repeat],
        on_epoch: OnEpoch[Group] | None = None,
        *,
        keep: bool = False,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Evaluation:
        """Train what is missing of a plan, each group with every repeat (a seed and a validation fold).

        With ``on_epoch`` all jobs train in step; it gets, for every group in training, the best skills so far (the mean
        over repeats) and answers which groups go on. A job once stopped is not begun again for a caller who prunes.
        Without it as many jobs train at once as the executor can, the longest first, so that little is lost to a kill.
        Jobs that finish are kept whatever happens to the others. What another process is training is waited for;
        ``should_stop`` ends the waiting.
        """
        started = time.monotonic()
        jobs = self.data.jobs(plan, repeats)
        jobs_by_key = {job.key: job for job in jobs.values()}
        # A result whose line is damaged is not there: only ``get`` reads the line.
        cached = {key for key in jobs_by_key if self.store.get(key) is not None}
        stopped: set[str] = set()
        if on_epoch is not None:
            stopped = jobs_by_key.keys() & self._stopped.keys()

        curves = _Curves()
        for key in jobs_by_key:
            if key in cached:
                curves.put(key, best_so_far(self.store.get(key).curve))
            if key in stopped:
                curves.put(key, self._stopped[key])

        missing = [jobs_by_key[key] for key in jobs_by_key if key not in cached | stopped]
        if on_epoch is None:
            failures = self._train_unwatched(missing, curves, keep, should_stop)
        else:
            decision = _JobDecision(jobs, on_epoch, curves, self._stopped)
            at_once = max(1, len(missing))
            failures = self._train(missing, decision, keep, should_stop, at_once)
        self.store.sync()

        results = self._results(jobs_by_key)
        for result in results:
            # Another thread or process has trained it meanwhile.
            if result.key not in curves:
                curves.put(result.key, best_so_far(result.curve))
        complete = len(results) == len(jobs_by_key)
        final_skills = {result.key: result.skills for result in results}
        failure = None if complete else next(iter(failures.values()), None)
        return Evaluation(
            skills=_serving_skills(jobs, final_skills) if complete else {},
            results=results,
            keys=tuple(jobs_by_key),
            n_cached=len(cached),
            seconds=time.monotonic() - started,
            curve=tuple(_serving_skills(jobs, skills) for skills in curves.by_epoch()),
            failure=failure,
        )

    def _train_unwatched(
        self,
        jobs: Sequence[GroupJob],
        curves: "_Curves",
        keep: bool,
        should_stop: Callable[[], bool],
    ) -> dict[str, Failure]:
        def on_epoch(epoch: int, skills: Mapping[str, TargetSkills]) -> Collection[str]:
            curves.add(epoch, skills)
            return all_go_on(epoch, skills)

        longest_first = sorted(jobs, key=self.data.labelled_rows, reverse=True)
        return self._train(longest_first, on_epoch, keep, should_stop, self.executor.at_once)

    def _train(
        self,
        jobs: Sequence[GroupJob],
        on_epoch: OnEpoch[str],
        keep: bool,
        should_stop: Callable[[], bool],
        at_once: int,
    ) -> dict[str, Failure]:
        """Train the jobs that nobody else is training, then wait for the others.

        What another process has given up without a result, or was killed over, is trained here then.
        """
        failures: dict[str, Failure] = {}
        waiting = list(jobs)
        while waiting:
            shares = self._share(waiting)
            try:
                for start in range(0, len(shares.here), at_once):
                    part = shares.here[start : start + at_once]
                    failures |= self._train_part(part, on_epoch, keep)
            finally:
                for job in shares.here:
                    self._give_back(job.key)
            for event in shares.in_threads:
                event.wait()
            for job in shares.here:
                if job.key in failures and failures[job.key].kind == SUPERSEDED:
                    del failures[job.key]
                    shares.elsewhere.append(job)
            if shares.elsewhere:
                self.store.refresh()
            waiting = [job for job in shares.elsewhere if job.key not in self.store]
            if should_stop():
                break
            if waiting and not shares.here:
                time.sleep(_WAIT_SECONDS)
        return failures

    def _share(self, jobs: Sequence[GroupJob]) -> "_Shares":
        """Claim the jobs that nobody else is training."""
        shares = _Shares()
        for job in jobs:
            event = self.store.claim(job.key)
            if event is not None:
                shares.in_threads.append(event)
            elif self.claims is not None and self.claims.take(job.key) is None:
                self.store.release(job.key)
                shares.elsewhere.append(job)
            else:
                shares.here.append(job)
        if self.claims is None:
            return shares
        # Only now: a process that has just given its claim back had added its result before.
        self.store.refresh()
        for job in list(shares.here):
            # A process that died may have left its result without a line.
            self.store.recover_one(job.key)
            if job.key in self.store:
                shares.here.remove(job)
                self._give_back(job.key)
        return shares

    def _give_back(self, key: str) -> None:
        if self.claims is not None:
            self.claims.give_back(key)
        self.store.release(key)

    def _add(self, result: GroupResult) -> None:
        """Add a result, unless this process was taken for dead and another has trained the network since."""
        if self.claims is None or self.claims.holds(result.key):
            self.store.add(result)

    def _train_part(
        self, jobs: Sequence[GroupJob], on_epoch: OnEpoch[str], keep: bool
    ) -> dict[str, Failure]:
        """Train jobs together, then again alone those that may have failed for lack of room.

        Networks that are kept for the bundle are tried again more often.
        """

        def attempt(some_jobs: Sequence[GroupJob]) -> dict[str, Failure]:
            failures = self.executor.train(
                some_jobs, on_epoch, self._add, keep=keep, time_limit=self.time_limit
            )
            for job in some_jobs:
                if job.key in failures and failures[job.key].kind != SUPERSEDED:
                    append_failure(self.executor.folder, job, failures[job.key])
            return failures

        failures = attempt(jobs)
        for failure in failures.values():
            if failure.kind == DISK_FULL:
                # Nothing that follows could be stored either; the study ends, and can be resumed.
                raise OSError(failure.reason)
        retried_kinds = _RETRIED_KINDS_OF_BUNDLE if keep else _RETRIED_KINDS
        attempts = 1 if len(jobs) == 1 else 2
        if keep:
            attempts = _ATTEMPTS_FOR_BUNDLE
        for _ in range(1, attempts):
            for job in jobs:
                failure = failures.get(job.key)
                if failure is None or failure.kind not in retried_kinds:
                    continue
                _log.warning("%s: %s, trained again alone", ", ".join(job.targets), failure.reason)
                del failures[job.key]
                failures |= attempt([job])
        return failures

    def _results(self, keys: Iterable[str]) -> tuple[GroupResult, ...]:
        results = [self.store.get(key) for key in keys]
        return tuple(result for result in results if result is not None)


@dataclass(frozen=True)
class _Shares:
    """Jobs by who trains them: this thread, other threads of this process (an event each), other processes."""

    here: list[GroupJob] = field(default_factory=list)
    in_threads: list[threading.Event] = field(default_factory=list)
    elsewhere: list[GroupJob] = field(default_factory=list)


class _JobDecision:
    """The OnEpoch of a plan's jobs, by key, made of one for its groups; remembers the jobs that it stops."""

    def __init__(
        self,
        jobs: Jobs,
        on_epoch: OnEpoch[Group],
        curves: "_Curves",
        stopped: dict[str, list[TargetSkills]],
    ) -> None:
        self._on_epoch = on_epoch
        self._curves = curves
        self._stopped = stopped
        self._keys_by_group: dict[Group, list[str]] = {}
        for (group, _), job in jobs.items():
            self._keys_by_group.setdefault(group, []).append(job.key)

    def __call__(self, epoch: int, skills: Mapping[str, TargetSkills]) -> Collection[str]:
        """Return the keys of the jobs in training whose groups go on."""
        self._curves.add(epoch, skills)
        best_skills = self._curves.at(epoch)
        running: dict[Group, TargetSkills] = {}
        for group, keys in self._keys_by_group.items():
            if any(key in skills for key in keys):
                running[group] = _mean_skills(
                    [best_skills[key] for key in keys if key in best_skills]
                )
        groups_that_go_on = self._on_epoch(epoch, running)
        for group in running:
            if group not in groups_that_go_on:
                self._stop(key for key in self._keys_by_group[group] if key in skills)
        return [key for key in skills if key not in self._stopped]

    def _stop(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._stopped[key] = self._curves.of(key)


class _Curves:
    """Per job the skills at its best epoch so far, epoch by epoch; a job that has ended keeps its last."""

    def __init__(self) -> None:
        self._best: dict[str, list[TargetSkills]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._best

    def put(self, key: str, best_skills: Sequence[TargetSkills]) -> None:
        """Set the whole curve of a job."""
        self._best[key] = list(best_skills)

    def add(self, epoch: int, skills: Mapping[str, TargetSkills]) -> None:
        """Take in one epoch of the jobs in training."""
        for key, values in skills.items():
            # A job that is trained a second time, alone, begins its curve anew.
            curve = self._best.get(key, [])[: epoch - 1]
            # Written so that undefined skills, whose mean is NaN, are not the best.
            is_best = not curve or mean_skill(values) > mean_skill(curve[-1])
            curve.append(values if is_best else curve[-1])
            self._best[key] = curve

    def of(self, key: str) -> list[TargetSkills]:
        """Return the curve of a job."""
        return self._best[key]

    def at(self, epoch: int) -> dict[str, TargetSkills]:
        """Return the best skills of every job until an epoch (from 1)."""
        skills = {}
        for key, curve in self._best.items():
            last = min(epoch, len(curve))
            skills[key] = curve[last - 1]
        return skills

    def by_epoch(self) -> list[dict[str, TargetSkills]]:
        """Return ``at`` of every epoch that any job has seen."""
        epochs = max(map(len, self._best.values()), default=0)
        return [self.at(epoch) for epoch in range(1, epochs + 1)]


def best_so_far(curve: Sequence[TargetSkills]) -> list[TargetSkills]:
    """Return, for each epoch of a learning curve, the skills at the epoch whose mean skill was the best until then."""
    best: list[TargetSkills] = []
    highest = -math.inf
    for skills in curve:
        mean = mean_skill(skills)
        if not best or mean > highest:
            best.append(skills)
            highest = mean
        else:
            best.append(best[-1])
    return best


def _serving_skills(jobs: Jobs, skills_by_key: Mapping[str, TargetSkills]) -> dict[str, float]:
    """Return per target the mean over repeats of its skill in the group that serves it."""
    skills_by_target: dict[str, list[float]] = {}
    for (group, _), job in jobs.items():
        skills = skills_by_key.get(job.key, {})
        for target in group.serves:
            skill = skills.get(target)
            if skill is None:
                continue
            skills_by_target.setdefault(target, []).append(skill)
    return {target: _mean(skills_by_target[target]) for target in sorted(skills_by_target)}


def _mean_skills(skills_of_repeats: Sequence[TargetSkills]) -> dict[str, float]:
    """Return the mean over repeats of each target's skill; a target without any is left out."""
    means = {}
    for target in skills_of_repeats[0]:
        values = [skills[target] for skills in skills_of_repeats if skills[target] is not None]
        if values:
            means[target] = _mean(values)
    return means


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
