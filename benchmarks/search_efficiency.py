"""Best skill against CPU seconds: our search, and plain Optuna over the same space.

    python benchmarks/search_efficiency.py [--seeds 5] [--budget 150] [--recordings FOLDER] [--json]

Both search ``search_spaces/distribution.yaml`` on the built-in dataset ``crystals``, one thread, with the sampler (TPE)
and the number of random trials of ``studies/eight_properties.yaml``:

- "ours" is the real loop of a study (baselines, cache, pruning as the study says, Optuna and MLflow storages on disk);
  its value is the best assembly of every group trained so far, chosen on validation skill.
- "plain" is an Optuna study over the same parameters, with SQLite storage and Optuna's MedianPruner where that is
  better for it: each trial makes its grouping from the same clustering settings and trains all its groups anew, without
  cache and assembly. Its value is the best trial so far.

Cost is CPU seconds, all of them: trainings, affinities measured in training, and the bookkeeping of either method. To
spare CPU time each training (targets, hyper-parameters, seed) is done once, its cost recorded epoch by epoch, and
replayed for whoever asks for it: **a method is charged the full recorded cost of every training it would have made**,
as far as it would have trained. Trainings are deterministic, so a replay gives what training again would give.

Values are chosen on validation rows and therefore too good, for both; "new seed" trains the final choice of each again
with a seed that no search used, and gives its mean validation skill.
"""

import argparse
import contextlib
import json
import logging
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import optuna
import torch

from taskgroup.errors import TaskgroupError
from taskgroup.execution import Executor, Failure, OnEpoch, OnResult, ResultStore
from taskgroup.execution.evaluator import Evaluator
from taskgroup.execution.worker import job_data
from taskgroup.search.affinities import Affinities
from taskgroup.search.assembly import assemble, trained_groups
from taskgroup.search.groupings import GroupingBuilder
from taskgroup.search.loop import SearchLoop
from taskgroup.search.storage import TrialStorage, searched_space
from taskgroup.spec.config import StudyConfig, load_study
from taskgroup.spec.plan import Plan, Recipe, StudyData
from taskgroup.spec.space import settings_of
from taskgroup.tracking import StudyRecord, Tracker, append_record, write_study
from taskgroup.training import GroupJob, GroupResult, fit_epochs, mean_skill

NEW_SEED = 777
POINTS = 6  # budgets at which the curve is shown


class BudgetSpent(TaskgroupError):
    """A method has used its CPU seconds."""


@dataclass
class Recording:
    """A training done once: its result, and the CPU seconds of its start, of each epoch and of its end."""

    result: GroupResult
    start: float
    epochs: list[float]
    end: float


class Recorder:
    """Trainings and joint affinity runs, each done once and kept with its cost in a folder."""

    def __init__(self, folder: Path, data: StudyData) -> None:
        self.folder, self.data = folder, data
        self.seconds = 0.0  # CPU time spent on recording, which is not the methods' own
        self._known: dict[str, Recording] = {}
        (folder / "groups").mkdir(parents=True, exist_ok=True)

    def get(self, job: GroupJob) -> Recording:
        """The recording of a job, trained now if need be."""
        if job.key not in self._known:
            path = self.folder / "groups" / f"{job.key}.json"
            began = time.process_time()
            if not path.exists():
                content = self._train(job)
                partial = path.with_suffix(".part")
                partial.write_text(json.dumps(content))
                partial.replace(path)
            content = json.loads(path.read_text())
            costs = content["start"], content["epochs"], content["end"]
            self._known[job.key] = Recording(GroupResult.from_dict(content["result"]), *costs)
            self.seconds += time.process_time() - began
        return self._known[job.key]

    def _train(self, job: GroupJob) -> dict:
        epochs, costs, last = fit_epochs(*job_data(job), job), [], time.process_time()
        while True:
            try:
                next(epochs)
            except StopIteration as end:
                costs.append(time.process_time() - last)
                return {
                    "result": end.value.result.to_dict(),
                    "start": 0.0,
                    "epochs": costs[:-1],
                    "end": costs[-1],
                }
            costs.append(time.process_time() - last)
            last = time.process_time()

    def affinities(self, config: StudyConfig, charge: Callable[[float], None]) -> Callable:
        """Affinities by name; the first use of each charges what measuring it took."""
        _, model, training = settings_of(config.space.baseline())
        folder = self.folder / f"seed{config.search.seed}"
        inner, charged = (
            Affinities(self.data, folder, Recipe(model, training), config.search.seed),
            set(),
        )

        def affinity(name: str):
            path = folder / f"{name}.cost"
            began, children = time.process_time(), _children()
            found = inner(name)
            used = time.process_time() - began
            if not path.exists():
                path.write_text(str(used + _children() - children))
            self.seconds += used
            if name not in charged:
                charged.add(name)
                charge(float(path.read_text()))
            return found

        return affinity


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@dataclass
class Clock:
    """CPU seconds of one method: what it is charged for, and its own bookkeeping."""

    recorder: Recorder
    budget: float
    charged: float = 0.0
    trained: int = 0
    epochs: int = 0

    def __post_init__(self) -> None:
        self._began = time.process_time() - self.recorder.seconds

    @property
    def bookkeeping(self) -> float:
        """CPU seconds of this process since the start, without recordings."""
        return time.process_time() - self.recorder.seconds - self._began

    @property
    def now(self) -> float:
        """CPU seconds used so far."""
        return self.charged + self.bookkeeping

    def charge(self, seconds: float) -> None:
        """Raises BudgetSpent: nothing is left."""
        self.charged += seconds
        if self.now > self.budget:
            raise BudgetSpent("budget spent")


