"""Docstrings as the documentation site shows them: examples as code, parameters as a list.

An extension of griffe, which reads the docstrings for mkdocstrings. The code keeps plain docstrings: doctests without
a heading, and parameters under NumPy's heading, one ``name: meaning`` a line.
"""

import re
from typing import Any

import griffe

_PARAMETERS = re.compile(r"^Parameters\n-+\n", re.MULTILINE)


class ReadableDocstrings(griffe.Extension):
    """Rewrite each docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one object, if it has one."""
        if obj.docstring is not None:
            obj.docstring.value = fenced_examples(listed_parameters(obj.docstring.value))


def fenced_examples(text: str) -> str:
    """Return a docstring whose doctests stand in code blocks."""
    lines = []
    is_inside = False
    for line in text.splitlines():
        if line.lstrip().startswith(">>> ") and not is_inside:
            is_inside = True
            lines.append("```pycon")
        elif is_inside and not line.strip():
            is_inside = False
            lines.append("```")
        lines.append(line)
    if is_inside:
        lines.append("```")
    return "\n".join(lines)


def listed_parameters(text: str) -> str:
    """Return a docstring whose section of parameters is one of Google's style, which is shown as a table."""
    heading = _PARAMETERS.search(text)
    if heading is None:
        return text
    before, rest = text[: heading.start()], text[heading.end() :]
    section, separator, after = rest.partition("\n\n")
    indented = "\n".join(f"    {line}" for line in section.splitlines())
    return f"{before}Args:\n{indented}{separator}{after}"
