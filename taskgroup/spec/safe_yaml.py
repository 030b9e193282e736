"""Reading YAML that a stranger may have written: nothing in it makes the reader slow, large or recursive.

PyYAML's safe loader runs no code, but it recurses into nested brackets, converts integers of any length and lets a few
lines of aliases stand for billions of values. Its parser does none of this, so a text is first counted by its events.
"""

import re
from typing import Any

import yaml

from taskgroup.errors import ConfigError

# A study file has some hundred values in at most eight levels; a search space of all options has fewer than 1,000.
_MOST_CHARACTERS = 1_000_000
_MOST_VALUES = 20_000
_MOST_LEVELS = 50
_LONGEST_VALUE = 5_000
# The parser's time grows with the square of the brackets that are open; those in quoted text count here, too.
_MOST_BRACKETS = 500
# Characters of a fault that a message quotes.
_LONGEST_QUOTE = 200


def parse_yaml(text: str, place: str) -> Any:
    """Return what a YAML text holds.

    Parameters
    ----------
    text: the YAML.
    place: the file or option that it comes from, for messages.

    Raises ConfigError: it is not YAML, or larger than any study; the message names the line.
    """
    if len(text) > _MOST_CHARACTERS:
        raise ConfigError(
            f"{place}: a study has at most {_MOST_CHARACTERS:,} characters, found {len(text):,}"
        )
    if _brackets(text) > _MOST_BRACKETS:
        raise ConfigError(f"{place}: more than {_MOST_LEVELS} levels of brackets or indents")
    try:
        _Size(place).count(text)
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise ConfigError(f"{_at(place, mark)}: not valid YAML: {_short(problem)}") from None
    except (ValueError, OverflowError) as error:
        # An integer of thousands of digits, a date that does not exist.
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{place}: a value cannot be read: {_short(reason)}") from None


def _brackets(text: str) -> int:
    """Return how many brackets are open at the same time, at most."""
    n_open = most = 0
    for match in re.finditer(r"[\[\]{}]", text):
        n_open += 1 if match.group() in "[{" else -1
        most = max(most, n_open)
    return most


class _Size:
    """Counts the values of a YAML text with its aliases written out."""

    def __init__(self, place: str) -> None:
        self._place = place
        # Values that each anchor stands for; None while it is open.
        self._values_of_anchor: dict[str, int | None] = {}
        self._n_values = 0

    def count(self, text: str) -> None:
        """Raise ConfigError where a text is larger or deeper than a study can be."""
        # Anchor and number of values before it of every sequence and mapping that is open.
        open_nodes: list[tuple[str | None, int]] = []
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                self._n_values += self._size_of(event)
            elif isinstance(event, yaml.ScalarEvent):
                self._n_values += 1
                self._check_length(event)
                if event.anchor is not None:
                    self._values_of_anchor[event.anchor] = 1
            elif isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, self._n_values))
                self._n_values += 1
                if event.anchor is not None:
                    self._values_of_anchor[event.anchor] = None
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, before = open_nodes.pop()
                if anchor is not None:
                    self._values_of_anchor[anchor] = self._n_values - before
            if len(open_nodes) > _MOST_LEVELS:
                self._refuse(event, f"more than {_MOST_LEVELS} levels of brackets or indents")
            if self._n_values > _MOST_VALUES:
                self._refuse(event, f"more than {_MOST_VALUES:,} values, aliases written out")

    def _size_of(self, alias: yaml.AliasEvent) -> int:
        size = self._values_of_anchor.get(alias.anchor, 1)
        if size is None:
            self._refuse(alias, "an alias stands inside of what it stands for")
        return size

    def _check_length(self, scalar: yaml.ScalarEvent) -> None:
        if len(scalar.value) > _LONGEST_VALUE:
            found = f"a value of {len(scalar.value):,} characters"
            self._refuse(scalar, f"{found}; at most {_LONGEST_VALUE:,} are read")

    def _refuse(self, event: yaml.Event, what: str) -> None:
        raise ConfigError(f"{_at(self._place, event.start_mark)}: {what}")


def _at(place: str, mark: yaml.Mark | None) -> str:
    return place if mark is None else f"{place} line {mark.line + 1}"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]} ..."