class Replay(Executor):
    """Replays recordings an epoch of each job in turn, as ``train_in_step`` trains them, and charges their cost."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        super().__init__(folder, 1)
        self.clock = clock

    def train(
        self,
        jobs: Sequence[GroupJob],
        on_epoch: OnEpoch[str],
        on_result: OnResult,
        *,
        keep: bool = False,
        time_limit: float | None = None,
    ) -> dict[str, Failure]:
        running = {job.key: self.clock.recorder.get(job) for job in jobs}
        epoch = 0
        while running:
            epoch += 1
            skills: dict[str, Mapping[str, float]] = {}
            for key, recording in list(running.items()):
                if epoch > len(recording.epochs):
                    self.clock.charge(recording.end)
                    self.clock.trained += 1
                    del running[key]
                    on_result(recording.result)
                else:
                    self.clock.charge(recording.epochs[epoch - 1])
                    self.clock.epochs += 1
                    skills[key] = recording.result.curve[epoch - 1]
            go = on_epoch(epoch, skills) if skills else ()
            running = {key: each for key, each in running.items() if key in go}
        return {}


@dataclass
class Outcome:
    """A method's best value as it grew, and its final choice."""

    steps: list[tuple[float, float]] = field(default_factory=list)
    trials: int = 0
    trained: int = 0
    epochs: int = 0
    bookkeeping: float = 0.0
    plan: Plan | None = None
    new_seed: float = float("nan")

    def at(self, seconds: float) -> float:
        """The best value that stood after so many CPU seconds; NaN before the first."""
        return max((value for when, value in self.steps if when <= seconds), default=float("nan"))

    def reached(self, value: float) -> float:
        """CPU seconds at which a value was reached; infinite if it was not."""
        return next((when for when, found in self.steps if found >= value), float("inf"))


def run_plain(
    config: StudyConfig, recorder: Recorder, budget: float, folder: Path, prunes: bool
) -> Outcome:
    """Plain Optuna until the budget is spent."""
    data, space, seed = recorder.data, searched_space(config), config.search.seed
    clock, outcome = Clock(recorder, budget), Outcome()
    executor = Replay(folder, clock)
    proposer = _proposer(config, recorder, clock)
    optuna.logging.set_verbosity(
        optuna.logging.CRITICAL
    )  # the trial that meets the end of the budget
    pruner = optuna.pruners.MedianPruner(
        n_startup_trials=4, n_warmup_steps=config.search.warmup_epochs
    )
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'plain.db'}",
        sampler=optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=config.search.startup_trials
        ),
        pruner=pruner if prunes else optuna.pruners.NopPruner(),
        direction="maximize",
    )

    def objective(trial: optuna.Trial) -> float:
        grouping_settings, model, training = settings_of(space.suggest(trial))
        plan = Plan.uniform(proposer.grouping(grouping_settings), Recipe(model, training))
        jobs = data.jobs(plan, [(seed, fold) for fold in data.split.validation_folds])
        results: dict[str, GroupResult] = {}

        def on_epoch(epoch: int, skills: Mapping[str, Mapping[str, float]]) -> Collection[str]:
            trial.report(
                mean_skill({t: s for each in skills.values() for t, s in each.items()}), epoch
            )
            return () if prunes and trial.should_prune() else skills

        executor.train(
            list(jobs.values()), on_epoch, lambda result: results.__setitem__(result.key, result)
        )
        if len(results) < len(jobs):
            raise optuna.TrialPruned
        value = mean_skill({t: s for each in results.values() for t, s in each.skills.items()})
        outcome.trials += 1
        if not outcome.steps or value > outcome.steps[-1][1]:
            outcome.steps.append((clock.now, value))
            outcome.plan = plan
        return value

    with contextlib.suppress(BudgetSpent):
        study.optimize(objective, n_trials=100_000)
    return _counted(outcome, clock)


