"""Figures of what a study gave: they take tables, draw every number in them, and go on the Axes given."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

import taskgroup as tg
from taskgroup.errors import ConfigError
from taskgroup.plot.style import GREEN, GREY, RED


@pytest.fixture
def axes():
    return Figure(layout="constrained").add_subplot()


@pytest.fixture(autouse=True)
def closed():
    """Figures that pyplot keeps are closed after each test."""
    yield
    pyplot.close("all")


GAINS = pd.DataFrame(
    {
        "target": ["a", "b", "c", "d"],
        "gain": [0.1, -0.2, 0.01, 0.3],
        "low": [0.05, -0.3, -0.1, np.nan],
        "high": [0.2, -0.1, 0.1, np.nan],
    }
)


def test_gains_are_coloured_by_their_intervals_worst_at_the_bottom(axes):
    assert tg.plot.gains(GAINS, ax=axes) is axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "c", "a", "d"]
    points = [line for line in axes.lines if line.get_marker() == "o"]
    assert [point.get_color() for point in points] == [RED, GREY, GREEN, GREY]
    assert [point.get_xdata()[0] for point in points] == [-0.2, 0.01, 0.1, 0.3]


def test_an_object_gives_its_own_table(axes):
    class Study:
        def gains(self) -> pd.DataFrame:
            return GAINS

    tg.plot.gains(Study(), ax=axes)
    assert len(axes.get_yticks()) == 4


def test_parity_has_a_point_per_labelled_row_on_the_axes_of_the_transform(axes):
    frame = pd.DataFrame({"modulus": [1.0, np.nan, 100.0], "modulus_predicted": [2.0, 3.0, 50.0]})
    frame.attrs["targets"] = {"modulus": {"unit": "GPa", "transform": "log10"}}
    tg.plot.parity(frame, "modulus", ax=axes)
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "true, GPa"
    assert len(axes.collections[0].get_offsets()) == 2
    # R2 in log10: 1 - 2 * 0.301^2 / 2; the mean absolute error in the unit: (1 + 50) / 2.
    assert [text.get_text() for text in axes.texts] == ["R² 0.909\nMAE 25.5 GPa"]


def test_classes_are_drawn_as_histograms_of_probabilities(axes):
    frame = pd.DataFrame({"metal": [0.0, 1.0, 1.0], "metal_predicted": [0.1, 0.8, 0.9]})
    frame.attrs["targets"] = {"metal": {"kind": "classification"}}
    tg.plot.parity(frame, "metal", ax=axes)
    assert sum(bar.get_height() for bar in axes.patches) == 3
    assert axes.texts[0].get_text() == "AUC 1.000"


def test_the_search_shows_the_best_so_far_and_what_was_assembled(axes):
    history = pd.DataFrame(
        {
            "kind": ["baseline", "trial", "trial", "trial", "assembled", "trained again"],
            "objective": [0.4, 0.6, np.nan, 0.5, 0.7, 0.65],
        }
    )
    tg.plot.search(history, ax=axes)
    lines = {line.get_label(): line for line in axes.lines}
    assert set(lines) == {"baseline", "trial", "best so far", "assembled", "trained again"}
    assert lines["best so far"].get_ydata().tolist() == [0.4, 0.6, 0.6]
    assert lines["trial"].get_xdata().tolist() == [2, 3]
    assert lines["assembled"].get_ydata()[0] == 0.7


def test_learning_curves_have_a_line_per_target_and_the_mean_with_its_band(axes):
    rows = [("a", 10, 0.2), ("mean", 10, 0.2), ("a", 20, 0.4), ("mean", 20, 0.4)]
    points = pd.DataFrame(rows, columns=["target", "rows", "skill"])
    points["low"], points["high"] = points["skill"] - 0.1, points["skill"] + 0.1
    tg.plot.learning_curve(points, ax=axes)
    assert [line.get_label() for line in axes.lines] == ["a", "mean"]
    assert len(axes.collections) == 1


def test_a_journal_decides_the_width_and_fonts_of_new_figures():
    with tg.plot.paper("nature"):
        drawn = tg.plot.gains(GAINS)
        assert drawn.figure.get_figwidth() == pytest.approx(89 / 25.4)
        assert drawn.xaxis.label.get_fontsize() == 7
    with pytest.raises(ConfigError, match="did you mean 'elsevier'"), tg.plot.paper("elsevir"):
        pass
