"""The Optuna loop: baselines first, then trials, each recorded before Optuna is told.

The order makes a kill harmless at any moment: a finished group is in the ResultStore, a finished trial in
``trials.jsonl``; what Optuna still holds as running is settled from there on resume, or run again.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import optuna
from optuna.trial import TrialState
from pydantic import ValidationError

from taskgroup.errors import ConfigError, InputError, RunError, TaskgroupError, TrainingFailed
from taskgroup.execution.evaluator import Evaluation, Evaluator
from taskgroup.execution.executor import TargetSkills, all_go_on
from taskgroup.execution.heartbeat import Heartbeat
from taskgroup.grouping import Group, Grouping
from taskgroup.search.assembly import trained_groups
from taskgroup.search.groupings import GroupingBuilder
from taskgroup.search.optuna_trials import OptunaTrials, TrialSettings, tell
from taskgroup.search.pruner import GroupPruner
from taskgroup.spec.config import StudyConfig
from taskgroup.spec.plan import Plan, Recipe, flat_settings
from taskgroup.spec.space import PLAIN_METHODS, Space, settings_of
from taskgroup.tracking import TrialRecord
from taskgroup.training import GroupResult

_log = logging.getLogger(__name__)
_HOPELESS = 4  # equal failures in a row from the start
_LEARNT = 300  # trials of earlier runs whose groups are read again


def searched_space(config: StudyConfig) -> Space:
    """The space of a study with the clustering methods its baselines need."""
    return config.space.with_methods(
        tuple(name for name in config.search.baselines if name in PLAIN_METHODS)
    )


def open_storage(config: StudyConfig, folder: Path) -> optuna.storages.BaseStorage:
    """The Optuna storage of a study: SQLite in the run folder, ``journal:PATH``, or a database URL."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = config.storage or f"sqlite:///{folder.resolve() / 'optuna.db'}"
    if url.startswith("journal:"):
        return optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(url.removeprefix("journal:"))
        )
    sqlite = {"connect_args": {"timeout": 60}}  # s to wait while another process writes
    options = sqlite if url.startswith("sqlite") else {"pool_pre_ping": True, "pool_size": 2}
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs=options)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"storage: cannot use '{url}': {error}") from None


def open_optuna(config: StudyConfig, storage: optuna.storages.BaseStorage) -> optuna.Study:
    """Create or load the Optuna study in its storage.

    It neither proposes nor prunes: OptunaTrials and GroupPruner do.
    """
    return optuna.create_study(
        study_name=config.name,
        storage=storage,
        sampler=optuna.samplers.RandomSampler(seed=config.search.seed),
        pruner=optuna.pruners.NopPruner(),
        direction="maximize",
        load_if_exists=True,
    )


def refuse_another(study: optuna.Study, folder: Path) -> None:
    """Raise RunError where a storage holds trials of the study that a new run in ``folder`` has not made."""
    begun = [
        trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING
    ]
    if begun and not (folder / "study.json").exists():
        raise RunError(
            f"storage: it holds {len(begun)} trials of a study '{study.study_name}' that another run than {folder} "
            "began; go on with that one ('taskgroup resume'), or choose another name with --set name=..."
        )


def enqueue_baselines(study: optuna.Study, config: StudyConfig, space: Space) -> None:
    """Put the baselines in front, with the space's default settings; those already there stay."""
    present = {trial.user_attrs.get("name") for trial in study.get_trials(deepcopy=False)}
    for name in config.search.baselines:
        if name in present:
            continue
        settings = space.baseline()
        if name in PLAIN_METHODS:
            settings["grouping"]["method"] = name
        study.enqueue_trial(space.encode(settings), user_attrs={"name": name, "kind": "baseline"})


def settle_interrupted(
    study: optuna.Study, records: Sequence[TrialRecord], peers: Heartbeat
) -> int:
    """Close the trials that a kill left running: told from their record if there is one, else queued again.

    Returns how many were queued.
    """
    recorded = {record.number: record for record in records if record.kind in ("baseline", "trial")}
    queued = 0
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if peers.lives(trial.user_attrs.get("owner", "")):
            continue
        if trial.number in recorded:
            tell(study, recorded[trial.number])
            continue
        study.tell(trial.number, state=TrialState.FAIL)
        kept = {key: trial.user_attrs[key] for key in ("name", "kind") if key in trial.user_attrs}
        study.enqueue_trial(trial.params, user_attrs=kept | {"retry_of": trial.number})
        queued += 1
    return queued


