"""Versions of code in the keys of what is cached: another version is trained and prepared again."""

import pytest

from taskgroup.models import BACKBONES, ModelConfig, make_view, meaning
from taskgroup.models.testing import random_crystals
from taskgroup.models.views import CartesianView, PeakView
from taskgroup.registry import Source
from taskgroup.training import GroupJob, TrainConfig

SPLIT = {"by": "random", "folds": 4, "seed": 0, "test_fold": 0, "validation_fold": 1}

# Means of absolute values of what each version of a view shows of ``random_crystals(3, grid=16)``. If one of them
# changes, raise the version of that view and put the new numbers here.
SHOWN = {
    ("FractionalView", 2): {"grid": 0.7184418, "statistics": 0.695451},
    ("CartesianView", 2): {"grid": 0.7041163, "statistics": 0.695451},
    ("ScaleSpaceView", 1): {"grid": 0.3200808, "statistics": 0.695451},
    ("DistributionView", 1): {"statistics": 0.695451},
    ("PeakView", 3): {
        "peaks": 0.006753969,
        "nearness": 8.962877e-05,
        "positions": 0.02071314,
        "statistics": 0.695451,
    },
    ("AtomView", 2): {
        "peaks": 17.16667,
        "nearness": 0.1598619,
        "positions": 0.5172248,
        "statistics": 0.6950357,
    },
}


def _job(model):
    return GroupJob(("a",), model, TrainConfig(), 0, "data", "hash", SPLIT)


def test_meaning_names_versions():
    assert meaning(ModelConfig(view="cartesian")) == {
        "network": {"version": 1},
        "view": {"name": "CartesianView", "version": 2},
        "backbone": {"name": "msa3dcnn", "version": 1},
    }


def test_another_version_of_the_backbone_is_another_job(monkeypatch):
    model = ModelConfig(backbone="peaks")
    before = _job(model).key
    assert _job(model).key == before
    monkeypatch.setattr(BACKBONES["peaks"], "version", BACKBONES["peaks"].version + 1)
    changed = _job(model).key
    assert changed != before
    monkeypatch.setattr(PeakView, "version", PeakView.version + 1)
    assert _job(model).key not in (before, changed)


def test_the_version_of_a_plug_ins_distribution_is_part_of_its_meaning(monkeypatch):
    monkeypatch.setattr(type(BACKBONES), "builtin_names", ())
    monkeypatch.setattr(type(BACKBONES), "source", lambda self, name: Source("my-package", "1.2"))
    versions = meaning(ModelConfig(backbone="peaks"))
    assert versions["plug-in"] == {"name": "my-package", "version": "1.2"}


def test_the_key_of_prepared_rows_has_the_version(monkeypatch):
    view = make_view(ModelConfig(view="cartesian"), 1)
    before = view.key
    monkeypatch.setattr(CartesianView, "version", 99)
    assert view.key != before


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"view": "cartesian"},
        {"backbone": "descriptors"},
        {"backbone": "peaks"},
        {"backbone": "peaks", "atoms": "structure"},
        {"backbone": "radial3d"},
    ],
)
def test_a_version_shows_what_it_always_did(settings):
    view = make_view(ModelConfig(grid=8, **settings), 1)
    crystals = random_crystals(3, grid=16)
    rows = view(view.prepare(crystals), crystals.lattice)
    found = {name: tensor.abs().mean().item() for name, tensor in rows.items()}
    assert found == pytest.approx(SHOWN[type(view).__name__, view.version], rel=1e-4)
