"""What a search is worth: mean skill with new seeds and on test rows, at equal CPU time, for eight ways to choose.

    python benchmarks/search_value.py [--first 0] [--seeds 4] [--budget 60] [--out FOLDER] [--set KEY=VALUE]...

Each method has the same CPU seconds, all counted: trainings, affinities, proposals, bookkeeping. Six tenths are for
searching, the rest for training its best candidates again with new seeds before it chooses.

- ``ours``: the loop of a study, then its race (``taskgroup.study.racing``).
- ``tpe``, ``gp``: plain Optuna over the same parameters (clusterings and network), one grouping per trial, no cache.
- ``random``: random groups and a random recipe per trial.
- ``singles``, ``together``, ``correlation``: the grouping is fixed, TPE searches the network.

All but ours take the best trial of those that the rest of the budget can train again, with the seeds and folds of the
members of a bundle, by the mean of these trainings.

The plan that a method chose is then trained with seeds that nobody has used (``NEW``), on two validation folds; this is
not charged. Each training is done once and replayed at its full recorded cost (``search_efficiency.py``). Results are
appended to ``values.jsonl`` as they come, a method and seed each; what stands there is not run again.
"""

import argparse
import contextlib
import json
import logging
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
import torch
from search_efficiency import BudgetSpent, Clock, Recorder, Replay, _proposer

from taskgroup.errors import InfeasibleError
from taskgroup.execution import ResultStore
from taskgroup.execution.evaluator import Evaluator
from taskgroup.execution.worker import job_data
from taskgroup.files import append_line
from taskgroup.grouping import Grouping
from taskgroup.intervals import student_interval
from taskgroup.search.loop import SearchLoop
from taskgroup.search.storage import TrialStorage
from taskgroup.spec.config import StudyConfig, load_study
from taskgroup.spec.plan import Plan, Recipe, StudyData
from taskgroup.spec.space import CLUSTER, PROPOSAL, Space, settings_of
from taskgroup.study.racing import Race
from taskgroup.tracking import TrialRecord
from taskgroup.training import GroupJob, fit, mean_skill
from taskgroup.training.device_rows import predict_rows
from taskgroup.training.metrics import target_metrics

# Seeds and validation folds of the trainings that judge a choice; a search has small seeds, its refits 1000 and more.
NEW = ((777, 1), (778, 2))
SEARCH_SHARE = 0.6
METHODS = ("ours", "tpe", "gp", "random", "singles", "together", "correlation")
SAMPLERS = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, n_startup_trials=8),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed, n_startup_trials=8),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


def run_ours(config: StudyConfig, recorder: Recorder, clock: Clock, folder: Path) -> Plan:
    """Search as a study does, then race; return the choice."""
    data, store = recorder.data, ResultStore(folder / "results")
    evaluator = Evaluator(data, store, Replay(folder, clock), None)
    storage = TrialStorage.open(config, folder)
    storage.enqueue_baselines(config)
    records: list[TrialRecord] = []
    builder = _proposer(config, recorder, clock)
    loop = SearchLoop(config, storage, builder, [evaluator], records.append)
    whole_budget, clock.budget = clock.budget, SEARCH_SHARE * clock.budget
    with contextlib.suppress(BudgetSpent):
        loop.run(100_000)
    clock.budget = whole_budget
    storage.flush()
    correlation = {r.name: r.grouping for r in records if r.name == "correlation"}
    race = Race(config, data, evaluator, list(store), correlation)
    with contextlib.suppress(BudgetSpent):
        race.repeat_until_settled()
    return race.plan(race.expect())


def run_plain(
    name: str, config: StudyConfig, recorder: Recorder, clock: Clock, folder: Path
) -> Plan:
    """Plain Optuna, one grouping per trial; return the best of its best trials trained again."""
    data, seed = recorder.data, config.search.seed
    executor = Replay(folder, clock)
    clustering = config.space.grouping | {PROPOSAL: CLUSTER}
    space = config.space.model_copy(update={"grouping": clustering})
    grouping_of = _groupings(name, config, space, recorder, clock)
    sampler = SAMPLERS.get(name, SAMPLERS["tpe"])(seed)
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    url = f"sqlite:///{folder / 'plain.db'}"
    study = optuna.create_study(storage=url, sampler=sampler, direction="maximize")
    plans: list[tuple[float, Plan]] = []

    def train(plan: Plan, repeat: tuple[int, int]) -> float:
        skills = {}
        for (group, _), job in data.jobs(plan, [repeat]).items():
            executor.train([job], lambda epoch, running: running, lambda result: None)
            trained = recorder.get(job).result.skills
            skills |= {target: trained[target] for target in group.serves}
        return mean_skill(skills)

    def objective(trial: optuna.Trial) -> float:
        settings = space.suggest(trial)
        _, model, training = settings_of(settings)
        plan = Plan.uniform(grouping_of(settings, trial.number), Recipe(model, training))
        value = train(plan, data.search_repeats[0])
        plans.append((value, plan))
        return value

    whole_budget, clock.budget = clock.budget, SEARCH_SHARE * clock.budget
    with contextlib.suppress(BudgetSpent):
        study.optimize(objective, n_trials=100_000)
    clock.budget = whole_budget
    plans.sort(key=lambda pair: -pair[0])
    again: list[tuple[float, Plan]] = []
    with contextlib.suppress(BudgetSpent):
        for plan in list(dict.fromkeys(plan for _, plan in plans)):
            values = [train(plan, repeat) for repeat in data.member_repeats]
            again.append((statistics.mean(values), plan))
    return max(again or plans[:1], key=lambda pair: pair[0])[1]


