"""What stands beside the code is true: links lead somewhere, commands exist, examples run, the Dockerfile is sound."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from taskgroup.cli import cli
from taskgroup.spec import load_study
from taskgroup.spec.config import read_yaml
from taskgroup.spec.space_check import load_space

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "tools/dft/README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")
COMMANDS = sorted(
    set(re.findall(r"^\s{4}(taskgroup [a-z].*?)(?:\s{2,}#.*)?$", README, re.MULTILINE))
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_pages_lead_somewhere(page: Path):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not link.startswith(("http", "mailto")):
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_readme_are_ones_that_exist(command: str):
    words = shlex.split(command)[1:]
    group, name = cli, words[0]
    context = click.Context(cli)
    found = cli.get_command(context, name)
    assert found is not None, name
    if isinstance(found, click.Group):
        group, name, words = found, words[1], words[1:]
        found = group.get_command(context, name)
    options = {option for parameter in found.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_the_first_python_example_of_the_readme_runs():
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize(
    "path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_study_is_valid_and_named_like_its_file(path: Path):
    assert load_study(path).name == path.stem


@pytest.mark.parametrize(
    "path", sorted((ROOT / "search_spaces").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_search_space_is_valid(path: Path):
    assert load_space(read_yaml(path)).baseline()["model"]


def test_the_dockerfile_passes_hadolint():
    subprocess.run(
        [Path(sys.executable).with_name("hadolint"), str(ROOT / "docker" / "Dockerfile")],
        check=True,
    )


def test_the_make_targets_that_pages_name_exist():
    targets = set(
        re.findall(
            r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
        )
    )
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"`make ([a-z-]+)`", text)) | set(
        re.findall(r"^\s{4}make ([a-z-]+)", text, re.MULTILINE)
    )
    assert {"quickstart", "test"} <= named <= targets
