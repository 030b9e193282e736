"""One searchable parameter of a search space: choices or a range, and when it is asked for."""

import json
import math
from typing import Any

import optuna
from pydantic import BaseModel, ConfigDict, Field, model_validator

Scalar = bool | int | float | str | None
Value = Scalar | list[Scalar]


class Parameter(BaseModel):
    """One searchable parameter: choices, or a range."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    choices: tuple[Any, ...] | None = Field(
        None, description="categorical values; lists are allowed"
    )
    low: float | int | None = Field(None, description="least value of a range")
    high: float | int | None = Field(None, description="largest value of a range, included")
    step: float | int | None = Field(
        None, gt=0, description="distance of neighbouring values of a range; default: 1 or none"
    )
    log: bool = Field(False, description="true: values of a range are drawn on a logarithmic scale")
    default: Any = Field(None, description="what baselines use")
    when: dict[str, Any] = Field(
        default_factory=dict, description="other parameter -> value or values"
    )

    @model_validator(mode="after")
    def _complete(self) -> "Parameter":
        has_range = self.low is not None and self.high is not None
        has_an_end = self.low is not None or self.high is not None
        has_choices = self.choices is not None
        if has_range == has_choices or (self.choices and has_an_end):
            raise ValueError("give either choices, or low and high")
        if has_choices:
            self._check_choices()
        else:
            self._check_range()
        return self

    def _check_choices(self) -> None:
        if not self.choices:
            raise ValueError("choices must not be empty, found []")
        choices = [as_list(choice) for choice in self.choices]
        if self.default is not None and self.default not in choices:
            raise ValueError(f"default must be one of the choices, found {self.default!r}")

    def _check_range(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"low <= high must hold, found low={self.low}, high={self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a log range needs low > 0, found low={self.low}")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")

    @property
    def is_integer(self) -> bool:
        """Whether the range runs over integers."""
        numbers = [self.low, self.high]
        if self.step:
            numbers.append(self.step)
        return all(isinstance(number, int) for number in numbers)

    @property
    def values(self) -> tuple[Any, ...]:
        """All choices, or the ends of the range."""
        return (self.low, self.high) if self.choices is None else self.choices

    def baseline(self) -> Any:
        """Return the value that baselines use: the default, else the first choice or the middle of the range."""
        if self.default is not None:
            return self.default
        if self.choices is not None:
            return as_list(self.choices[0])
        if self.log:
            return math.sqrt(self.low * self.high)
        if self.step is None and not self.is_integer:
            return (self.low + self.high) / 2
        step = self.step or 1
        return self.low + step * round((self.high - self.low) / step / 2)

    def suggest(self, trial: optuna.Trial, name: str) -> Any:
        """Ask Optuna for a value."""
        if self.choices is not None:
            encoded = [encode(choice) for choice in self.choices]
            return _decode(trial.suggest_categorical(name, encoded))
        if self.is_integer:
            return trial.suggest_int(name, self.low, self.high, step=self.step or 1, log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)


def encode(value: Any) -> Scalar:
    """Return a value as Optuna's categories take it, scalars: lists travel as JSON text."""
    return json.dumps(value) if isinstance(value, list | tuple) else value


def _decode(value: Scalar) -> Any:
    is_list = isinstance(value, str) and value.startswith("[")
    return json.loads(value) if is_list else value


def as_list(value: Any) -> Any:
    """Return a tuple as list, anything else as it is."""
    return list(value) if isinstance(value, tuple) else value
