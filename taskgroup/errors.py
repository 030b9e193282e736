"""The exceptions of taskgroup.

    TaskgroupError                 something failed while running (exit code 1)
    ├── TrainingFailed             a network could not be trained; carries ``fail_kind``
    ├── MissingDependency          an optional package is needed (also an ImportError)
    └── InputError                 what was given is wrong (exit code 2; also a ValueError)
        ├── DensityError           a density file or array
        ├── TargetError            a property table or target
        ├── StoreError             a dataset store on disk
        ├── ConfigError            a study, a search space, an option
        ├── GroupingError          a grouping, a clustering request
        │   └── InfeasibleError    a solver request that no choice of sets can meet
        ├── RunError               a run folder
        └── BundleError            an exported bundle

Messages name the thing (file, field, target), the rule, and what was found, in one line.
"""

import difflib
from collections.abc import Iterable

# Longer messages quote something that nobody reads, such as a whole file.
_LONGEST_MESSAGE = 4000


class TaskgroupError(Exception):
    """Base of all errors raised on purpose by taskgroup; control characters of what it quotes are made visible."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class TrainingFailed(TaskgroupError, RuntimeError):
    """A network could not be trained.

    ``fail_kind`` is one of ``out_of_memory``, ``nan``, ``time_out``, ``signal``, ``error``.
    """

    def __init__(self, message: str, fail_kind: str = "error") -> None:
        super().__init__(message)
        self.fail_kind = fail_kind


class MissingDependency(TaskgroupError, ImportError):
    """An optional package is not installed; the message says how to install it."""


class InputError(TaskgroupError, ValueError):
    """Input that breaks a rule; the command line answers it with exit code 2."""


class DensityError(InputError):
    """A density file or array breaks a rule."""


class TargetError(InputError):
    """A property table or a target breaks a rule."""


class StoreError(InputError):
    """A dataset store is missing, incomplete or damaged."""


class ConfigError(InputError):
    """A study, search space or option breaks a rule."""


class GroupingError(InputError):
    """A grouping or a clustering request breaks a rule."""


class InfeasibleError(GroupingError):
    """No choice of sets meets the request; the message names the constraint."""


class RunError(InputError):
    """A run folder is missing, in use, or already there."""


class BundleError(InputError):
    """A bundle is damaged, altered, or of a newer format."""


def printable(text: object) -> str:
    """Return a text that is safe to print: control characters escaped, and its middle left out if it is very long.

    Names and cells of files from anywhere are quoted in messages; an escape sequence must not reach a terminal.

    >>> printable("mp-1\x1b[2J")
    'mp-1\\\\x1b[2J'
    """
    plain = str(text)
    if len(plain) > _LONGEST_MESSAGE:
        half = _LONGEST_MESSAGE // 2
        plain = f"{plain[:half]} ... {plain[-half:]}"
    if plain.isprintable():
        return plain
    letters = [
        letter if letter.isprintable() or letter == "\n" else _escaped(letter) for letter in plain
    ]
    return "".join(letters)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape", errors="replace").decode("ascii")


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """A clause for an error message: the nearest choice if there is one, else all of them."""
    options = sorted(map(str, choices))
    near = difflib.get_close_matches(str(name), options, n=1)
    return f"did you mean '{near[0]}'?" if near else f"choose from: {', '.join(options)}"
