"""What a network's settings may say."""

import pytest
from pydantic import ValidationError

from taskgroup.models import BACKBONES, ModelConfig, setting_names


def test_every_field_has_a_description_and_the_defaults_are_valid():
    assert all(field.description for field in ModelConfig.model_fields.values())
    assert ModelConfig.model_validate(ModelConfig().model_dump(mode="json")) == ModelConfig()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "resnet"}, "did you mean 'resnet3d'"),
        ({"grid": 12, "patch": 8}, "patch must divide grid, found patch=8, grid=12"),
        ({"fields": ("density", "density")}, "must be distinct"),
        ({"widths": (0.5, 0.5)}, "must be distinct"),
        ({"fields": ()}, "at least 1"),
        ({"widths": (0.0,)}, "greater than 0"),
        ({"dilations": (1, 1)}, "dilations: values must be distinct"),
        ({"width": 0}, "width: .*greater than or equal to 2, found 0"),
        ({"widht": 8}, "no setting 'widht'; did you mean 'width'"),
        ({"backbone": {"name": "peaks", "stages": 2}}, "peaks has no setting 'stages'"),
        ({"backbone": 3}, "a name or a mapping of name and settings, found 3"),
        ({"backbone": {"name": ["peaks"]}}, "name must be text"),
        ({"dropout": 1.0}, "less than 1"),
        ({"colour": 3}, "no setting 'colour'; choose from"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        ModelConfig(**settings)


def test_a_configuration_cannot_be_changed_and_can_be_a_key():
    config = ModelConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.grid = 8
    with pytest.raises(ValidationError, match="frozen"):
        config.backbone.width = 3
    assert {config: 1}[ModelConfig()] == 1


@pytest.mark.parametrize("name", BACKBONES.builtin_names)
def test_every_backbone_of_ours_can_be_named(name):
    config = ModelConfig(backbone=name)
    assert config.backbone.name == name
    assert type(config.backbone) is BACKBONES[name].Settings
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config
    assert all(field.description for field in BACKBONES[name].Settings.model_fields.values())


def test_flat_and_nested_settings_of_the_backbone_are_the_same():
    flat = ModelConfig(backbone="msa3dcnn", width=4, stages=3, dilations=[1, 3], grid=8)
    nested = ModelConfig(
        grid=8, backbone={"name": "msa3dcnn", "width": 4, "stages": 3, "dilations": [1, 3]}
    )
    assert flat == nested
    assert (flat.backbone.width, flat.backbone.stages, flat.backbone.patch) == (4, 3, 2)
    assert ModelConfig(width=4) == ModelConfig(backbone={"width": 4})


def test_a_flat_setting_of_another_backbone_is_ignored():
    assert ModelConfig(backbone="peaks", stages=3) == ModelConfig(backbone="peaks")
    assert not hasattr(ModelConfig(backbone="peaks").backbone, "stages")


def test_a_patch_matters_only_where_there_is_one():
    assert ModelConfig(backbone="descriptors", grid=12, patch=8).grid == 12


def test_updated_settings_keep_what_both_backbones_have():
    config = ModelConfig(width=4, stages=3, grid=8)
    assert config.updated({"grid": 16}).backbone == config.backbone
    assert config.updated({"stages": 1}).backbone.width == 4
    assert config.updated({"backbone": {"stages": 1}}) == config.updated({"stages": 1})
    other = config.updated({"backbone": "resnet3d"})
    assert (other.backbone.name, other.backbone.stages, other.backbone.width) == ("resnet3d", 3, 4)
    assert config.updated({"backbone": "peaks"}).backbone.width == 4


def test_setting_names_are_those_of_all_backbones():
    names = setting_names()
    assert len(set(names)) == len(names)
    assert {"grid", "backbone", "width", "dilations"} <= set(names)
    assert "name" not in names