class SearchLoop:
    """Runs trials until the budget is used.

    Parameters
    ----------
    config, study, proposer: what is searched.
    evaluators: one a worker; with several, trials run at the same time in threads.
    on_record: called with every finished trial's record, before Optuna is told (under a lock).
    records: what earlier runs of the study left.
    peers: other processes that search with this one.
    """

    def __init__(
        self,
        config: StudyConfig,
        study: optuna.Study,
        proposer: GroupingBuilder,
        evaluators: Sequence[Evaluator],
        on_record: Callable[[TrialRecord], None],
        records: Sequence[TrialRecord] = (),
        peers: Heartbeat | None = None,
    ) -> None:
        self._config, self._peers = config, peers
        owner, stream = (peers.name, peers.stream) if peers else ("", 0)
        self._trials = OptunaTrials(
            study, searched_space(config), config.search, records, owner, stream
        )
        self._proposer = proposer
        self._evaluators = evaluators
        self._hopes = GroupPruner(config.assembly, config.search.warmup_epochs)
        self._prunes = config.search.pruner == "group"
        self._low = config.search.low_fidelity if self._prunes else None
        self._learn_recorded(records[-_LEARNT:])
        self._on_record = on_record
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._seen = {record.keys for record in records if record.state != "FAIL"}
        self._repeats = 0
        self._reasons: list[str | None] | None = None if records else []
        self._numbers = {
            record.number for record in records if record.kind in ("baseline", "trial")
        }
        self._started = len(self._numbers)
        self._alone = _alone(records)

    def run(self, n_trials: int, time_limit: float | None = None) -> None:
        """Run trials until ``n_trials`` are finished in all, or no more may start after ``time_limit`` seconds.

        A trial that repeats an earlier one costs nothing and does not count, up to ``n_trials`` repeats. Trials that a
        kill interrupted are run in any case.
        """
        deadline = None if time_limit is None else time.monotonic() + time_limit
        self._stop.clear()
        self._trials.look_again()
        if len(self._evaluators) == 1:
            self._work(self._evaluators[0], n_trials, deadline)
            return
        with ThreadPoolExecutor(len(self._evaluators)) as pool:
            futures = [
                pool.submit(self._work, each, n_trials, deadline) for each in self._evaluators
            ]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                self._stop.set()
            for future in done:
                future.result()

    def _work(self, evaluator: Evaluator, n_trials: int, deadline: float | None) -> None:
        while not self._stop.is_set() and (deadline is None or time.monotonic() < deadline):
            with self._lock:
                if self._started + self._met() >= n_trials and not self._trials.to_retry():
                    return
                self._started += 1
                asked = self._trials.ask()
            record = self._trial(asked, evaluator)
            if record is None:
                return
            with self._lock:
                if record.kind == "trial" and record.keys in self._seen:
                    self._trials.tell(record)  # the sampler repeats itself: free, and no new trial
                    self._repeats += 1
                    self._started -= self._repeats <= n_trials
                    continue
                self._on_record(record)
                self._trials.tell(record)
                if record.state != "FAIL":
                    self._seen.add(record.keys)
                self._check_alive(record)

    def wait(self) -> int:
        """Wait for the trials that other processes still run; how many trials there are now in all."""
        while self._met():
            time.sleep(0.5)
        return self._started

    def _met(self) -> int:
        """Take in what other processes have finished; how many trials they run."""
        if self._peers is None:
            return 0
        running = sum(map(self._peers.lives, self._trials.running())) if self._peers.others() else 0
        news = [record for record in self._peers.news() if record.number not in self._numbers]
        news = [record for record in news if record.kind in ("baseline", "trial")]
        if news:
            self._evaluators[0].store.refresh()
            self._learn_recorded(news)
        for record in news:
            self._numbers.add(record.number)
            self._started += 1
            self._trials.learn(record)
            if record.state != "FAIL":
                self._seen.add(record.keys)
        self._alone = _alone(news) or self._alone
        return running

    def _learn_recorded(self, records: Sequence[TrialRecord]) -> None:
        keys = dict.fromkeys(key for record in records for key in record.keys)
        self._learn(
            [result for key in keys if (result := self._evaluators[0].store.get(key)) is not None]
        )

    def _learn(self, results: Sequence[GroupResult]) -> None:
        """Let pruning know finished groups, and what they had at low fidelity."""
        if not self._prunes:
            return
        evaluator = self._evaluators[0]
        self._hopes.learn(
            trained_groups(results, evaluator.data, evaluator.data.search_repeats), results
        )
        for result in results if self._low is not None else ():
            job = result.job
            cheap = Recipe(job.model, job.training).lowered(self._low)
            look = evaluator.store.get(replace(job, model=cheap.model, training=cheap.training).key)
            if look is not None and look.key != result.key:
                self._hopes.learn_low(look, result)

    def _check_alive(self, record: TrialRecord) -> None:
        """Raise TaskgroupError when the first trials all failed for one reason: more of them would, too."""
        self._reasons = (
            None
            if record.state != "FAIL" or self._reasons is None
            else [*self._reasons, record.fail_reason]
        )
        if self._reasons and len(self._reasons) >= _HOPELESS and len(set(self._reasons)) == 1:
            raise TaskgroupError(
                f"the first {_HOPELESS} trials all failed ({record.fail_kind}): {record.fail_reason}"
            )

    def _trial(self, asked: TrialSettings, evaluator: Evaluator) -> TrialRecord | None:
        """Evaluate one trial; None when the loop is being stopped."""
        start = time.monotonic()
        is_baseline = asked.attributes.get("kind") == "baseline"
        try:
            grouping_settings, model, training = settings_of(asked.settings)
            plan = Plan.uniform(self._proposer.grouping(grouping_settings), Recipe(model, training))
            cheap = plan if self._low is None else plan.lowered(self._low)
        except (InputError, TrainingFailed, ValidationError) as error:
            reason = str(error).splitlines()[0]
            nothing = Grouping.singles(self._proposer.targets)
            return self._record(asked, nothing, None, time.monotonic() - start, ("error", reason))
        prunes = self._prunes and not is_baseline

        def on_epoch(epoch: int, skills: Mapping[Group, TargetSkills]) -> Collection[Group]:
            if self._stop.is_set():
                return ()
            if not prunes:
                return all_go_on(epoch, skills)
            with self._lock:
                stopped = self._hopes.stopped(epoch, skills)
            return [group for group in skills if group not in stopped]

        if cheap != plan:
            evaluator.screen(plan, cheap, evaluator.data.search_repeats, on_epoch)
        evaluation = evaluator.evaluate(plan, evaluator.data.search_repeats, on_epoch)
        if self._stop.is_set() and not evaluation.skills:
            return None
        with self._lock:
            self._learn(evaluation.results)
        failure = None
        if evaluation.failure is not None:
            failure = (evaluation.failure.kind, evaluation.failure.reason)
            _log.warning("trial %d: %s: %s", asked.number, *failure)
        record = self._record(asked, plan.grouping, evaluation, time.monotonic() - start, failure)
        if record.name == "singles" and is_baseline:
            self._alone = dict(record.skills)
        return record

    def _record(
        self,
        asked: TrialSettings,
        grouping: Grouping,
        evaluation: Evaluation | None,
        seconds: float,
        failure: tuple[str, str] | None,
    ) -> TrialRecord:
        complete = evaluation is not None and math.isfinite(evaluation.value)
        skills = evaluation.skills if complete else {}
        return TrialRecord(
            number=asked.number,
            kind=asked.attributes.get("kind", "trial"),
            name=asked.attributes.get("name", f"trial-{asked.number}"),
            grouping=grouping,
            objective=evaluation.value if complete else None,
            skills=skills,
            gains={
                target: skill - self._alone[target]
                for target, skill in skills.items()
                if target in self._alone
            },
            settings=flat_settings(asked.settings),
            state="COMPLETE" if complete else "FAIL" if failure else "PRUNED",
            fail_kind=failure[0] if failure else None,
            fail_reason=failure[1] if failure else None,
            keys=evaluation.keys if evaluation else (),
            n_cached=evaluation.n_cached if evaluation else 0,
            seconds=seconds,
            curve=evaluation.curve if evaluation else (),
            metrics=_metrics(grouping, evaluation) if complete else {},
        )


def _metrics(grouping: Grouping, evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """Per target the metrics of its serving group, of the first validation fold."""
    found: dict[str, dict[str, float]] = {}
    for result in evaluation.results:
        for target, metrics in result.metrics.items():
            if result.targets == grouping.serving(target).targets and target not in found:
                found[target] = {
                    name: value for name, value in metrics.items() if value is not None
                }
    return found


def _alone(records: Sequence[TrialRecord]) -> dict[str, float]:
    """The skills of every target alone, of the baseline."""
    return next(
        (dict(r.skills) for r in records if r.name == "singles" and r.kind == "baseline"), {}
    )
