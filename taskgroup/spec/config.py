"""What a study file (``studies/*.yaml``) may say.

Each section is one model; unknown keys are refused with the nearest known one. ``load_study`` reads a file, applies
``--set a.b=c`` overrides and resolves the search space; ``study_schema`` is the JSON schema for editors.
"""

import copy
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from taskgroup.errors import ConfigError, did_you_mean
from taskgroup.models import ModelConfig, setting_names
from taskgroup.spec.space import Space, load_space
from taskgroup.training import TrainConfig

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: Any) -> float | None:
    """Seconds from ``90``, ``"90s"``, ``"30m"``, ``"1h30m"``; None stays None."""
    if value is None or isinstance(value, int | float):
        return value
    text = str(value).strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(r"(\d+(\.\d+)?[smhd])+", text):
        raise ValueError(
            f"a duration is a number of seconds or like 90s, 30m, 1h30m; found '{value}'"
        )
    return sum(
        float(number) * _UNITS[unit]
        for number, _, unit in re.findall(r"(\d+(\.\d+)?)([smhd])", text)
    )


Duration = Annotated[float | None, BeforeValidator(parse_duration), Field(gt=0)]
Baseline = Literal["singles", "together", "correlation", "random"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitConfig(_Section):
    """Which rows train, validate and test; rows of one chemical system (or formula) stay together."""

    by: Literal["chemical_system", "formula", "random"] = Field(
        "chemical_system", description="what stays together"
    )
    folds: int = Field(5, ge=3, le=50, description="parts the rows are divided into")
    seed: int = Field(0, description="seed of the division")
    test_fold: int = Field(0, ge=0, description="the fold that is touched once, at the end")
    validation_folds: tuple[int, ...] = Field(
        (1,), min_length=1, description="folds the search's value is a mean over"
    )

    @field_validator("validation_folds")
    @classmethod
    def _distinct(cls, folds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(folds)) != len(folds) or min(folds) < 0:
            raise ValueError(
                f"validation folds must be distinct and not negative, found {list(folds)}"
            )
        return folds


class LowFidelity(_Section):
    """A cheaper version of every network, like ``{model: {grid: 8}, training: {epochs: 10}}``."""

    model: dict[str, Any] = Field(
        default_factory=dict, description="settings of the model that replace a trial's"
    )
    training: dict[str, Any] = Field(
        default_factory=dict, description="settings of the training that replace them"
    )

    @model_validator(mode="after")
    def _known(self) -> "LowFidelity":
        sections = (
            ("model", ModelConfig, setting_names()),
            ("training", TrainConfig, list(TrainConfig.model_fields)),
        )
        for name, settings, known in sections:
            for key, value in getattr(self, name).items():
                if key not in known:
                    raise ValueError(f"{name} has no '{key}'; {did_you_mean(key, known)}")
                try:
                    settings(**{key: value})
                except ValidationError as error:
                    message = error.errors()[0]["msg"].removeprefix("Value error, ")
                    raise ValueError(f"{name}.{key}: {message}, found {value!r}") from None
        if not (self.model or self.training):
            raise ValueError("must replace something, like training: {epochs: 10}; found nothing")
        return self


class SearchConfig(_Section):
    """How Optuna walks through the space."""

    n_trials: int = Field(32, ge=1, description="trials that end, baselines included")
    time_limit: Duration = Field(None, description="stop starting trials after this long")
    seed: int = Field(
        0, ge=0, description="seed of the sampler and of every network the search trains"
    )
    sampler: Literal["tpe", "random"] = Field("tpe", description="Optuna sampler")
    startup_trials: int = Field(8, ge=0, description="random trials before the sampler learns")
    pruner: Literal["group", "none"] = Field(
        "group", description="stops groups no best assembly can be hoped to want"
    )
    low_fidelity: LowFidelity | None = Field(
        None,
        description="train every group so first, and only those to the full of which enough may be hoped",
    )
    warmup_epochs: int = Field(
        10, ge=0, description="epochs every group gets before it may be stopped"
    )
    baselines: tuple[Baseline, ...] = Field(
        ("singles", "together", "correlation", "random"), description="run first"
    )


class AssemblyConfig(_Section):
    """The exact choice of the best grouping out of everything trained."""

    disjoint: bool = Field(
        False, description="true: a partition; false: helpers may stand in several groups"
    )
    max_networks: int | None = Field(
        None, ge=1, description="most networks the grouping may need at prediction time"
    )


class RefitConfig(_Section):
    """Training the best few groupings again: the choice among them, and the networks of the exported bundle."""

    top: int = Field(3, ge=1, description="groupings trained again, the assembled one included")
    members: int = Field(
        3, ge=3, description="networks a group, each with a new seed and validation fold"
    )


class ExecutorConfig(_Section):
    """Where networks are trained."""

    kind: str = Field(
        "process", description="process: in warm worker processes; inline: in this one"
    )
    workers: int = Field(1, ge=1, description="trials trained at the same time")
    threads: int | None = Field(
        None, ge=1, description="CPU threads a worker; default: cores / workers"
    )
    time_limit: Duration = Field(
        3600.0, description="a trial that takes longer is recorded as time_out"
    )


class TrackingConfig(_Section):
    """Where MLflow keeps its records."""

    uri: str | None = Field(
        None, description="MLflow tracking URI; default: SQLite in the run folder"
    )
    experiment: str | None = Field(
        None, description="experiment name; default: taskgroup/<dataset>"
    )


class StudyConfig(_Section):
    """One study: data, targets, space, budget."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="names the run folder runs/<name>"
    )
    description: str = Field("", description="a sentence for the report")
    dataset: str = Field(description="a built-in dataset, a store folder or its URL")
    targets: tuple[str, ...] | None = Field(
        None, description="targets to group; default: all of the dataset"
    )
    space: Space = Field(description="a file of search_spaces/ or the space itself")
    split: SplitConfig = SplitConfig()
    search: SearchConfig = SearchConfig()
    assembly: AssemblyConfig = AssemblyConfig()
    refit: RefitConfig = RefitConfig()
    executor: ExecutorConfig = ExecutorConfig()
    tracking: TrackingConfig = TrackingConfig()
    storage: str | None = Field(
        None, description="Optuna storage URL; default: SQLite in the run folder"
    )


def config_root(kind: str) -> list[Path]:
    """Folders searched for a bare name: ``studies``/``search_spaces`` of the working directory, then ours."""
    package = Path(__file__).resolve().parent.parent
    return [Path.cwd() / kind, package / "_configs" / kind, package.parent / kind]


def find_config(name: str | Path, kind: str, near: Path | None = None) -> Path:
    """The file of a study or search space given by path or bare name.

    Raises ConfigError: no such file; the message names the nearest one.
    """
    path = Path(name)
    roots = ([near] if near else []) + config_root(kind)
    options = [
        path,
        *(root / path.name for root in roots),
        *(root / f"{path.name}.yaml" for root in roots),
    ]
    for option in options:
        if option.is_file():
            return option
    known = {file.stem for root in roots if root.is_dir() for file in root.glob("*.yaml")}
    raise ConfigError(f"{kind}: no file '{name}'; {did_you_mean(path.stem, known)}")


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from a file. Raises ConfigError naming file and line."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(
            f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}"
        ) from None
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: a mapping of keys to values is expected, found {type(content).__name__}"
        )
    return content


def apply_overrides(content: dict[str, Any], overrides: tuple[str, ...]) -> None:
    """Set ``a.b=c`` in a nested mapping, in place; values are read as YAML."""
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {override}: must be key=value, like search.n_trials=50")
        *parents, last = key.strip().split(".")
        node = content
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise ConfigError(f"--set {override}: '{parent}' is not a section")
            node = child
        try:
            node[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"--set {override}: '{text}' is not a YAML value") from None


def load_study(source: str | Path | dict[str, Any], overrides: tuple[str, ...] = ()) -> StudyConfig:
    """Read and check a study file (or mapping), with overrides.

    Raises ConfigError: one line naming file, key, rule and what was found.
    """
    if isinstance(source, dict):
        content, name, near = copy.deepcopy(source), "study", None
    else:
        path = find_config(source, "studies")
        content, name, near = read_yaml(path), str(path), path.parent.parent / "search_spaces"
    whole = tuple(
        override for override in overrides if override.partition("=")[0].strip() == "space"
    )
    apply_overrides(content, whole)  # another file, before its keys are overridden
    if isinstance(content.get("space"), str):
        content["space"] = read_yaml(find_config(content["space"], "search_spaces", near))
    apply_overrides(content, tuple(override for override in overrides if override not in whole))
    if isinstance(content.get("space"), dict):
        content["space"] = load_space(content["space"], f"{name}: space")
    try:
        return StudyConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{name}: {explain(error, StudyConfig)}") from None


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first fault of a validation, in one line, with the nearest known key."""
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    where = ".".join(location) or "file"
    if first["type"] == "extra_forbidden":
        for part in location[:-1]:
            field = model.model_fields.get(part)
            if field is None or not isinstance(field.annotation, type):
                break
            model = field.annotation
        return f"{where}: unknown key; {did_you_mean(location[-1], model.model_fields)}"
    if first["type"] == "missing":
        return f"{where}: is required"
    message = first["msg"].removeprefix("Value error, ")
    found = "" if "found" in message else f", found {first['input']!r}"
    return f"{where}: {message[0].lower()}{message[1:]}{found}"


def study_schema() -> dict[str, Any]:
    """JSON schema of study files."""
    return StudyConfig.model_json_schema()
