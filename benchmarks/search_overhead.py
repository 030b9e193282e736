"""What the search costs around the training, a trial, as its history grows.

    python benchmarks/search_overhead.py [--sizes 10 100 1000 10000] [--repeats 12] [--folder FOLDER] [--json]

Run folders are filled with synthetic trials of about ten GroupResults each (two validation folds, nine targets, 60
epochs, continuous learning rates, so that no group is met twice): Optuna's SQLite, the result files, ``trials.jsonl``
and MLflow's SQLite, in bulk and in the formats a study writes. (MLflow's history gets one point of each learning curve
instead of 60: the file would have gigabytes.) Then the real loop of a study runs further trials, with an executor
that reports 60 epochs and answers with synthetic results at once. What is left is the bookkeeping: asking the sampler,
clustering, looking groups up, pruning, storing results, the record, MLflow.

The peer is what one would write without taskgroup: an Optuna study with the same parameters, sampler and history in
SQLite, ``report`` and ``should_prune`` (MedianPruner) after each epoch, and the same values logged to MLflow at the end
of a trial. "open" is what opening the history takes, once a run. Times are medians over trials, lowest to highest.
A trial's time ends when Optuna is told; MLflow is written by a thread while the next trial trains, here waited for
before it begins. "journal" is ours with ``storage: journal:PATH`` in the place of SQLite. "cpu" is processor time of
all that, MLflow included: the share of a 60 s trial is the larger of both.
"""

import argparse
import json
import logging
import math
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna

from taskgroup.execution import Executor, ResultStore
from taskgroup.execution.evaluator import Evaluator
from taskgroup.search.affinities import Affinities
from taskgroup.search.groupings import GroupingBuilder
from taskgroup.search.loop import SearchLoop
from taskgroup.search.storage import TrialStorage, open_storage, searched_space
from taskgroup.spec.config import StudyConfig, load_study
from taskgroup.spec.plan import Plan, Recipe, StudyData, flat_settings
from taskgroup.spec.space import settings_of
from taskgroup.tracking import (
    BackgroundQueue,
    StudyRecord,
    Tracker,
    TrialRecord,
    append_record,
    read_records,
    write_study,
)
from taskgroup.tracking.mlflow_client import connect, slugs
from taskgroup.training import GroupJob, GroupResult, mean_skill

EPOCHS = 60
SPREAD, STEP = 0.002, 0.005  # of skills about their level; from a measured trial to the next
TRIAL_SECONDS = 60.0  # of a real trial, for the share
SPACE = {
    "grouping": {
        "affinity": {"choices": ["spearman", "distance_correlation"]},
        "sparsifier": {"choices": ["knn", "mst", "threshold"]},
        "neighbours": {"choices": [2, 3], "default": 3, "when": {"sparsifier": "knn"}},
        "threshold": {"choices": [0.4, 0.6], "default": 0.4, "when": {"sparsifier": "threshold"}},
        "method": {"choices": ["louvain", "spectral", "hierarchical"]},
        "resolution": {"choices": [1.0, 1.5], "default": 1.0, "when": {"method": "louvain"}},
        "k": {"choices": [4, 5, 6], "default": 5, "when": {"method": ["spectral", "hierarchical"]}},
    },
    "model": {"backbone": "descriptors", "width": {"choices": [8, 16]}},
    "training": {
        "epochs": EPOCHS,
        "lr": {"low": 0.001, "high": 0.01, "log": True},
        "weight_decay": {"low": 0.001, "high": 0.1, "log": True},
    },
}


def study_config() -> StudyConfig:
    """The study whose bookkeeping is measured."""
    content = {
        "name": "overhead",
        "dataset": "crystals",
        "targets": load_study("eight_properties").targets,
        "space": SPACE,
        "split": {"validation_folds": [1, 2]},
        "search": {"baselines": ["singles"]},
    }
    return load_study(content)


def end_skills(targets: Sequence[str], level: float) -> dict[str, float]:
    """Skills about a level, others for each target and in each group, so that ties are as rare as in life."""
    drawn = random.Random(f"{level} {targets}")
    return {target: level + drawn.uniform(-SPREAD, SPREAD) for target in targets}


def curve(targets: Sequence[str], level: float) -> tuple[dict[str, float], ...]:
    """A learning curve that ends at these skills."""
    end = end_skills(targets, level)
    return tuple(
        {t: end[t] * (1 - math.exp(-epoch / 15)) for t in targets} for epoch in range(1, EPOCHS + 1)
    )


