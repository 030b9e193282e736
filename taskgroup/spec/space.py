"""Search spaces: what a trial may choose, read from ``search_spaces/*.yaml``.

A space has three sections, ``grouping`` (how the target graph is made and clustered), ``model`` (fields of ModelConfig)
and ``training`` (fields of TrainConfig). A parameter is a value (fixed), ``{choices: [...]}`` or
``{low:, high:, step:, log:}``; ``default:`` is what baselines use (else the first choice, or the middle);
``when: {method: [spectral]}`` makes it conditional on another parameter of its section.

Values are best kept discrete: a group that is met again with equal hyper-parameters costs nothing.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import optuna
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from taskgroup.affinity import find_measure
from taskgroup.affinity.gradients import JOINT_AFFINITIES
from taskgroup.errors import ConfigError, GroupingError, did_you_mean
from taskgroup.grouping.cluster import find_clusterer
from taskgroup.grouping.graph import SPARSIFIERS
from taskgroup.models import ModelConfig
from taskgroup.training import TrainConfig

MEASURED_IN_TRAINING = tuple(JOINT_AFFINITIES)
"""Names of the affinities that one joint run of all targets gives."""
SECTIONS = ("grouping", "model", "training")
Scalar = bool | int | float | str | None
Value = Scalar | list[Scalar]


class GroupingSettings(BaseModel):
    """How a trial makes its grouping."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    affinity: str = Field(
        "spearman",
        description="between targets: a measure of their labels (taskgroup.affinity), or measured in one joint run: "
        "gradient (cosines), look_ahead (what a step on one does to another), projected (estimated pairwise gains)",
    )
    sparsifier: str = Field(
        "threshold", description="which edges stay, see taskgroup.grouping.target_graph"
    )
    threshold: float = Field(
        0.2, ge=0, le=1, description="least |weight| of the threshold sparsifier"
    )
    neighbours: int = Field(
        3, ge=1, description="strongest edges a target keeps, of the knn sparsifier"
    )
    alpha: float = Field(0.05, gt=0, lt=1, description="false discovery rate of the fdr sparsifier")
    method: str = Field("louvain", description="clusterer, see taskgroup.grouping.cluster")
    resolution: float = Field(1.0, gt=0, description="of louvain and greedy modularity")
    k: int | None = Field(None, ge=1, description="number of groups where the method takes one")
    seed: int = Field(0, ge=0, description="seed of the clusterer")

    @field_validator("affinity")
    @classmethod
    def _known_affinity(cls, name: str) -> str:
        if name not in MEASURED_IN_TRAINING:
            _found(find_measure, name, MEASURED_IN_TRAINING)
        return name

    @field_validator("sparsifier")
    @classmethod
    def _known_sparsifier(cls, name: str) -> str:
        if name not in SPARSIFIERS:
            raise ValueError(f"no sparsifier '{name}'; {did_you_mean(name, SPARSIFIERS)}")
        return name

    @field_validator("method")
    @classmethod
    def _known_method(cls, name: str) -> str:
        _found(find_clusterer, name)
        return name


def _found(find: Callable[[str], Any], name: str, others: Iterable[str] = ()) -> None:
    """Look a name up; pydantic wants a ValueError, and the names that are known here besides."""
    try:
        find(name)
    except GroupingError as error:
        message = f"{str(error)[0].lower()}{str(error)[1:]}"
        also = f" (here also: {', '.join(others)})" if others else ""
        raise ValueError(message + also) from None


