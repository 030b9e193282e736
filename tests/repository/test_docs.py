"""The documentation site: it builds without a warning, and what its pages show runs.

Of a page's code blocks ``python`` is executed, block after block in one namespace, and so are the lines of ``console``
that begin with ``$``. Commands in ``bash`` take too long or need files of the reader: they must parse.
"""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import click
import pytest

from taskgroup.cli import cli, main
from taskgroup.spec.safe_yaml import parse_yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Of a study that an earlier version ran; it stands for the reader's own.
STORED_RUN = ROOT / "tests" / "data" / "0.2.0" / "run"

PAGES = [
    DOCS / f"{name}.md"
    for name in ("quickstart", "tutorial", "grouping_only", "poor_property", "concepts")
] + sorted((DOCS / "howto").glob("*.md"))

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What modules of one operating system are called: nothing may need them on import.
_OF_ONE_SYSTEM = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "msvcrt", "winreg"}


def blocks(page: Path) -> list[tuple[str, str]]:
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(page: Path) -> list[str]:
    """Return the lines of ``bash`` blocks that call taskgroup, without their comments."""
    lines = []
    for language, text in blocks(page):
        if language == "bash":
            lines += [line for line in text.splitlines() if line.startswith("taskgroup ")]
    return lines


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TASKGROUP_HOME", raising=False)
    shutil.copytree(STORED_RUN, tmp_path / "runs" / "quickstart")
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_shows_runs(page: Path, workplace: Path, capsys) -> None:
    namespace: dict[str, object] = {}
    for language, text in blocks(page):
        if language == "python":
            exec(compile(text, str(page), "exec"), namespace)
        elif language == "console":
            for line in text.splitlines():
                if line.startswith("$ taskgroup "):
                    run_command(line.removeprefix("$ taskgroup "))
        elif language == "yaml":
            parse_yaml(text, str(page))
    capsys.readouterr()


def run_command(line: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(shlex.split(line))
    assert end.value.code == 0, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_of_a_page_parse(page: Path, workplace: Path) -> None:
    for name in ("calcs", "mp"):
        (workplace / name).mkdir()
    for name in ("structures.jsonl.gz", "properties.csv", "table.csv", "targets.yaml"):
        (workplace / name).touch()
    for line in commands(page):
        words = shlex.split(line, comments=True)[1:]
        group, context = cli, click.Context(cli)
        while True:
            command = group.get_command(context, words[0])
            assert command is not None, line
            words = words[1:]
            if not isinstance(command, click.Group):
                break
            group = command
        command.make_context(command.name, words).close()


def test_pages_have_code_that_runs() -> None:
    languages = [language for page in PAGES for language, _ in blocks(page)]
    assert languages.count("python") >= 10
    assert languages.count("console") >= 6


@pytest.mark.skipif(
    shutil.which("mkdocs", path=str(Path(sys.executable).parent)) is None,
    reason="mkdocs is not installed: pip install 'taskgroup-materials[docs]'",
)
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    python = (tmp_path / "reference" / "python" / "index.html").read_text(encoding="utf-8")
    assert "affinity_matrix" in python
    verbs = (tmp_path / "reference" / "cli" / "index.html").read_text(encoding="utf-8")
    for name in cli.list_commands(click.Context(cli)):
        assert f"taskgroup {name}" in verbs
    assert "Sentinel" not in verbs
    keys = (tmp_path / "reference" / "study_files" / "index.html").read_text(encoding="utf-8")
    assert "dilations" in keys
    assert "runs/&lt;name&gt;" in keys
    # A page asks nobody for anything but the site itself.
    home = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "fonts.googleapis.com" not in home


def test_docstrings_are_shown_with_examples_as_code_and_parameters_as_a_list() -> None:
    pytest.importorskip("griffe")
    path = ROOT / "tools" / "docs_examples.py"
    tool = SourceFileLoader("docs_examples", str(path)).load_module()
    text = "Sum.\n\n>>> 1 + 1\n2\n\nParameters\n----------\na: first.\n\nMore."
    shown = tool.fenced_examples(tool.listed_parameters(text))
    expected = "Sum.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nArgs:\n    a: first.\n\nMore."
    assert shown == expected


def test_every_page_stands_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    missing = []
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS).as_posix()
        if not re.search(rf"[ :]{re.escape(name)}$", navigation, re.MULTILINE):
            missing.append(name)
    assert missing == []


def test_nothing_that_exists_on_one_system_only_is_imported_with_the_package() -> None:
    found = []
    for path in (ROOT / "taskgroup").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if _OF_ONE_SYSTEM & set(names):
                found.append((str(path), names))
    assert found == []
