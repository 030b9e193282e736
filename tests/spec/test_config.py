"""Study files: what is read, overridden and refused."""

from pathlib import Path

import pytest

from taskgroup.errors import ConfigError
from taskgroup.models import BACKBONES
from taskgroup.models.config import setting_names
from taskgroup.spec.config import StudyConfig, find_config, load_study, parse_duration, read_yaml
from taskgroup.spec.schema import study_schema
from taskgroup.spec.space import GroupingSettings
from taskgroup.training import TrainConfig

MINIMAL = {"name": "small", "dataset": "crystals", "space": {"grouping": {}}}


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("1h30m", 5400), (12.5, 12.5)]
)
def test_durations_are_read_in_the_units_people_write(text: str, seconds: float):
    assert parse_duration(text) == seconds


def test_a_study_is_read_from_a_file_with_its_space_beside_it(tmp_path: Path):
    (tmp_path / "studies").mkdir()
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "tiny.yaml").write_text("training: {epochs: 2}\n")
    file = tmp_path / "studies" / "mine.yaml"
    file.write_text(
        "name: mine\ndataset: crystals\nspace: tiny\nsearch: {n_trials: 5, time_limit: 2m}\n"
    )
    config = load_study(
        file, ("search.n_trials=7", "targets=[volume, density]", "space.training.epochs=4")
    )
    assert config.search.n_trials == 7
    assert config.search.time_limit == 120
    assert config.targets == ("volume", "density")
    assert config.space.training == {"epochs": 4}


def test_a_dumped_configuration_is_read_back_equal():
    config = load_study(
        MINIMAL | {"space": {"training": {"lr": {"choices": [1e-3, 2e-3]}}}, "search": {"seed": 3}}
    )
    assert load_study(config.model_dump(mode="json", exclude_unset=True)) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"serach": {}}, "serach: unknown key; did you mean 'search'"),
        ({"search": {"n_trails": 3}}, "search.n_trails: unknown key; did you mean 'n_trials'"),
        ({"search": {"n_trials": 0}}, "search.n_trials: .*found 0"),
        ({"search": {"time_limit": "soon"}}, "search.time_limit: a duration is .*'soon'"),
        ({"name": "a b"}, "name: .*found 'a b'"),
        ({"dataset": None}, "dataset: .*found None"),
        ({"split": {"validation_folds": [1, 1]}}, "distinct"),
        ({"refit": {"members": 2}}, "refit.members: .*found 2"),
        ({"space": "nowhere"}, "no file 'nowhere'"),
        (
            {"search": {"low_fidelity": {"training": {"epochs": 8}}}},
            "search: low_fidelity was removed, .* delete the key",
        ),
    ],
)
def test_faults_are_named_in_one_line(change: dict, message: str):
    with pytest.raises(ConfigError, match=message) as caught:
        load_study(MINIMAL | change)
    assert "\n" not in str(caught.value)


def test_another_space_can_be_named_and_its_keys_overridden_in_any_order():
    overrides = ("space.training.epochs=7", "space=peaks")
    for given in (overrides, overrides[::-1]):
        space = load_study(MINIMAL, given).space
        assert (space.model["backbone"], space.training["epochs"]) == ("peaks", 7)
    with pytest.raises(ConfigError, match=r"no file 'peeks'.*did you mean 'peaks'"):
        load_study(MINIMAL, ("space=peeks",))


@pytest.mark.parametrize("override", ["n_trials", "=3", "name.x=3", "search.seed=[1"])
def test_overrides_that_cannot_be_are_refused(override: str):
    with pytest.raises(ConfigError, match="--set"):
        load_study(MINIMAL, (override,))


def test_a_file_that_is_no_yaml_mapping_is_refused_with_its_line(tmp_path: Path):
    file = tmp_path / "bad.yaml"
    file.write_text("name: x\n  y: [\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml line 2: not valid YAML"):
        load_study(file)
    file.write_text("- a list\n")
    with pytest.raises(ConfigError, match=r"a mapping .* is expected, found list"):
        load_study(file)


def test_an_unknown_study_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'quickstart'"):
        load_study("quickstrat")


def test_the_schema_describes_every_section_and_every_field():
    schema = study_schema()
    assert {"name", "dataset", "space", "split", "search", "assembly", "refit", "executor"} <= set(
        schema["properties"]
    )
    undescribed = []
    for title, model in [("study", schema), *schema["$defs"].items()]:
        for name, field in model.get("properties", {}).items():
            # A section whose description is that of its model refers to the model only.
            referred = schema["$defs"].get(field.get("$ref", "").split("/")[-1], {})
            if not field.get("description", referred.get("description")):
                undescribed.append((title, name))
    assert undescribed == []


def test_the_schema_has_every_setting_of_a_search_space():
    schema = study_schema()
    sections = schema["$defs"]["Space"]["properties"]
    assert sections["grouping"]["properties"].keys() == GroupingSettings.model_fields.keys()
    assert sections["training"]["properties"].keys() == TrainConfig.model_fields.keys()
    assert set(setting_names()) <= sections["model"]["properties"].keys()
    for name, kind in BACKBONES.items():
        own = schema["$defs"][f"backbone_{name}"]["properties"]
        assert own.keys() == kind.Settings.model_fields.keys()


@pytest.mark.parametrize(
    "path",
    sorted((Path(__file__).parents[2] / "studies").glob("*.yaml")),
    ids=lambda path: path.stem,
)
def test_studies_are_valid_by_the_schema(path: Path):
    validator = pytest.importorskip("jsonschema").Draft202012Validator(study_schema())
    content = read_yaml(path)
    assert [error.message for error in validator.iter_errors(content)] == []
    space = read_yaml(find_config(content["space"], "search_spaces"))
    assert [error.message for error in validator.iter_errors(content | {"space": space})] == []
    assert list(validator.iter_errors(content | {"space": {"model": {"widht": 8}}}))


@pytest.mark.parametrize("prefix", ["journal:", "sqlite:///"])
def test_a_relative_storage_path_is_made_absolute_where_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str
):
    monkeypatch.chdir(tmp_path)
    config = load_study(MINIMAL | {"storage": f"{prefix}folder/search.x"})
    assert config.storage == f"{prefix}{tmp_path}/folder/search.x"
    monkeypatch.chdir("/")
    assert load_study(config.model_dump(mode="json", exclude_unset=True)) == config


@pytest.mark.parametrize("storage", ["postgresql://user@host/db", "env:NAME", "sqlite:////x/y.db"])
def test_other_storages_stay_as_they_are_given(storage: str):
    assert load_study(MINIMAL | {"storage": storage}).storage == storage


def test_a_study_in_python_takes_the_name_of_a_space():
    config = StudyConfig(name="mine", dataset="crystals", space="quickstart")
    assert config.space == load_study("quickstart").space
    with pytest.raises(ValueError, match="did you mean 'quickstart'"):
        StudyConfig(name="mine", dataset="crystals", space="quickstat")