def synthetic(job: GroupJob, level: float) -> GroupResult:
    """A GroupResult like a real one's."""
    names = ("skill", "r2", "r2_natural", "mae", "rmse")
    metrics = {
        target: {"n": 66} | dict.fromkeys(names, skill)
        for target, skill in end_skills(job.targets, level).items()
    }
    return GroupResult(
        job, metrics, curve(job.targets, level), 1.0, EPOCHS, EPOCHS, 9000, (0.5,) * EPOCHS
    )


class Synthetic(Executor):
    """Reports all epochs and answers at once; each trial is a little better than those before, so none is pruned."""

    level = 0.9

    def train(self, jobs, on_epoch, on_result, *, keep=False, time_limit=None):
        self.level += STEP
        curves = {job.key: curve(job.targets, self.level) for job in jobs}
        for epoch in range(EPOCHS):
            on_epoch(epoch + 1, {key: each[epoch] for key, each in curves.items()})
        for job in jobs:
            on_result(synthetic(job, self.level))
        return {}


# -- a history --------------------------------------------------------------------------------------------------------


class History:
    """Random trials of the space with synthetic results, and the files they would have left."""

    def __init__(self, config: StudyConfig, data: StudyData, folder: Path) -> None:
        self.config, self.data, self.folder = config, data, folder
        self.space = searched_space(config)
        grouping, model, training = settings_of(self.space.baseline())
        self.proposer = GroupingBuilder(
            data.targets.names, grouping, Affinities(data, folder, Recipe(model, training), 0)
        )
        self.slugs = slugs(data.targets.names)

    def fill(self, size: int) -> None:
        """Write ``size`` trials. The first are made by the real code, the rest in bulk."""
        self.folder.mkdir(parents=True, exist_ok=True)
        dataset = {"name": self.data.dataset.name, "version": "3", "hash": self.data.dataset.hash}
        targets = {
            t.name: {"kind": t.kind, "unit": t.unit, "transform": t.transform}
            for t in self.data.targets.specs
        }
        record = StudyRecord(
            "overhead", {"name": "overhead"}, dataset, self.data.splits.id, targets, {}
        )
        write_study(self.folder, record)
        tracker = Tracker(self.folder)
        tracker.sync()
        trials = list(self._trials(size))
        with (self.folder / "trials.jsonl").open("w") as records:
            for _, trial in trials:
                records.write(json.dumps(trial.to_dict()) + "\n")
        self._fill_optuna(self.folder / "optuna.db", trials, intermediate=False)
        self._fill_optuna(self.folder / "peer.db", trials, intermediate=True)
        self._fill_mlflow(trials, tracker.parent_run_id)

    def _trials(self, size: int):
        sampler = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        numbers, folds = random.Random(0), self.data.split.validation_folds
        (self.folder / "results").mkdir()
        with (self.folder / "results" / "main.jsonl").open("w") as results:
            for number in range(size):
                trial = sampler.ask()
                settings = self.space.suggest(trial)
                grouping_settings, model, training = settings_of(settings)
                grouping = self.proposer.grouping(grouping_settings)
                level = numbers.gauss(0.8, 0.02)
                jobs = self.data.jobs(
                    Plan.uniform(grouping, Recipe(model, training)), [(0, fold) for fold in folds]
                )
                for job in jobs.values():
                    results.write(
                        json.dumps(synthetic(job, level).to_dict(), separators=(",", ":")) + "\n"
                    )
                skills = dict.fromkeys(grouping.targets, level)
                keys = tuple(job.key for job in jobs.values())
                yield trial, _record(number, grouping, level, skills, settings, keys)
                sampler = sampler if number % 100 else optuna.create_study(sampler=sampler.sampler)

    def _fill_optuna(self, path: Path, trials: list, intermediate: bool) -> None:
        optuna.create_study(
            study_name="overhead", storage=f"sqlite:///{path}", direction="maximize"
        )
        database = sqlite3.connect(path)
        rows: dict[str, list] = defaultdict(list)
        for i, (trial, record) in enumerate(trials, start=1):
            rows["trials"].append(
                (i, i - 1, 1, "COMPLETE", "2026-01-01 00:00:00", "2026-01-01 00:01:00")
            )
            rows["trial_values"].append((None, i, 0, record.objective, "FINITE"))
            for name, distribution in trial.distributions.items():
                text = optuna.distributions.distribution_to_json(distribution)
                rows["trial_params"].append(
                    (None, i, name, distribution.to_internal_repr(trial.params[name]), text)
                )
            if intermediate:
                points = (mean_skill(skills) for skills in record.curve)
                rows["trial_intermediate_values"] += [
                    (None, i, e, v, "FINITE") for e, v in enumerate(points, start=1)
                ]
        with database:
            for table, content in rows.items():
                database.executemany(
                    f"insert into {table} values ({','.join('?' * len(content[0]))})", content
                )
        database.close()

    def _fill_mlflow(self, trials: list, parent: str) -> None:
        database = sqlite3.connect(self.folder / "mlflow.db")
        (template,) = database.execute(
            "select * from runs where run_uuid = ?", (parent,)
        ).fetchall()
        columns = [row[1] for row in database.execute("pragma table_info(runs)")]
        rows: dict[str, list] = defaultdict(list)
        for _, record in trials:
            run, now = uuid.uuid4().hex, 1_700_000_000_000
            own = {"run_uuid": run, "name": record.name, "status": "FINISHED", "end_time": now}
            rows["runs"].append(
                tuple(own.get(name, value) for name, value in zip(columns, template, strict=True))
            )
            tags = {
                "mlflow.parentRunId": parent,
                "kind": "trial",
                "name": record.name,
                "state": "COMPLETE",
            }
            tags |= {"trial": str(record.number), "mlflow.runName": record.name}
            tags |= {"grouping": str(record.grouping), "grouping_id": record.grouping.grouping_id}
            rows["tags"] += [(key, value, run) for key, value in tags.items()]
            rows["params"] += [(key, str(value), run) for key, value in record.settings.items()]
            values = {"objective": record.objective, "cost/seconds": 1.0}
            for target, slug in self.slugs.items():
                values |= {
                    f"val/{slug}/{name}": value for name, value in record.metrics[target].items()
                }
                values[f"curve/{slug}"] = record.skills[target]
            rows["metrics"] += [(key, value, now, run, 0, 0) for key, value in values.items()]
            rows["latest_metrics"] += [
                (key, value, now, 0, 0, run) for key, value in values.items()
            ]
        order = {
            "tags": "key, value, run_uuid",
            "params": "key, value, run_uuid",
            "metrics": "key, value, timestamp, run_uuid, step, is_nan",
            "latest_metrics": "key, value, timestamp, step, is_nan, run_uuid",
        }
        with database:
            for table, content in rows.items():
                named = f"({order[table]})" if table in order else ""
                marks = ",".join("?" * len(content[0]))
                database.executemany(f"insert into {table} {named} values ({marks})", content)
        database.close()


