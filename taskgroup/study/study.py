"""A study: one search, its run folder and its results."""

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from taskgroup.affinity import Affinity
from taskgroup.errors import RunError
from taskgroup.grouping import Grouping
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
    verdict_sentence,
)
from taskgroup.tracking.figures import save_figures
from taskgroup.tracking.learning_points import read_learning
from taskgroup.tracking.predictions import predictions_table
from taskgroup.tracking.report import plan_in_words, write_report
from taskgroup.tracking.tables import (
    best_grouping,
    gains_table,
    history_table,
    learning_table,
    read_affinity,
    read_transfer_matrix,
    training_table,
)

if TYPE_CHECKING:
    import optuna
    import pandas as pd
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

    from taskgroup.export import Bundle

__all__ = ["Study", "StudyHooks"]

# Rows of the leaderboard that a notebook shows.
_SHOWN_ROWS = 10


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
    >>> print(study.verdict); study.gains(); study.bundle().predict(["CHGCAR"])  # doctest: +SKIP
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

    @property
    def state(self) -> str:
        """``new`` (no run folder yet), ``running``, ``interrupted`` or ``finished``."""
        if not (self.folder / "study.json").exists():
            return "new"
        return read_study(self.folder).state

    @property
    def best(self) -> Grouping | None:
        """The chosen grouping; before the end the best so far, None before the first trial has finished."""
        if self.state == "new":
            return None
        return best_grouping(self.records(), self.final())

    @property
    def verdict(self) -> str:
        """Which grouping was chosen and what it gains on test rows, in one sentence; before the end, that it runs."""
        final = None if self.state == "new" else self.final()
        if final is not None:
            return verdict_sentence(final)
        if self.best is None:
            return f"{self.config.name} is {self.state}: no trial has finished yet."
        return f"{self.config.name} is {self.state}; the best grouping so far is {self.best}."

    # -- tables -------------------------------------------------------------------------------------------------

    def leaderboard(self, sort: str | None = None, top: int | None = None) -> "pd.DataFrame":
        """Return baselines, trials and assembled groupings, best first; see ``tracking.leaderboard_frame``."""
        return leaderboard_frame(self.records(), sort, top, self.final())

    def networks(self) -> "pd.DataFrame":
        """Return one row per network of the choice: group, backbone and settings in words; empty before the end."""
        import pandas as pd

        final = self.final()
        rows, shared = plan_in_words(None if final is None else final.plan)
        frame = pd.DataFrame(rows, columns=["group", "backbone", "settings"])
        frame.attrs["shared_settings"] = shared
        return frame

    def gains(self, rows: str = "test") -> "pd.DataFrame":
        """Return what each target gains by joining, on ``test`` or ``validation`` rows; see ``gains_table``."""
        return gains_table(self.final(), rows)

    def predictions(self) -> "pd.DataFrame":
        """Return truth, prediction and standard deviation of each target on the test rows, by id."""
        return predictions_table(self.folder)

    def history(self) -> "pd.DataFrame":
        """Return the trials in the order they finished, with kind, state, objective and grouping."""
        return history_table(self.records(), self.final())

    def training_curves(self) -> "pd.DataFrame":
        """Return validation skill by epoch of the baselines and trials, the best first."""
        return training_table(self.records())

    def learning_curve(self) -> "pd.DataFrame":
        """Return test skill against training rows, where ``taskgroup learning-curve`` has measured it."""
        return learning_table(read_learning(self.folder))

    def affinity(self, measure: str | None = None) -> Affinity | None:
        """Return an affinity that the search used, by default Spearman's; None where it used none."""
        return read_affinity(self.folder, measure)

    def transfer_matrix(self) -> Affinity | None:
        """Return what each target gained from each other, as measured; None before the end."""
        return read_transfer_matrix(self.folder)

    # -- what people take away ----------------------------------------------------------------------------------

    def report(self, out: str | Path | None = None) -> Path:
        """Write the HTML report, by default into the run folder; return its path."""
        return write_report(self.folder, out or self.folder / "report.html")

    def figures(self, folder: str | Path, paper: str = "aps") -> list[Path]:
        """Write every figure in a journal's style (``tg.plot.PAPERS``) with its numbers as CSV; return the files."""
        return save_figures(self.folder, folder, paper)

    def bundle(self, check: bool = True) -> "Bundle":
        """Return the exported bundle, having checked that it predicts what it did. Raises RunError: no bundle yet."""
        from taskgroup.export import load_bundle

        if not (self.folder / "export").exists():
            raise RunError(
                f"{self.folder}: has no bundle yet, the study has not ended; "
                f"go on with: taskgroup resume {self.folder}"
            )
        return load_bundle(self.folder / "export", check=check)

    def export(self, out: str | Path) -> Path:
        """Copy the exported bundle to a folder; return it. Raises RunError: the study has not ended."""
        from taskgroup.export import save_bundle

        bundle = self.bundle()
        save_bundle(out, bundle.spec, bundle.members, bundle.reference)
        return Path(out)

    def __repr__(self) -> str:
        return f"Study({self.config.name}, {self.state}: {self.folder})"

    def _repr_html_(self) -> str:
        """Return state, verdict and the top of the leaderboard, for notebooks."""
        head = (
            f"<p><b>{escape(self.config.name)}</b> ({self.state}, {escape(str(self.folder))})</p>"
        )
        text = f"{head}<p>{escape(self.verdict)}</p>"
        if self.state == "new" or not self.records():
            return text
        columns = ["rank", "chosen", "name", "kind", "objective", "test", "n_networks", "grouping"]
        return text + self.leaderboard(top=_SHOWN_ROWS)[columns].to_html(index=False, border=0)