def run_ours(config: StudyConfig, recorder: Recorder, budget: float, folder: Path) -> Outcome:
    """The loop of a study until the budget is spent; the best assembly after every group that was trained."""
    data, clock, outcome = recorder.data, Clock(recorder, budget), Outcome()
    write_study(folder, _study_record(config, data))
    store, tracker = ResultStore(folder / "results"), Tracker(folder, uri=config.tracking.uri)
    tracker.sync()
    evaluator = Evaluator(
        data, _Watched(store, clock, outcome, data.targets.names), Replay(folder, clock), None
    )
    storage = TrialStorage.open(config, folder)
    storage.enqueue_baselines(config)

    def on_record(record) -> None:
        append_record(folder, record)
        tracker.log_trial(record)
        outcome.trials += 1

    loop = SearchLoop(config, storage, _proposer(config, recorder, clock), [evaluator], on_record)
    with contextlib.suppress(BudgetSpent):
        loop.run(100_000)
    groups = trained_groups(store, data, data.search_repeats)
    best = assemble(groups, config.assembly)
    if abs(best.value - outcome.steps[-1][1]) > 1e-9:
        raise RuntimeError(
            f"the exact assembly gives {best.value}, the curve {outcome.steps[-1][1]}"
        )
    outcome.plan = best.plan
    return _counted(outcome, clock)


class _Watched:
    """A ResultStore that notes the best assembly after every result.

    Without a limit on networks the best cover serves every target by the network that is best at it; ``run_ours``
    holds the end of the curve against the exact solver.
    """

    def __init__(
        self, store: ResultStore, clock: Clock, outcome: Outcome, targets: Sequence[str]
    ) -> None:
        self._store, self._clock, self._outcome = store, clock, outcome
        self._best = dict.fromkeys(targets, float("-inf"))

    def add(self, result: GroupResult) -> None:
        self._store.add(result)
        for target, skill in result.skills.items():
            self._best[target] = max(self._best[target], -1.0, skill if skill is not None else 0.0)
        value = sum(self._best.values()) / len(self._best)
        if value > (self._outcome.steps[-1][1] if self._outcome.steps else float("-inf")):
            self._outcome.steps.append((self._clock.now, value))

    def __getattr__(self, name: str):
        return getattr(self._store, name)

    def __iter__(self):
        return iter(self._store)


def _proposer(config: StudyConfig, recorder: Recorder, clock: Clock) -> GroupingBuilder:
    grouping, _, _ = settings_of(searched_space(config).baseline())
    return GroupingBuilder(
        recorder.data.targets.names, grouping, recorder.affinities(config, clock.charge)
    )


def _study_record(config: StudyConfig, data: StudyData) -> StudyRecord:
    dataset = {
        "name": data.dataset.name,
        "version": data.dataset.version,
        "hash": data.dataset.hash,
    }
    targets = {
        t.name: {"kind": t.kind, "unit": t.unit, "transform": t.transform}
        for t in data.targets.specs
    }
    return StudyRecord(
        config.name, config.model_dump(mode="json"), dataset, data.splits.id, targets, {}
    )


def _counted(outcome: Outcome, clock: Clock) -> Outcome:
    outcome.trained, outcome.epochs, outcome.bookkeeping = (
        clock.trained,
        clock.epochs,
        clock.bookkeeping,
    )
    return outcome


def again(plan: Plan, recorder: Recorder) -> float:
    """The mean validation skill of a plan trained with a new seed."""
    skills: dict[str, float] = {}
    repeats = [(NEW_SEED, fold) for fold in recorder.data.split.validation_folds]
    for (group, _), job in recorder.data.jobs(plan, repeats).items():
        found = recorder.get(job).result.skills
        skills |= {target: found[target] for target in group.serves}
    return mean_skill(skills)


