"""Hooks of the documentation site: reference pages made from the code, links into the repository made plain.

mkdocs calls ``on_page_markdown`` for each page. A page asks for a reference with one of the marks in ``_MADE``.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

# Links out of docs/ lead to files of the repository, which the site does not hold: their text stays.
_LINK_OUT = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?!docs/)[^)#]*\)")

# Sections of a study file, in the order in which a study uses them.
_PARTS = ("split", "search", "assembly", "refit", "executor", "tracking")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page with its marks replaced by references, and links that lead out of the site by their text."""
    for mark, make in _MADE.items():
        if mark in markdown:
            markdown = markdown.replace(mark, make())
    depth = page.file.src_uri.count("/")
    return _without_links_out(markdown, depth)


def python_reference() -> str:
    """Return one mkdocstrings block for each public name of taskgroup."""
    import taskgroup

    blocks = []
    for name in sorted(taskgroup.__all__, key=str.lower):
        value = getattr(taskgroup, name)
        if inspect.ismodule(value):
            blocks.append(f"::: {value.__name__}\n")
        elif hasattr(value, "__qualname__"):
            blocks.append(f"::: {value.__module__}.{value.__qualname__}\n")
    return "\n".join(blocks)


def study_reference() -> str:
    """Return a table of keys for each section of a study file and of a search space."""
    schema = import_module("taskgroup.spec.schema").study_schema()
    definitions = schema["$defs"]
    lines = ["## The study", "", *_table(schema["properties"], definitions)]
    for part in _PARTS:
        model = definitions[schema["properties"][part]["$ref"].split("/")[-1]]
        lines += [
            "",
            f"## `{part}`",
            "",
            model["description"],
            "",
            *_table(model["properties"], definitions),
        ]
    for part, model in definitions["Space"]["properties"].items():
        lines += ["", f"## `space.{part}`", "", f"It says {model['description']}.", ""]
        lines += _table(model["properties"], definitions)
    lines += [
        "",
        "## A parameter that is searched",
        "",
        *_table(definitions["Parameter"]["properties"], definitions),
    ]
    for name, model in definitions.items():
        if name.startswith("backbone_"):
            title = name.removeprefix("backbone_")
            lines += ["", f"## Backbone `{title}`", "", *_table(model["properties"], definitions)]
    return "\n".join(lines)


def _table(properties: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    yield "| key | default | meaning |"
    yield "|---|---|---|"
    for name, field in properties.items():
        referred = definitions.get(field.get("$ref", "").split("/")[-1], {})
        meaning = field.get("description", referred.get("description", ""))
        default = field.get("default", "")
        # Of a section the page shows its keys; that of a key without a default is said in words.
        is_shown = not isinstance(default, dict) and default not in ("", None)
        shown = f"`{default}`" if is_shown else ""
        yield f"| `{name}` | {shown} | {_escaped(meaning)} |"


def _escaped(text: str) -> str:
    """Return text for a cell of a table."""
    return text.replace("<", "&lt;").replace("|", "&#124;")


def _without_links_out(markdown: str, depth: int) -> str:
    def plain(match: re.Match) -> str:
        # A page in a folder reaches other pages by one "../" for each level.
        n_up = match.group(0).count("../")
        return match.group(1) if n_up > depth else match.group(0)

    return _LINK_OUT.sub(plain, markdown)


_MADE: dict[str, Callable[[], str]] = {
    "<!-- python reference -->": python_reference,
    "<!-- study reference -->": study_reference,
}
