"""The search spaces that come with the package, and the verb that lists them."""

import json

import pytest
from click.testing import CliRunner

from taskgroup.cli import cli
from taskgroup.errors import ConfigError
from taskgroup.spec.config import load_study
from taskgroup.spec.space_check import ABOUT_FIELDS, load_space
from taskgroup.spec.spaces import NamedSpace, named_spaces

SPACES = {space.name: space for space in named_spaces() if space.about}


def test_the_spaces_of_the_manual_are_there():
    assert {"distribution", "few_rows", "peaks", "quickstart"} <= set(SPACES)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_every_space_says_what_it_is_for(space: NamedSpace):
    assert set(space.about) == set(ABOUT_FIELDS)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_every_space_searches_both_halves_and_is_discrete(space: NamedSpace):
    config = load_study("quickstart", (f"space={space.name}",))
    parameters = config.space.parameters()
    assert any(name.startswith("grouping.") for name in parameters)
    assert any(name.startswith("training.") for name in parameters)
    assert config.space.learns
    assert space.recipes >= 4


def test_spaces_are_listed_as_table_and_json():
    table = CliRunner().invoke(cli, ["spaces"])
    assert table.exit_code == 0
    assert "distribution" in table.output
    listed = json.loads(CliRunner().invoke(cli, ["spaces", "--json"]).output)
    assert {space["name"] for space in listed} >= set(SPACES)


@pytest.mark.parametrize(
    ("about", "told"),
    [({"row": "5"}, "did you mean 'rows'"), ("words", "a mapping of texts is expected")],
)
def test_a_recommendation_that_cannot_be_shown_is_refused(about: object, told: str):
    with pytest.raises(ConfigError, match=told):
        load_space({"about": about})


def test_a_space_without_clustering_is_refused():
    with pytest.raises(ConfigError, match="must leave 'cluster'"):
        load_space({"grouping": {"proposal": "expected"}})