def _record(number, grouping, level, skills, settings, keys) -> TrialRecord:
    metrics = {
        target: {"n": 66.0, "skill": level, "r2": level, "mae": level, "rmse": level}
        for target in skills
    }
    return TrialRecord(
        number=number,
        kind="trial",
        name=f"trial-{number}",
        grouping=grouping,
        objective=level,
        skills=skills,
        gains=dict.fromkeys(skills, 0.0),
        settings=flat_settings(settings),
        state="COMPLETE",
        fail_kind=None,
        fail_reason=None,
        keys=keys,
        n_cached=0,
        seconds=60.0,
        curve=curve(tuple(skills), level),
        metrics=metrics,
    )


# -- measuring --------------------------------------------------------------------------------------------------------


class Timed:
    """Seconds by part of the bookkeeping, within the current trial."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = defaultdict(float)

    def wrap(self, owner: object, name: str, part: str) -> None:
        """Count the time of a method from now on."""
        inner = getattr(owner, name)

        def timed(*arguments, **options):
            began = time.perf_counter()
            try:
                return inner(*arguments, **options)
            finally:
                self.parts[part] += time.perf_counter() - began

        setattr(owner, name, timed)


def measure_ours(config: StudyConfig, data: StudyData, folder: Path, repeats: int) -> dict:
    """Milliseconds of each further trial and of its parts."""
    began = time.perf_counter()
    store, tracker = ResultStore(folder / "results"), Tracker(folder)
    records = read_records(folder)
    tracker.sync(records)
    storage = TrialStorage.open(config, folder)
    history = History(config, data, folder)
    executor = Synthetic(folder)
    executor.level = max(
        executor.level, *(record.objective or 0.0 for record in records)
    )  # measured here before
    evaluator = Evaluator(data, store, executor, None)
    timed, trials, later = Timed(), [], BackgroundQueue()

    def on_record(record: TrialRecord) -> None:
        append_record(folder, record)
        later.call(tracker.log_trial, record)
        if record.state != "COMPLETE":
            raise RuntimeError(f"a synthetic trial was {record.state}")

    loop = SearchLoop(config, storage, history.proposer, [evaluator], on_record, records)
    inner_ask, inner_tell = loop._trials.ask, loop._trials.tell
    marks = [(0.0, 0.0)]

    def ask() -> Any:
        marks.append((time.perf_counter(), time.process_time()))
        asked = inner_ask()
        timed.parts["ask"] += time.perf_counter() - marks[-1][0]
        return asked

    def tell(record: TrialRecord) -> None:
        start = time.perf_counter()
        inner_tell(record)
        end, (asked, cpu) = time.perf_counter(), marks[-1]
        timed.parts["tell"] += end - start
        total = end - asked
        later.wait()  # in a real trial MLflow is written while the next trial trains
        trials.append({"total": total, "cpu": time.process_time() - cpu, **timed.parts})
        timed.parts.clear()

    loop._trials.ask, loop._trials.tell = ask, tell
    timed.wrap(history.proposer, "grouping", "grouping")
    timed.wrap(loop._hopes, "stopped", "pruning")
    timed.wrap(store, "add", "results")
    timed.wrap(tracker, "log_trial", "mlflow (later)")
    opened = time.perf_counter() - began
    loop.run(sum(r.kind in ("baseline", "trial") for r in records) + repeats + 2)
    return {"open_s": opened, "trials": trials[2:], "results": len(store)}


def measure_peer(config: StudyConfig, data: StudyData, folder: Path, repeats: int) -> list[dict]:
    """The same of plain Optuna and MLflow."""
    from mlflow.entities import Metric, Param

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, targets = searched_space(config), data.targets.names
    study = optuna.create_study(
        study_name="overhead",
        storage=f"sqlite:///{folder / 'peer.db'}",
        sampler=optuna.samplers.TPESampler(seed=1, n_startup_trials=config.search.startup_trials),
        pruner=optuna.pruners.MedianPruner(
            n_startup_trials=4, n_warmup_steps=config.search.warmup_epochs
        ),
        direction="maximize",
        load_if_exists=True,
    )
    client = connect(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("peer")
    number = experiment.experiment_id if experiment else client.create_experiment("peer")
    trials, known = [], len(study.get_trials(deepcopy=False))
    for repeat in range(repeats + 2):
        level = 0.95 + 1e-4 * (known + repeat)
        began, cpu = time.perf_counter(), time.process_time()
        trial = study.ask()
        settings = space.suggest(trial)
        asked = time.perf_counter()
        points = curve(targets, level)
        for epoch, skills in enumerate(points, start=1):
            trial.report(mean_skill(skills), epoch)
            if trial.should_prune():
                raise RuntimeError("a synthetic trial was pruned")
        reported = time.perf_counter()
        study.tell(trial, level)
        told, now = time.perf_counter(), int(time.time() * 1000)
        run = client.create_run(number, run_name=f"trial {trial.number}").info.run_id
        values = {
            f"val/{i}/{name}": level
            for i in range(len(targets))
            for name in ("skill", "r2", "mae", "rmse", "n")
        }
        metrics = [Metric(name, value, now, 0) for name, value in values.items()]
        metrics += [
            Metric(f"curve/{i}", skills[target], now, epoch)
            for epoch, skills in enumerate(points)
            for i, target in enumerate(targets)
        ]
        client.log_batch(
            run,
            metrics,
            [Param(name, str(value)) for name, value in flat_settings(settings).items()],
        )
        client.set_terminated(run)
        end = time.perf_counter()
        parts = {
            "ask": asked - began,
            "pruning": reported - asked,
            "tell": told - reported,
            "mlflow": end - told,
        }
        trials.append({"total": end - began, "cpu": time.process_time() - cpu, **parts})
    return trials[2:]


def _ms(trials: list[dict], part: str) -> list[float]:
    return [1000 * trial.get(part, 0.0) for trial in trials]


def _summary(trials: list[dict]) -> dict:
    parts = sorted({part for trial in trials for part in trial})
    return {
        part: (statistics.median(v), min(v), max(v)) for part in parts for v in [_ms(trials, part)]
    }


def with_journal(config: StudyConfig, folder: Path) -> StudyConfig:
    """The study with a copy of its history in a folder beside, Optuna's part of it in a journal file."""
    beside = folder.with_name(f"{folder.name}-journal")
    journal = config.model_copy(update={"storage": f"journal:{beside / 'study.journal'}"})
    if not beside.exists():
        shutil.copytree(folder, beside, ignore=shutil.ignore_patterns("*.db"))
        shutil.copy(folder / "mlflow.db", beside)
        optuna.copy_study(
            from_study_name=config.name,
            from_storage=open_storage(config, folder),
            to_storage=open_storage(journal, beside),
        )
    return journal


