"""What epochs are worth on rows that did not choose them."""

import numpy as np
import pytest

from taskgroup.datasets import Target
from taskgroup.training.metrics import auc_score, r2_score
from taskgroup.training.validation import N_PARTS, BestEpochs

GAP, METAL = (
    Target(name="gap", kind="regression", unit="eV"),
    Target(name="metal", kind="classification"),
)


def run(specs, labels, epochs, systems) -> tuple[BestEpochs, list[dict]]:
    choice = BestEpochs(specs, labels, systems)
    return choice, [
        choice.update(number, outputs) for number, outputs in enumerate(epochs, start=1)
    ]


def test_the_best_of_many_equal_epochs_is_worth_no_more_than_any_of_them():
    """60 predictors, all as good: the best by 40 rows looks better by far, on other rows it is not."""
    draw = np.random.default_rng(0)
    raw, honest, usual = [], [], []
    for _ in range(100):
        labels = draw.normal(size=(40, 1))
        epochs = [0.5 * labels + draw.normal(0, 0.5, (40, 1)) for _ in range(60)]
        choice, skills = run((GAP,), labels, epochs, [str(row) for row in range(40)])
        raw.append(skills[choice.best - 1]["gap"])
        honest.append(float(r2_score(labels[:, 0], choice.outputs[:, 0].astype(float))))
        usual.append(np.mean([skill["gap"] for skill in skills]))
    assert np.mean(raw) > np.mean(usual) + 0.1
    assert np.mean(honest) == pytest.approx(np.mean(usual), abs=0.02)


def test_several_targets_choose_by_their_mean_and_a_part_by_the_others():
    draw = np.random.default_rng(1)
    labels = np.stack([draw.normal(size=60), draw.integers(0, 2, 60).astype(float)], axis=1)
    labels[draw.random(labels.shape) < 0.3] = np.nan
    systems = [f"system-{row // 2:02d}" for row in range(60)]
    epochs = [np.nan_to_num(labels) + draw.normal(0, 1, labels.shape) for _ in range(20)]
    choice, _ = run((GAP, METAL), labels, epochs, systems)
    part = np.arange(60) // 2 % N_PARTS
    for each in range(N_PARTS):
        values = []
        for outputs in epochs:
            gap, metal = (np.isfinite(labels[:, i]) & (part != each) for i in (0, 1))
            r2 = r2_score(labels[gap, 0], outputs[gap, 0])
            auc = auc_score(labels[metal, 1], outputs[metal, 1])
            values.append((max(r2, -1) + 2 * auc - 1) / 2)
        assert set(choice.cross_fitted[part == each]) == {1 + int(np.argmax(values))}
        np.testing.assert_array_equal(
            choice.outputs[part == each],
            epochs[int(np.argmax(values))][part == each].astype(np.float32),
        )


def test_with_nothing_to_choose_by_the_last_epoch_is_kept():
    labels = np.full((6, 1), np.nan)
    choice, skills = run(
        (GAP,), labels, [np.full((6, 1), float(i)) for i in range(4)], list("abcdef")
    )
    assert choice.best == 4
    assert skills[-1] == {"gap": None}
    np.testing.assert_array_equal(choice.outputs, 3.0)


def test_rows_of_one_system_only_are_still_told():
    labels = np.arange(8.0)[:, None]
    choice, skills = run((GAP,), labels, [labels * 0, labels, labels * 0], ["Na-Cl"] * 8)
    assert choice.best == 2
    assert skills[1] == {"gap": 1.0}
