"""The JSON schema of study files, for editors: every section, and every setting that a search space may hold."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from taskgroup.models import BACKBONES, ModelConfig
from taskgroup.spec.sections import StudyConfig
from taskgroup.spec.space import GroupingSettings
from taskgroup.spec.space_check import ABOUT, ABOUT_FIELDS
from taskgroup.training import TrainConfig

Schema = dict[str, Any]

_PARAMETER = {"$ref": "#/$defs/Parameter"}


def study_schema() -> Schema:
    """Return the JSON schema of study files, with the settings of every backbone, those of plug-ins included."""
    schema = StudyConfig.model_json_schema()
    definitions = schema["$defs"]
    space = definitions["Space"]["properties"]
    space["grouping"] |= _section(GroupingSettings, definitions)
    space["training"] |= _section(TrainConfig, definitions)
    space["model"] |= _section(ModelConfig, definitions)
    model_settings = space["model"]["properties"]
    for name, kind in BACKBONES.items():
        # Settings of a backbone may stand flat beside those of the model too.
        own = _section(kind.Settings, definitions)["properties"]
        model_settings |= {key: value for key, value in own.items() if key not in model_settings}
        definitions[f"backbone_{name}"] = _backbone(name, own)
    model_settings.pop("name", None)
    model_settings["backbone"] = _backbones(model_settings["backbone"])
    text = {"type": "string"}
    space[ABOUT] = {
        "type": "object",
        "description": "What the space is for, as taskgroup spaces shows it.",
        "properties": dict.fromkeys(ABOUT_FIELDS, text),
    }
    search = definitions["SearchConfig"]["properties"]
    by_name = {"type": "string", "description": "tpe, random, or a class of optuna.samplers"}
    search["sampler"] = {
        "description": search["sampler"].get("description", ""),
        "anyOf": [by_name, {"$ref": "#/$defs/SamplerConfig"}],
    }
    named = {"type": "string", "description": "name of a file in search_spaces/"}
    schema["properties"]["space"] = {
        "description": StudyConfig.model_fields["space"].description,
        "anyOf": [named, {"$ref": "#/$defs/Space"}],
    }
    return schema


def _section(settings: type[BaseModel], definitions: dict[str, Any]) -> Schema:
    """Return the schema of a section of a space: each setting is a value, or a parameter to be searched."""
    schema = settings.model_json_schema()
    definitions |= schema.pop("$defs", {})
    properties = {}
    for name, value in schema["properties"].items():
        properties[name] = _searchable(value)
    return {"properties": properties, "additionalProperties": False}


def _searchable(value: Mapping[str, Any]) -> Schema:
    """Return the schema of a setting that may be searched; what it means stands beside the alternatives."""
    own = dict(value)
    about = {name: own.pop(name) for name in ("description", "default", "title") if name in own}
    return {**about, "anyOf": [own, _PARAMETER]}


def _backbone(name: str, properties: Mapping[str, Schema]) -> Schema:
    named = {"const": name, "description": properties["name"]["description"]}
    return {
        "type": "object",
        "description": f"The backbone {name} with settings of its own.",
        "properties": {**properties, "name": named},
        "additionalProperties": False,
    }


def _backbones(schema: Mapping[str, Any]) -> Schema:
    """Return the schema of ``model.backbone``: a name, a mapping of name and settings, or a choice of names."""
    names = {"enum": list(BACKBONES)}
    # With the name searched, settings of all backbones that may be chosen stand side by side.
    any_of_several = {"type": "object", "properties": {"name": _PARAMETER}, "required": ["name"]}
    own = [{"$ref": f"#/$defs/backbone_{name}"} for name in BACKBONES]
    description = schema["description"]
    return {
        "description": description,
        "default": ModelConfig().backbone.name,
        "anyOf": [names, *own, any_of_several, _PARAMETER],
    }