def measure(size: int, folder: Path, repeats: int) -> dict:
    """Both at one size of history."""
    config = study_config()
    data = StudyData(config)
    if not (folder / "study.json").exists():
        History(config, data, folder).fill(size)
    journal = with_journal(config, folder)
    ours = measure_ours(config, data, folder, repeats)
    journaled = measure_ours(journal, data, folder.with_name(f"{folder.name}-journal"), repeats)
    peer = measure_peer(config, data, folder, repeats)
    ratios = [
        theirs["total"] / our["total"] for our, theirs in zip(ours["trials"], peer, strict=True)
    ]
    return {
        "trials": size,
        "results": ours["results"],
        "open_s": ours["open_s"],
        "ours_ms": _summary(ours["trials"]),
        "journal_ms": _summary(journaled["trials"]),
        "peer_ms": _summary(peer),
        "share": max(statistics.median(_ms(ours["trials"], part)) for part in ("total", "cpu"))
        / 1000
        / TRIAL_SECONDS,
        "ratio": (statistics.median(ratios), min(ratios), max(ratios)),
    }


def start_up() -> dict[str, float]:
    """Seconds of ``import taskgroup`` and ``taskgroup --help``, in new processes; the best of five."""
    commands = {
        "import taskgroup": ["-c", "import taskgroup"],
        "taskgroup --help": ["-m", "taskgroup", "--help"],
    }
    return {name: min(_seconds(command) for _ in range(5)) for name, command in commands.items()}


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return time.perf_counter() - began


