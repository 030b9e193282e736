"""Atoms at the points of a grid: learnt from training rows, and read in crystals not seen before."""

import numpy as np
import pytest
import torch

from taskgroup.datasets import load_dataset
from taskgroup.models import ModelConfig
from taskgroup.models.backbones.voxel_lesson import VoxelLesson
from taskgroup.models.multitask import make_view
from taskgroup.models.registry import BACKBONES
from taskgroup.training.device_rows import prepare_rows
from taskgroup.training.lessons import learn_lesson

CONFIG = ModelConfig(backbone="radial3d", grid=8, descriptors=False)


@pytest.fixture(scope="module")
def learnt():
    """Labels and predictions for crystals that the lesson has not seen."""
    whole = load_dataset("crystals").with_targets(["density"])
    crystals = whole.subset(np.arange(0, len(whole), 4))
    view = make_view(CONFIG, 1)
    rows = prepare_rows(crystals, view, torch.device("cpu")).rows
    torch.manual_seed(0)
    (lesson,) = BACKBONES.find("radial3d")(CONFIG, view).lessons()
    seen, unseen = np.arange(0, len(crystals), 2), np.arange(1, len(crystals), 2)
    inputs, labels = lesson.examples(crystals, seen, rows[torch.from_numpy(seen)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VoxelLesson, "steps", 300)
        assert learn_lesson(lesson, inputs, labels, torch.Generator().manual_seed(0))
    deviation, mean = np.nanstd(labels, 0) + 1e-6, np.nanmean(labels, 0)
    inputs, labels = lesson.examples(crystals, unseen, rows[torch.from_numpy(unseen)])
    with torch.no_grad():
        predicted = lesson.predict(inputs).numpy()
    return (labels - mean) / deviation, predicted


def _skill(labels, predicted):
    known = ~np.isnan(labels)
    error = np.square(labels[known] - predicted[known]).mean()
    return 1 - error / labels[known].var()


def test_the_presence_of_atoms_is_read(learnt):
    labels, predicted = learnt
    assert _skill(labels[:, 0], predicted[:, 0]) > 0.8


def test_elements_are_read(learnt):
    labels, predicted = learnt
    # atomic number and electronegativity
    assert _skill(labels[:, 1], predicted[:, 1]) > 0.6
    assert _skill(labels[:, 2], predicted[:, 2]) > 0.4
