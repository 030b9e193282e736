"""What a network's settings may say."""

import pytest
from pydantic import ValidationError

from taskgroup.models import BACKBONES, ModelConfig


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
        ({"dropout": 1.0}, "less than 1"),
        ({"colour": 3}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        ModelConfig(**settings)


def test_a_configuration_cannot_be_changed_and_can_be_a_key():
    config = ModelConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.width = 3
    assert {config: 1}[ModelConfig()] == 1


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_backbone_of_ours_can_be_named(name):
    assert ModelConfig(backbone=name).backbone == name
