"""The Optuna sampler of a study, by name and arguments."""

import inspect
import warnings
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from pydantic import BaseModel, ConfigDict, Field, model_validator

from taskgroup.errors import ConfigError, did_you_mean
from taskgroup.spec.space import Space

# Short names of the two samplers that need no argument.
_SHORT = {"tpe": "TPESampler", "random": "RandomSampler"}
# Argument by which samplers take the number of random trials before they learn.
_STARTUP = "n_startup_trials"
# Argument by which samplers warn that they draw some parameters at random, which conditional ones always need.
_WARNS = "warn_independent_sampling"
# Argument of samplers whose proposals are points of one scrambled sequence.
_SCRAMBLE = "scramble"


class SamplerConfig(BaseModel):
    """A sampler of Optuna: its name and, in any further keys, its arguments."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field("tpe", description="tpe, random, or a class of optuna.samplers.")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, content: Any) -> Any:
        return {"name": content} if isinstance(content, str) else content

    @model_validator(mode="after")
    def _can_be_made(self) -> "SamplerConfig":
        known = sampler_names()
        if _SHORT.get(self.name, self.name) not in known:
            names = [*_SHORT, *known]
            raise ValueError(f"no sampler '{self.name}'; {did_you_mean(self.name, names)}")
        self.make(0, 0)
        return self

    @property
    def walks_a_sequence(self) -> bool:
        """Whether the sampler walks along one scrambled sequence, so that all proposals need one seed."""
        return _SCRAMBLE in inspect.signature(self._kind).parameters

    @property
    def _kind(self) -> type[BaseSampler]:
        return getattr(optuna.samplers, _SHORT.get(self.name, self.name))

    def make(self, seed: int, startup_trials: int) -> BaseSampler:
        """Return a new sampler, with the seed and the number of random trials where it takes them.

        Raises ValueError: an argument that the sampler does not take or cannot use.
        """
        accepted = inspect.signature(self._kind).parameters
        arguments = dict(self.model_extra or {})
        for name in arguments:
            if name not in accepted:
                raise ValueError(
                    f"{self.name} has no argument '{name}'; {did_you_mean(name, accepted)}"
                )
        defaults = {"seed": seed, _STARTUP: startup_trials, _WARNS: False}
        for name, value in defaults.items():
            if name in accepted:
                arguments.setdefault(name, value)
        with warnings.catch_warnings():
            # Of experimental arguments: who names one knows.
            warnings.simplefilter("ignore")
            try:
                return self._kind(**arguments)
            except (TypeError, ValueError, ImportError) as error:
                raise ValueError(f"{self.name} cannot be made: {_first_line(error)}") from None

    def check(self, space: Space) -> None:
        """Raise ConfigError: the sampler cannot propose trials of this space."""
        if self.name == "CmaEsSampler" and not _has_numbers(space):
            raise ConfigError(
                "search.sampler: CmaEsSampler proposes numbers only, and every parameter of the space has choices; "
                "give ranges (low and high), or take tpe or GPSampler"
            )
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(sampler=self.make(0, 0), direction="maximize")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                space.suggest(study.ask())
        except (ValueError, RuntimeError, TypeError) as error:
            raise ConfigError(
                f"search.sampler: {self.name} cannot propose trials of this space: {_first_line(error)}"
            ) from None


def sampler_names() -> list[str]:
    """Return the samplers of Optuna that can be made of plain arguments."""
    names = []
    for name in optuna.samplers.__all__:
        kind = getattr(optuna.samplers, name)
        is_sampler = inspect.isclass(kind) and issubclass(kind, BaseSampler)
        if is_sampler and not inspect.isabstract(kind):
            names.append(name)
    return names


def _has_numbers(space: Space) -> bool:
    return any(parameter.choices is None for parameter in space.parameters().values())


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
