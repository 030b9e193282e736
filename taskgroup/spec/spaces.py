"""The search spaces that a study may name, with what each is for."""

from dataclasses import dataclass
from pathlib import Path

from taskgroup.spec.config import config_folders, read_yaml
from taskgroup.spec.parameter import Parameter
from taskgroup.spec.space import SECTIONS, Space
from taskgroup.spec.space_check import ABOUT, load_space


@dataclass(frozen=True)
class NamedSpace:
    """A search space by name: its recommendation, and how many values its parameters may take.

    ``recipes`` is the number of different networks for one set of targets; None where a parameter is a range.
    """

    name: str
    path: Path
    about: dict[str, str]
    parameters: int
    recipes: int | None


def named_spaces() -> list[NamedSpace]:
    """Return the spaces in ``search_spaces`` of the working directory and of taskgroup, by name."""
    found: dict[str, NamedSpace] = {}
    for folder in config_folders("search_spaces"):
        for path in sorted(folder.glob("*.yaml")):
            if path.stem not in found:
                found[path.stem] = _named(path)
    return [found[name] for name in sorted(found)]


def _named(path: Path) -> NamedSpace:
    content = read_yaml(path)
    space = load_space(content, str(path))
    about = {name: str(text) for name, text in content.get(ABOUT, {}).items()}
    return NamedSpace(path.stem, path, about, len(space.parameters()), _recipes(space))


def _recipes(space: Space) -> int | None:
    number = 1
    for section in SECTIONS[1:]:
        for parameter in getattr(space, section).values():
            if not isinstance(parameter, Parameter):
                continue
            if parameter.choices is None:
                return None
            number *= len(parameter.choices)
    return number
