"""Sections of a study file, one model each. Their descriptions are the help texts of ``taskgroup schema``."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from taskgroup.spec.objective import ObjectiveConfig
from taskgroup.spec.samplers import SamplerConfig
from taskgroup.spec.space import Space

SINGLES = "singles"
TOGETHER = "together"
CORRELATION = "correlation"
RANDOM = "random"
Baseline = Literal["singles", "together", "correlation", "random"]

JOURNAL = "journal:"
_SQLITE_FILE = "sqlite:///"

# Limits far above what any machine has or any study needs: a slip of the pen is refused before it fills the memory.
_MOST_WORKERS = 1024
_MOST_THREADS = 1024
_MOST_TRIALS = 10_000_000
_MOST_MEMBERS = 1000
_MOST_FINALISTS = 1000
_LONGEST_NAME = 100
# NumPy seeds with 32 bits; the seeds of the members stand behind that of the search.
_LARGEST_SEED = 2**31 - 1

_SECONDS_PER_UNIT = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER_AND_UNIT = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def parse_duration(value: Any) -> float | None:
    """Return the seconds that ``90``, ``"90s"``, ``"30m"`` or ``"1h30m"`` stand for; None stays None.

    Raises ValueError: anything else.
    """
    if value is None or isinstance(value, int | float):
        return value
    text = str(value).strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _NUMBER_AND_UNIT.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(
            f"a duration is a number of seconds or like 90s, 30m, 1h30m; found '{value}'"
        )
    return sum(float(number) * _SECONDS_PER_UNIT[unit] for number, unit in parts)


Duration = Annotated[float | None, BeforeValidator(parse_duration), Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitConfig(_Section):
    """Which rows are used for training, validation and test."""

    by: Literal["chemical_system", "formula", "random"] = Field(
        "chemical_system",
        description="Rows that share this stay in one fold, so that no near-copy of a test row is trained on.",
    )
    folds: int = Field(5, ge=3, le=50, description="Number of folds the rows are divided into.")
    seed: int = Field(
        0, ge=0, le=_LARGEST_SEED, description="Random seed of the division into folds."
    )
    test_fold: int = Field(
        0, ge=0, description="Fold held out for the test: it is used once, after the choice."
    )
    validation_folds: tuple[int, ...] = Field(
        (1,),
        min_length=1,
        description="Folds the search validates on. The value of a trial is the mean over them; each costs a training.",
    )

    @field_validator("validation_folds")
    @classmethod
    def _distinct(cls, folds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(folds)) != len(folds) or min(folds) < 0:
            raise ValueError(
                f"validation folds must be distinct and not negative, found {list(folds)}"
            )
        return folds


class SearchConfig(_Section):
    """How many trials are run, and how Optuna chooses them."""

    n_trials: int = Field(
        32,
        ge=1,
        le=_MOST_TRIALS,
        description="Number of trials in all, baselines included. A trial that repeats an earlier one does not count.",
    )
    time_limit: Duration = Field(
        None, description="No trial is started after this time, like 90s, 30m, 1h30m."
    )
    storage_wait: Duration = Field(
        600.0,
        description="How long the search waits for a storage that is away or locked, like 90s, 30m.",
    )
    seed: int = Field(
        0,
        ge=0,
        le=_LARGEST_SEED,
        description="Random seed of the sampler and of every network that the search trains.",
    )
    sampler: SamplerConfig = Field(
        SamplerConfig(name="tpe"),
        description="Optuna sampler: tpe, random, or any class of optuna.samplers with its arguments, like "
        "{name: GPSampler, n_startup_trials: 5}.",
    )
    startup_trials: int = Field(
        8,
        ge=0,
        le=_MOST_TRIALS,
        description="Number of random trials before a sampler starts to learn, where it takes this number.",
    )
    pruner: Literal["group", "none"] = Field(
        "group",
        description="group: stop training a group early once it cannot become part of the best assembly; "
        "none: train every group to the end.",
    )
    warmup_epochs: int = Field(
        10, ge=0, description="Epochs that every group is trained before the pruner may stop it."
    )
    baselines: tuple[Baseline, ...] = Field(
        (SINGLES, TOGETHER, CORRELATION, RANDOM),
        description="Groupings that are trained first: one network per target, one network for all, clusters of "
        "correlated targets, and random groups.",
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_low_fidelity(cls, content: Any) -> Any:
        if isinstance(content, dict) and content.get("low_fidelity") is not None:
            raise ValueError(
                "low_fidelity was removed, since it did not pay in any measurement; delete the key "
                f"(search.pruner stops weak groups early), found {content['low_fidelity']!r}"
            )
        return content


class AssemblyConfig(_Section):
    """The exact choice of the best grouping out of all groups that were trained."""

    disjoint: bool = Field(
        False,
        description="true: each target stands in one group only; "
        "false: a target served by one group may help in others.",
    )
    max_networks: int | None = Field(
        None,
        ge=1,
        description="Largest number of networks that the chosen grouping may have; default: no limit.",
    )


class RefitConfig(_Section):
    """Training the best networks again with new seeds: for the final choice, and for the exported bundle."""

    top: int = Field(
        3,
        ge=1,
        le=_MOST_FINALISTS,
        description="Trainings with new seeds that tell the best networks apart, in whole groupings: at most this many "
        "times what training the chosen grouping again takes. Fewer are made where the choice is clear.",
    )
    members: int = Field(
        3,
        ge=3,
        le=_MOST_MEMBERS,
        description="Networks per group in the bundle, each with a new seed and another validation fold.",
    )


class ExecutorConfig(_Section):
    """Where networks are trained."""

    kind: str = Field(
        "process",
        description="process: in worker processes that stay alive between trials; inline: in the main process; "
        "or the name of an installed plug-in.",
    )
    workers: int = Field(
        1,
        ge=1,
        le=_MOST_WORKERS,
        description="Number of trials that are trained at the same time.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=_MOST_THREADS,
        description="CPU threads per worker; default: the available cores / workers.",
    )
    time_limit: Duration = Field(
        3600.0, description="A trial that takes longer than this is recorded as failed (time_out)."
    )


class TrackingConfig(_Section):
    """Where MLflow keeps its records."""

    uri: str | None = Field(
        None,
        description="MLflow tracking URI, or env:NAME to read it from an environment variable; "
        "default: MLFLOW_TRACKING_URI where it is set, else SQLite in the run folder.",
    )
    experiment: str | None = Field(
        None, description="Name of the MLflow experiment; default: taskgroup/<dataset>."
    )


def _read_space(space: Any) -> Any:
    """Return a search space given by the name of its file."""
    if not isinstance(space, str):
        return space
    # Imported here, since files of studies are read in terms of these sections.
    from taskgroup.spec.config import named_space

    return named_space(space)


class StudyConfig(_Section):
    """One study: its data, its targets, its search space and its budget."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        max_length=_LONGEST_NAME,
        description="Name of the study and of its run folder, runs/<name>.",
    )
    description: str = Field("", description="One sentence about the study, for its report.")
    dataset: str = Field(
        description="Name of a built-in dataset, or folder or URL of a dataset store."
    )
    targets: tuple[str, ...] | None = Field(
        None, description="Targets to group; default: all targets of the dataset."
    )
    space: Annotated[Space, BeforeValidator(_read_space)] = Field(
        description="Search space: the name of a file in search_spaces/, or the space itself."
    )
    split: SplitConfig = Field(
        SplitConfig(), description="Which rows are used for training, validation and test."
    )
    search: SearchConfig = Field(
        SearchConfig(), description="How many trials are run, and how Optuna chooses them."
    )
    objective: ObjectiveConfig = Field(
        ObjectiveConfig(),
        description="What is optimised: weights of the targets, and what a network costs.",
    )
    assembly: AssemblyConfig = Field(
        AssemblyConfig(),
        description="The exact choice of the best grouping out of all groups that were trained.",
    )
    refit: RefitConfig = Field(
        RefitConfig(), description="Training the best groupings again with new seeds."
    )
    executor: ExecutorConfig = Field(ExecutorConfig(), description="Where networks are trained.")
    tracking: TrackingConfig = Field(
        TrackingConfig(), description="Where MLflow keeps its records."
    )
    storage: str | None = Field(
        None,
        description="Optuna storage: a database URL, journal:PATH for a file that several machines share, or env:NAME "
        "to read the URL from an environment variable; default: SQLite in the run folder. Passwords are never stored.",
    )

    @field_validator("storage")
    @classmethod
    def _absolute(cls, storage: str | None) -> str | None:
        # A run may be resumed from another working directory: a relative path would then mean another file.
        if storage is None:
            return None
        for prefix in (JOURNAL, _SQLITE_FILE):
            if storage.startswith(prefix) and ":memory:" not in storage:
                path = Path(storage.removeprefix(prefix)).expanduser()
                return f"{prefix}{path.absolute()}"
        return storage
