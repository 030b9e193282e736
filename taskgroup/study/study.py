"""A study: one search, its run folder and its results."""

from pathlib import Path
from typing import TYPE_CHECKING

from taskgroup.errors import RunError
from taskgroup.search.optuna_trials import Optimisers
from taskgroup.search.storage import TrialStorage
from taskgroup.spec.config import StudyConfig, load_study
from taskgroup.study.conduct import StudyHooks, conduct, join
from taskgroup.tracking import (
    FinalRecord,
    TrialRecord,
    find_run,
    leaderboard_frame,
    read_final,
    read_records,
    read_study,
    runs_folder,
)

if TYPE_CHECKING:
    import optuna
    import pandas as pd
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

__all__ = ["Study", "StudyHooks"]


class Study:
    """One search, its run folder and its results.

    Parameters
    ----------
    config: what is searched.
    folder: the run folder; default: ``runs/<name>`` under the working directory or TASKGROUP_HOME.
    sampler, pruner: objects of Optuna in place of those that the study names. They are not stored: give them again to
        resume. The pruner stops whole trials, beside ``search.pruner``, which stops groups.

    >>> import taskgroup as tg
    >>> study = tg.Study.from_yaml("studies/quickstart.yaml")  # doctest: +SKIP
    >>> study.run().leaderboard()  # doctest: +SKIP
    """

    def __init__(
        self,
        config: StudyConfig,
        folder: str | Path | None = None,
        *,
        sampler: "BaseSampler | None" = None,
        pruner: "BasePruner | None" = None,
    ) -> None:
        self.config = config
        self.folder = Path(folder) if folder else runs_folder() / config.name
        self._optimisers = Optimisers(sampler, pruner)

    @classmethod
    def from_yaml(
        cls, path: str | Path, overrides: tuple[str, ...] = (), folder: str | Path | None = None
    ) -> "Study":
        """Return the study of a file; ``overrides`` are like ``search.n_trials=50``. Raises ConfigError."""
        return cls(load_study(path, overrides), folder)

    @classmethod
    def open(cls, folder: str | Path, overrides: tuple[str, ...] = ()) -> "Study":
        """Return the study of a run folder. Raises RunError: there is none."""
        run = find_run(folder)
        return cls(load_study(read_study(run).config, overrides), run)

    def run(self, hooks: StudyHooks | None = None) -> "Study":
        """Run a new study to its end. Raises RunError: its run folder exists."""
        if (self.folder / "study.json").exists():
            raise RunError(
                f"{self.folder}: a run of this name exists; go on with 'taskgroup resume {self.folder}', "
                "choose another name with --set name=..., or remove the folder"
            )
        conduct(self.config, self.folder, hooks or StudyHooks(), self._optimisers)
        return self

    def resume(self, hooks: StudyHooks | None = None) -> "Study":
        """Go on where the run stopped; nothing that was trained is trained again. Raises RunError: there is no run."""
        read_study(self.folder)
        conduct(self.config, self.folder, hooks or StudyHooks(), self._optimisers)
        return self

    def work(self, hooks: StudyHooks | None = None) -> int:
        """Join a run that another process conducts: run trials until none is left; return how many were run here.

        Processes on several machines need the run folder on a file system they share, and a ``storage`` made for that
        (a database server, or ``journal:PATH``). Raises RunError: there is no such run.
        """
        read_study(self.folder)
        if self.final() is not None:
            return 0
        return join(self.config, self.folder, hooks or StudyHooks(), self._optimisers)

    def optuna_study(self) -> "optuna.Study":
        """Return the plain Optuna study of the run, for ``optuna.visualization``, importances, or a dashboard.

        Its trials hold their grouping, skills, gains and cost as user attributes and their values by epoch; the choice
        is a trial with the attribute ``chosen``. Raises RunError: there is no run.
        """
        read_study(self.folder)
        return TrialStorage.open(self.config, self.folder).study

    def records(self) -> list[TrialRecord]:
        """Return the records of finished trials and assembled groupings, oldest first."""
        return read_records(self.folder)

    def final(self) -> FinalRecord | None:
        """Return the choice with its test metrics; None while the study has not ended."""
        return read_final(self.folder)

    def leaderboard(self) -> "pd.DataFrame":
        """Return baselines, trials and assembled groupings as a table, best first."""
        return leaderboard_frame(self.records(), final=self.final())