def compare(seed: int, arguments: argparse.Namespace, recordings: Path) -> dict:
    """Both methods with one seed."""
    config = load_study(arguments.study, (f"search.seed={seed}", *arguments.set))
    recorder = Recorder(recordings, StudyData(config))
    outcomes: dict[str, Outcome] = {}
    for name in ("plain", "plain, pruned", "ours"):
        with tempfile.TemporaryDirectory() as folder:
            if name == "ours":
                outcomes[name] = run_ours(config, recorder, arguments.budget, Path(folder))
            else:
                outcomes[name] = run_plain(
                    config, recorder, arguments.budget, Path(folder), name != "plain"
                )
        if not arguments.no_new_seed:
            outcomes[name].new_seed = again(outcomes[name].plan, recorder)
    plain = max(("plain", "plain, pruned"), key=lambda name: outcomes[name].at(arguments.budget))
    peer, ours = outcomes[plain], outcomes["ours"]
    final = peer.at(arguments.budget)
    times = [arguments.budget * (i + 1) / POINTS for i in range(POINTS)]
    return {
        "seed": seed,
        "peer": plain,
        "plain_final": final,
        "ours_final": ours.at(arguments.budget),
        "plain_reached_s": peer.reached(final),
        "ours_reached_s": ours.reached(final),
        "fraction": ours.reached(final) / arguments.budget,
        "fraction_of_plain": ours.reached(final) / peer.reached(final),
        "budgets_s": times,
        "curves": {name: [each.at(t) for t in times] for name, each in outcomes.items()},
        "new_seed": {"plain": peer.new_seed, "ours": ours.new_seed},
        "networks": {"plain": len(peer.plan.grouping), "ours": len(ours.plan.grouping)},
        "counts": {
            name: {
                "trials": o.trials,
                "trained": o.trained,
                "epochs": o.epochs,
                "bookkeeping_s": o.bookkeeping,
            }
            for name, o in outcomes.items()
        },
    }


def _spread(values: Sequence[float], digits: int = 3) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def print_table(rows: Sequence[dict]) -> None:
    """Medians over seeds, lowest to highest."""
    print(f"{'CPU s':>8}  " + "  ".join(f"{name:>22}" for name in rows[0]["curves"]))
    for i, seconds in enumerate(rows[0]["budgets_s"]):
        cells = (_spread([row["curves"][name][i] for row in rows]) for name in rows[0]["curves"])
        print(f"{seconds:>8.0f}  " + "  ".join(f"{cell:>22}" for cell in cells))
    print(f"plain Optuna's final skill   {_spread([row['plain_final'] for row in rows])}")
    print(f"ours                         {_spread([row['ours_final'] for row in rows])}")
    print(
        f"ours reaches plain's final skill after {_spread([row['fraction'] for row in rows])} of the budget (goal 0.25)"
    )
    print(
        f"  of the time plain took to reach it   {_spread([row['fraction_of_plain'] for row in rows])}"
    )
    for name in ("plain", "ours"):
        print(
            f"new seed, {name:<6}  {_spread([row['new_seed'][name] for row in rows])}, networks "
            f"{_spread([row['networks'][name] for row in rows], 0)}"
        )
    for name in rows[0]["counts"]:
        counts = [row["counts"][name] for row in rows]
        cells = (f"{key} {_spread([each[key] for each in counts], 1)}" for key in counts[0])
        print(f"{name:<14} " + ", ".join(cells))


def main() -> None:
    """Compare over seeds and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--budget", type=float, default=150.0, help="CPU seconds a method")
    parser.add_argument("--study", default="eight_properties")
    parser.add_argument(
        "--set", action="append", default=[], help="change the study, like search.pruner=none"
    )
    parser.add_argument(
        "--recordings", type=Path, help="keep trainings here; default: thrown away at the end"
    )
    parser.add_argument("--no-new-seed", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("taskgroup").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        rows = []
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            rows.append(compare(seed, arguments, arguments.recordings or Path(scratch)))
            print(f"seed {seed}: fraction {rows[-1]['fraction']:.3f}", file=sys.stderr, flush=True)
    if arguments.json:
        print(json.dumps(rows))
    else:
        print_table(rows)


if __name__ == "__main__":
    main()
