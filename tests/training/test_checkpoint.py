"""Going on after a kill gives the bits of an uninterrupted run."""

import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from taskgroup.errors import ConfigError
from taskgroup.training import Checkpoint, Hook, fit, fit_epochs

from .conftest import make_job

_REPOSITORY = Path(__file__).resolve().parents[2]


def _equal(one, other):
    assert one.result.curve == other.result.curve
    assert one.result.train_curve == other.result.train_curve
    assert one.result.metrics == other.result.metrics
    assert one.result.best_epoch == other.result.best_epoch
    assert np.array_equal(one.predictions, other.predictions)
    weights = zip(
        one.network.state_dict().values(), other.network.state_dict().values(), strict=True
    )
    assert all(torch.equal(a, b) for a, b in weights)


def _interrupted(dataset, split, job, path, after):
    epochs = fit_epochs(dataset, split, job, checkpoint=Checkpoint(path, seconds=0))
    for _ in range(after):
        next(epochs)
    epochs.close()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"ema": 0.8},
        {"balance": "uncertainty"},
        {"balance": "dwa"},
        {"balance": "pcgrad", "batch_size": 5},
        {"patience": 2, "lr": 0.05},
        {"precision": "bfloat16"},
    ],
    ids=str,
)
def test_a_run_goes_on_to_the_same_bits(dataset, split, tmp_path, settings):
    job = make_job(dataset, **{"epochs": 6, **settings})
    _interrupted(dataset, split, job, tmp_path / "fit.safetensors", 3)
    _equal(
        fit(dataset, split, job, checkpoint=tmp_path / "fit.safetensors"),
        fit(dataset, split, job),
    )


def test_epochs_done_before_are_reported_again_but_not_trained_again(dataset, split, tmp_path):
    job, path = make_job(dataset, epochs=5), tmp_path / "fit.safetensors"
    _interrupted(dataset, split, job, path, 3)

    class Count(Hook):
        epochs = 0

        def on_epoch(self, context):
            self.epochs += 1

    count = Count()
    reports = list(fit_epochs(dataset, split, job, hooks=[count], checkpoint=path))
    assert [report.epoch for report in reports] == [1, 2, 3, 4, 5]
    assert count.epochs == 2


_PROGRAM = """
import sys
import torch
sys.path.insert(0, sys.argv[1])
from tests.training.conftest import make_dataset, make_job, make_split
from taskgroup.training import Checkpoint, fit_epochs
torch.set_num_threads(1)
dataset = make_dataset()
for report in fit_epochs(dataset, make_split(dataset), make_job(dataset, epochs=400),
                         checkpoint=Checkpoint(sys.argv[2], seconds=0)):
    print(report.epoch, flush=True)
"""


def test_a_process_killed_at_any_moment_goes_on_to_the_same_bits(dataset, split, tmp_path):
    path = tmp_path / "fit.safetensors"
    job = make_job(dataset, epochs=400)
    command = [sys.executable, "-c", _PROGRAM, str(_REPOSITORY), str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TASKGROUP_DEVICE": "cpu"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert int(process.stdout.readline()) == 1
        time.sleep(random.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    with safe_open(path, "pt") as file:
        done = len(json.loads(file.metadata()["taskgroup"])["state"]["reports"])
    assert 0 < done < 400
    resumed, whole = (
        fit_epochs(dataset, split, job, checkpoint=path),
        fit_epochs(dataset, split, job),
    )
    for _ in range(done + 5):
        one, other = next(resumed), next(whole)
        assert (one.epoch, one.skills, one.loss) == (other.epoch, other.skills, other.loss)


def test_a_checkpoint_is_plain_tensors_and_json(dataset, split, tmp_path):
    path = tmp_path / "deep" / "fit.safetensors"
    _interrupted(dataset, split, make_job(dataset), path, 2)
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["taskgroup"])
        assert any(name.startswith("optimizer/") for name in file.keys())  # noqa: SIM118 - not a mapping
    assert header["key"] == make_job(dataset).key
    assert [report["epoch"] for report in header["state"]["reports"]] == [1, 2]
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_reported_and_training_starts_again(
    dataset, split, tmp_path, caplog, damage
):
    path = tmp_path / "fit.safetensors"
    job = make_job(dataset)
    _interrupted(dataset, split, job, path, 2)
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    with caplog.at_level(logging.WARNING):
        found = fit(dataset, split, job, checkpoint=path)
    assert "cannot be read" in caplog.text
    _equal(found, fit(dataset, split, job))


def test_a_checkpoint_of_another_job_is_refused(dataset, split, tmp_path):
    path = tmp_path / "fit.safetensors"
    _interrupted(dataset, split, make_job(dataset), path, 2)
    with pytest.raises(ConfigError, match="must be of job"):
        fit(dataset, split, make_job(dataset, seed=1), checkpoint=path)


def test_a_worker_ignores_a_checkpoint_of_another_job_with_a_line_in_the_log(
    dataset, split, tmp_path, caplog
):
    path = tmp_path / "fit.safetensors"
    _interrupted(dataset, split, make_job(dataset), path, 2)
    other = make_job(dataset, seed=1)
    with caplog.at_level(logging.WARNING):
        found = fit(dataset, split, other, checkpoint=Checkpoint(path, strict=False))
    assert "must be of job" in caplog.text
    _equal(found, fit(dataset, split, other))


def test_a_checkpoint_that_does_not_fit_the_network_is_ignored(dataset, split, tmp_path, caplog):
    path = tmp_path / "fit.safetensors"
    job = make_job(dataset)
    checkpoint = Checkpoint(path, seconds=0, strict=False)
    checkpoint.save(job.key, {"network/weight": torch.ones(1)}, {"step": 4, "seconds": 1.0})
    with caplog.at_level(logging.WARNING):
        found = fit(dataset, split, job, checkpoint=checkpoint)
    assert "training starts again" in caplog.text
    _equal(found, fit(dataset, split, job))


def test_a_checkpoint_of_another_format_is_ignored(tmp_path, caplog, monkeypatch):
    path = tmp_path / "fit.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr("taskgroup.training.checkpoint._FORMAT", 1)
        Checkpoint(path).save("key", {"x": torch.ones(2)}, {})
    with caplog.at_level(logging.WARNING):
        assert Checkpoint(path).load("key") is None
    assert "its format is 1, not 2" in caplog.text


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_training(
    dataset, split, tmp_path, caplog
):
    (tmp_path / "file").write_text("not a folder")
    job = make_job(dataset)
    with caplog.at_level(logging.WARNING):
        found = fit(dataset, split, job, checkpoint=Checkpoint(tmp_path / "file/fit", seconds=0))
    assert "cannot be written" in caplog.text
    _equal(found, fit(dataset, split, job))


def test_checkpoints_are_written_no_more_often_than_asked(dataset, split, tmp_path):
    path = tmp_path / "fit.safetensors"
    fit(dataset, split, make_job(dataset), checkpoint=Checkpoint(path, seconds=3600))
    assert not path.exists()


def test_discarding_removes_the_file(tmp_path):
    checkpoint = Checkpoint(tmp_path / "fit.safetensors")
    checkpoint.save("key", {"x": torch.ones(2)}, {})
    tensors, state = checkpoint.load("key")
    assert torch.equal(tensors["x"], torch.ones(2))
    assert state == {}
    checkpoint.discard()
    assert checkpoint.load("key") is None
    checkpoint.discard()