def _groupings(
    name: str, config: StudyConfig, space: Space, recorder: Recorder, clock: Clock
) -> Callable[[dict, int], Grouping]:
    """Return what makes the grouping of a trial out of its settings and number."""
    targets = recorder.data.targets.names
    builder = _proposer(config, recorder, clock)
    default, _, _ = settings_of(space.baseline())
    if name == "singles":
        return lambda settings, number: Grouping.singles(targets)
    if name == "together":
        return lambda settings, number: Grouping.together(targets)
    if name == "correlation":
        return lambda settings, number: builder.grouping(default)
    if name == "random":
        random = {"method": "random"}
        return lambda settings, number: builder.grouping(
            default.model_copy(update=random | {"k": 2 + number % 4, "seed": number})
        )
    return lambda settings, number: builder.grouping(settings_of(settings)[0])


def judged(plan: Plan, data: StudyData, folder: Path) -> dict[str, float]:
    """Return mean skills of a plan trained with new seeds: on validation rows and on test rows."""
    validation, test = [], []
    for repeat in NEW:
        skills, test_skills = {}, {}
        for (group, _), job in data.jobs(plan, [repeat]).items():
            content = _trained_again(job, data, folder)
            skills |= {target: content["skills"][target] for target in group.serves}
            test_skills |= {target: content["test"][target] for target in group.serves}
        validation.append(mean_skill(skills))
        test.append(mean_skill(test_skills))
    return {"new_seed": statistics.mean(validation), "test": statistics.mean(test)}


def _trained_again(job: GroupJob, data: StudyData, folder: Path) -> dict[str, dict[str, float]]:
    path = folder / "judged" / f"{job.key}.json"
    if not path.exists():
        fitted = fit(*job_data(job), job)
        predicted = predict_rows(fitted.network, data.dataset, data.test_rows)
        test = {}
        for column, target in enumerate(job.targets):
            truth = data.targets.column(target)[data.test_rows]
            test[target] = target_metrics(data.targets.spec(target), truth, predicted[:, column])[
                "skill"
            ]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"skills": dict(fitted.result.skills), "test": test}))
    return json.loads(path.read_text())


def warm_up(arguments: argparse.Namespace) -> None:
    """Train once for nothing: the first training of a process prepares the rows, which no method is charged for."""
    data = StudyData(load_study(arguments.study, arguments.set))
    _, model, training = settings_of(load_study(arguments.study, arguments.set).space.baseline())
    short = training.model_copy(update={"epochs": 1, "pretrain": 0})
    job = data.job(data.targets.names[:1], Recipe(model, short), 0, data.split.validation_folds[0])
    fit(*job_data(job), job)


def run(name: str, seed: int, arguments: argparse.Namespace) -> dict:
    """Return the outcome of one method with one seed."""
    overrides = (f"search.seed={seed}", "refit.top=100", *arguments.set)
    config = load_study(arguments.study, overrides)
    recorder = Recorder(arguments.out, StudyData(config))
    clock = Clock(recorder, arguments.budget)
    with tempfile.TemporaryDirectory() as scratch:
        if name == "ours":
            plan = run_ours(config, recorder, clock, Path(scratch))
        else:
            plan = run_plain(name, config, recorder, clock, Path(scratch))
    outcome = {"method": name, "seed": seed, "grouping": str(plan.grouping)}
    outcome |= {"seconds": min(clock.now, arguments.budget), "trained": clock.trained}
    return outcome | judged(plan, recorder.data, arguments.out)


def print_table(rows: Sequence[dict]) -> None:
    """Print means over seeds, and the difference of ours to each method, paired by seed, with 95 % intervals."""
    value_of = {(row["method"], row["seed"]): row for row in rows}
    print("| method | seeds | new seeds | test rows | ours minus it, new seeds | on test rows |")
    print("|---|---|---|---|---|---|")
    for name in METHODS:
        own = [row for row in rows if row["method"] == name]
        if not own:
            continue
        cells = [name, str(len(own))]
        cells += [
            f"{statistics.mean(row[kind] for row in own):.4f}" for kind in ("new_seed", "test")
        ]
        for kind in ("new_seed", "test"):
            pairs = [(value_of.get(("ours", row["seed"])), row) for row in own]
            gains = [ours[kind] - row[kind] for ours, row in pairs if ours is not None]
            cells.append("" if name == "ours" or not gains else _interval(gains))
        print(f"| {' | '.join(cells)} |")


def _interval(values: Sequence[float]) -> str:
    found = student_interval(values)
    if found.low is None:
        return f"{found.mean:+.4f}"
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--budget", type=float, default=60.0, help="CPU seconds a method")
    parser.add_argument("--study", default="quickstart")
    parser.add_argument("--set", action="append", default=["space=distribution"])
    parser.add_argument("--out", type=Path, default=Path("runs/search_value"))
    parser.add_argument("--methods", default=",".join(METHODS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("taskgroup").setLevel(logging.ERROR)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "values.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    warm_up(arguments)
    done = {(row["method"], row["seed"]) for row in rows}
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        for name in arguments.methods.split(","):
            if (name, seed) in done:
                continue
            try:
                rows.append(run(name, seed, arguments))
            except InfeasibleError as error:
                print(f"{name}, seed {seed}: {error}", file=sys.stderr)
                continue
            append_line(path, json.dumps(rows[-1]).encode())
            print(f"{name}, seed {seed}: {rows[-1]}", file=sys.stderr, flush=True)
    print_table([row for row in rows if math.isfinite(row["test"])])


if __name__ == "__main__":
    main()