def print_row(row: dict, head: bool) -> None:
    """One size."""
    if head:
        print(
            f"{'trials':>7} {'results':>8} {'open':>8}   {'ours, ms a trial':<24} {'share of 60 s':>13}   "
            f"{'journal, ms a trial':<24} {'peer, ms a trial':<28} {'peer / ours':<18} "
            "parts of ours, with a journal, of the peer (ms)"
        )
    ours, journal, peer = row["ours_ms"], row["journal_ms"], row["peer_ms"]
    cell = "{:.1f} ({:.1f}-{:.1f})".format
    parts = " | ".join(
        ", ".join(f"{name} {side[name][0]:.1f}" for name in side if name != "total")
        for side in (ours, journal, peer)
    )
    print(
        f"{row['trials']:>7} {row['results']:>8} {row['open_s']:>6.1f} s   {cell(*ours['total']):<24} "
        f"{row['share']:>13.2%}   {cell(*journal['total']):<24} {cell(*peer['total']):<28} "
        f"{cell(*row['ratio']):<18} {parts}",
        flush=True,
    )


def main() -> None:
    """Measure all sizes and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 1_000, 10_000])
    parser.add_argument("--repeats", type=int, default=12, help="further trials that are measured")
    parser.add_argument(
        "--folder", type=Path, help="keep the filled run folders here, and use those that are there"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for size in arguments.sizes:
            rows.append(
                measure(size, (arguments.folder or Path(scratch)) / str(size), arguments.repeats)
            )
            if not arguments.json:
                print_row(rows[-1], head=len(rows) == 1)
    times = start_up()
    if arguments.json:
        print(json.dumps({"sizes": rows, "start_up_s": times}))
    else:
        print(", ".join(f"{name} {seconds:.3f} s" for name, seconds in times.items()))


if __name__ == "__main__":
    main()
