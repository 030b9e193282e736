"""Jobs and results: keys, canonical form, JSON."""

import json
import math
from dataclasses import replace

import pytest
from pydantic import ValidationError

from taskgroup.errors import ConfigError
from taskgroup.models import ModelConfig
from taskgroup.training import GroupJob, GroupResult, TrainConfig

from .conftest import MODEL, SPLIT


def _job(**changes):
    job = GroupJob(
        ("b", "a"), ModelConfig(**MODEL), TrainConfig(epochs=5), 3, "crystals", "f" * 64, SPLIT
    )
    return replace(job, **changes)


def _result():
    return GroupResult(
        job=_job(),
        metrics={"a": {"skill": 0.5, "n": 10, "r2": 0.5}, "b": {"skill": None, "n": 0, "r2": None}},
        curve=({"a": 0.1, "b": None}, {"a": 0.5, "b": None}),
        seconds=1.5,
        best_epoch=2,
        epochs_run=2,
        n_parameters=123,
        train_curve=(1.0, math.nan),
    )


def test_the_order_of_targets_does_not_matter():
    assert _job().targets == ("a", "b")
    assert _job(targets=("a", "b")).key == _job().key


def test_a_moved_dataset_is_the_same_job():
    assert _job(dataset="/elsewhere/store").key == _job().key


@pytest.mark.parametrize(
    "change",
    [
        {"targets": ("a",)},
        {"model": ModelConfig(**MODEL | {"width": 8})},
        {"training": TrainConfig(epochs=6)},
        {"seed": 4},
        {"dataset_hash": "0" * 64},
        *({"split": SPLIT | {name: "formula" if name == "by" else 9}} for name in SPLIT),
    ],
    ids=str,
)
def test_everything_else_makes_another_key(change):
    assert _job(**change).key != _job().key


def test_the_key_is_the_same_in_every_process_and_version():
    """A changed key would train everything in every existing run folder again."""
    content = _job().to_dict() | {"model": {}, "training": {}}
    del content["dataset"]
    text = (
        '{"dataset_hash":"'
        + "f" * 64
        + '","model":{},"seed":3,"split":{"by":"random","folds":4,"seed":0,'
        '"test_fold":0,"validation_fold":1},"targets":["a","b"],"training":{}}'
    )
    assert json.dumps(content, sort_keys=True, separators=(",", ":")) == text


def test_a_job_survives_json():
    job = _job()
    again = GroupJob.from_dict(json.loads(json.dumps(job.to_dict())))
    assert again == job
    assert again.key == job.key


def test_a_result_survives_json_with_null_for_what_is_not_finite():
    result = _result()
    text = json.dumps(result.to_dict(), allow_nan=False)
    again = GroupResult.from_dict(json.loads(text))
    assert again.to_dict() == result.to_dict()
    assert again == replace(result, train_curve=(1.0, None))
    assert again.skills == {"a": 0.5, "b": None}
    assert json.loads(text)["key"] == result.key == again.key


def test_a_line_of_an_earlier_version_with_fields_that_are_gone_is_still_read():
    result = _result()
    earlier = result.to_dict() | {"weights": None, "predictions": "predictions/x.npy"}
    assert GroupResult.from_dict(earlier).to_dict() == result.to_dict()


@pytest.mark.parametrize("targets", [(), ("a", "a")])
def test_targets_must_be_given_once(targets):
    with pytest.raises(ConfigError, match="targets must be given and distinct"):
        _job(targets=targets)


@pytest.mark.parametrize("split", [{}, SPLIT | {"fold": 3}])
def test_a_split_with_other_keys_is_refused(split):
    with pytest.raises(ConfigError, match="split must have the keys"):
        _job(split=split)


@pytest.mark.parametrize(
    "settings",
    [{"epochs": 0}, {"lr": -1}, {"batch_size": 1}, {"ema": 1.0}, {"loss": "l1"}, {"epoch": 3}],
)
def test_settings_out_of_bounds_or_unknown_are_refused(settings):
    with pytest.raises(ValidationError):
        TrainConfig(**settings)


def test_an_unknown_balancer_is_refused_with_the_nearest():
    with pytest.raises(ValidationError, match="did you mean 'uncertainty'"):
        TrainConfig(balance="uncertanty")
