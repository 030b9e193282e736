"""One registry for everything that can be plugged in."""

import sys
from pathlib import Path

import pytest

from taskgroup.errors import ConfigError
from taskgroup.registry import Registry, Source


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed distribution with two entry points, one of them a name that taskgroup has itself."""
    folder = tmp_path / "shapes_plugin-1.2.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: shapes-plugin\nVersion: 1.2\n")
    (folder / "entry_points.txt").write_text(
        "[test.shapes]\nsquare = shapes_plugin:SQUARE\ncircle = shapes_plugin:SQUARE\n"
    )
    (tmp_path / "shapes_plugin.py").write_text("SQUARE = 'a plug-in square'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "test.shapes"
    sys.modules.pop("shapes_plugin", None)


def test_builtin_objects_come_first_and_cannot_be_replaced(plugin: str):
    registry = Registry("shape", plugin, {"circle": "our circle"}, ConfigError)
    assert list(registry) == ["circle", "square"]
    assert "shapes_plugin" not in sys.modules
    assert registry.find("circle") == "our circle"
    assert registry.find("square") == "a plug-in square"
    assert registry.builtin_names == ("circle",)
    assert len(registry) == 2


def test_a_registry_says_where_an_object_comes_from(plugin: str):
    registry = Registry("shape", plugin, {"circle": "our circle"}, ConfigError)
    assert registry.source("circle") == Source("taskgroup", "")
    assert registry.source("square") == Source("shapes-plugin", "1.2")


def test_an_unknown_name_gets_the_nearest_one():
    registry = Registry("shape", "test.none", {"circle": 1}, ConfigError)
    with pytest.raises(ConfigError, match="unknown shape 'circel'; did you mean 'circle'"):
        registry.find("circel")