class Parameter(BaseModel):
    """One searchable parameter: choices, or a range."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    choices: tuple[Any, ...] | None = Field(
        None, description="categorical values; lists are allowed"
    )
    low: float | int | None = None
    high: float | int | None = None
    step: float | int | None = Field(None, gt=0)
    log: bool = False
    default: Any = Field(None, description="what baselines use")
    when: dict[str, Any] = Field(
        default_factory=dict, description="other parameter -> value or values"
    )

    @model_validator(mode="after")
    def _complete(self) -> "Parameter":
        is_range = self.low is not None and self.high is not None
        if is_range == (self.choices is not None) or (
            self.choices and (self.low, self.high) != (None, None)
        ):
            raise ValueError("give either choices, or low and high")
        if self.choices is not None:
            if not self.choices:
                raise ValueError("choices must not be empty, found []")
            if self.default is not None and self.default not in [
                _plain(choice) for choice in self.choices
            ]:
                raise ValueError(f"default must be one of the choices, found {self.default!r}")
            return self
        if not self.low <= self.high:
            raise ValueError(f"low <= high must hold, found low={self.low}, high={self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a log range needs low > 0, found low={self.low}")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        return self

    @property
    def is_integer(self) -> bool:
        """Whether the range runs over integers."""
        return all(
            isinstance(x, int) for x in (self.low, self.high) + ((self.step,) if self.step else ())
        )

    def baseline(self) -> Any:
        """The value that baselines use."""
        if self.default is not None:
            return self.default
        if self.choices is not None:
            return _plain(self.choices[0])
        if self.log:
            return math.sqrt(self.low * self.high)
        if self.step is None and not self.is_integer:
            return (self.low + self.high) / 2
        step = self.step or 1
        return self.low + step * round((self.high - self.low) / step / 2)

    def suggest(self, trial: optuna.Trial, name: str) -> Any:
        """Ask Optuna for a value."""
        if self.choices is not None:
            return _decode(
                trial.suggest_categorical(name, [_encode(choice) for choice in self.choices])
            )
        if self.is_integer:
            return trial.suggest_int(name, self.low, self.high, step=self.step or 1, log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)


class Space(BaseModel):
    """The three sections of a search space; each maps a parameter to a fixed value or a Parameter."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    grouping: dict[str, Parameter | Value] = Field(default_factory=dict)
    model: dict[str, Parameter | Value] = Field(default_factory=dict)
    training: dict[str, Parameter | Value] = Field(default_factory=dict)

    def parameters(self) -> dict[str, Parameter]:
        """``section.name`` -> Parameter, without the fixed values."""
        items = ((s, n, p) for s in SECTIONS for n, p in getattr(self, s).items())
        return {f"{section}.{name}": p for section, name, p in items if isinstance(p, Parameter)}

    def baseline(self) -> dict[str, dict[str, Any]]:
        """The settings that baselines use, a section each."""
        return self._walk(lambda parameter, name: parameter.baseline())

    def suggest(self, trial: optuna.Trial) -> dict[str, dict[str, Any]]:
        """The settings of a trial, a section each."""
        return self._walk(lambda parameter, name: parameter.suggest(trial, name))

    def encode(self, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Settings as Optuna parameters, for ``enqueue_trial``."""
        parameters = self.parameters()
        flat = {
            f"{section}.{name}": value
            for section, values in settings.items()
            for name, value in values.items()
        }
        return {name: _encode(value) for name, value in flat.items() if name in parameters}

    def _walk(self, choose: Any) -> dict[str, dict[str, Any]]:
        settings: dict[str, dict[str, Any]] = {}
        for section in SECTIONS:
            chosen: dict[str, Any] = {}
            for name, parameter in _ordered(getattr(self, section)):
                if not isinstance(parameter, Parameter):
                    chosen[name] = parameter
                elif all(
                    _matches(chosen.get(key), wanted) for key, wanted in parameter.when.items()
                ):
                    chosen[name] = choose(parameter, f"{section}.{name}")
            settings[section] = chosen
        return settings

    def with_methods(self, methods: tuple[str, ...]) -> "Space":
        """This space with further clustering methods to choose from (those the baselines need)."""
        method = self.grouping.get("method", "louvain")
        choices = list(method.choices) if isinstance(method, Parameter) else [method]
        default = method.baseline() if isinstance(method, Parameter) else method
        choices += [m for m in methods if m not in choices]
        parameter = Parameter(choices=tuple(choices), default=default)
        return self.model_copy(update={"grouping": {**self.grouping, "method": parameter}})


def settings_of(
    settings: Mapping[str, Mapping[str, Any]],
) -> tuple[GroupingSettings, ModelConfig, TrainConfig]:
    """The three settings objects of a trial, checked."""
    return (
        GroupingSettings(**settings["grouping"]),
        ModelConfig(**settings["model"]),
        TrainConfig(**settings["training"]),
    )


def load_space(content: Mapping[str, Any], where: str = "space") -> Space:
    """Check a space read from YAML: keys are known, ranges the right way up, conditions name parameters.

    Raises ConfigError naming section, parameter and rule.
    """
    fields = {"grouping": GroupingSettings, "model": ModelConfig, "training": TrainConfig}
    for section, values in content.items():
        if section not in fields:
            raise ConfigError(
                f"{where}.{section}: unknown section; {did_you_mean(section, SECTIONS)}"
            )
        if not isinstance(values, Mapping):
            raise ConfigError(
                f"{where}.{section}: a mapping of parameters is expected, found {values!r}"
            )
        for name, value in values.items():
            at = f"{where}.{section}.{name}"
            if name not in fields[section].model_fields:
                raise ConfigError(
                    f"{at}: unknown key; {did_you_mean(name, fields[section].model_fields)}"
                )
            if isinstance(value, Mapping):
                _check_parameter(value, values, at)
    space = Space.model_validate(dict(content))
    _check_values(space, fields, where)
    return space


def _check_parameter(value: Mapping[str, Any], siblings: Mapping[str, Any], at: str) -> None:
    for key in value:
        if key not in Parameter.model_fields:
            raise ConfigError(
                f"{at}.{key}: unknown key; {did_you_mean(key, Parameter.model_fields)}"
            )
    for key in value.get("when") or {}:
        if key not in siblings:
            raise ConfigError(
                f"{at}.when: no parameter '{key}' in this section; {did_you_mean(key, siblings)}"
            )
    try:
        Parameter.model_validate(dict(value))
    except ValidationError as error:
        raise ConfigError(
            f"{at}: {error.errors()[0]['msg'].removeprefix('Value error, ')}"
        ) from None


def _check_values(space: Space, fields: Mapping[str, type[BaseModel]], where: str) -> None:
    """Every fixed value, choice and range end must be one the settings accept."""
    for section, model in fields.items():
        for name, parameter in getattr(space, section).items():
            if isinstance(parameter, Parameter):
                values = (
                    parameter.choices
                    if parameter.choices is not None
                    else (parameter.low, parameter.high)
                )
            else:
                values = (parameter,)
            for value in values:
                try:
                    model(**{name: _plain(value)})
                except ValidationError as error:
                    first = error.errors()[0]
                    if name in first["loc"] or not first["loc"]:
                        message = first["msg"].removeprefix("Value error, ")
                        raise ConfigError(
                            f"{where}.{section}.{name}: {message}, found {value!r}"
                        ) from None


def _ordered(section: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Parameters with those that others depend on first."""
    return sorted(
        section.items(), key=lambda item: bool(isinstance(item[1], Parameter) and item[1].when)
    )


def _matches(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, list | tuple) else value == wanted


def _encode(value: Any) -> Scalar:
    """Optuna's categories are scalars: lists travel as JSON text."""
    return json.dumps(value) if isinstance(value, list | tuple) else value


def _decode(value: Scalar) -> Any:
    return json.loads(value) if isinstance(value, str) and value.startswith("[") else value


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


__all__ = ["GroupingSettings", "Parameter", "Space", "load_space", "settings_of"]
