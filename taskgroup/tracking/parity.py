"""Predicted against true: the test rows of a run as a table and as pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from taskgroup.datasets import Target
from taskgroup.files import atomic_path
from taskgroup.tracking.figures import COLOURS, GREY, figure_grid, svg

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

TEST_PREDICTIONS = "test_predictions.csv"

# Pictures side by side, and the height of a row of them in inches.
_COLUMNS = 4
_HEIGHT = 2.1

# Bins of predicted probabilities: 0, 0.05, ... 1.
_PROBABILITY_BINS = np.linspace(0, 1, 21)


def write_predictions(
    run_dir: str | Path,
    targets: Mapping[str, NDArray[np.float64]],
    predicted: "pd.DataFrame",
) -> Path:
    """Write ``test_predictions.csv``: id, then of each target its true value (as its name), ``_predicted``, ``_std``.

    ``targets`` are true values [rows], NaN where missing; ``predicted`` is what ``taskgroup.export.predict`` gives.
    """
    import pandas as pd

    columns = {}
    for name, truth in targets.items():
        columns[name] = truth
        columns[f"{name}_predicted"] = predicted[name]
        columns[f"{name}_std"] = predicted[f"{name}_std"]
    path = Path(run_dir) / TEST_PREDICTIONS
    with atomic_path(path) as temporary:
        pd.DataFrame(columns, index=predicted.index).to_csv(temporary)
    return path


def parity_figure(run_dir: str | Path, targets: Mapping[str, Mapping[str, str]]) -> str:
    """Draw one picture per target: predicted against true values, or predicted probabilities by class.

    ``targets`` are those of a StudyRecord. Axes are logarithmic where the target is learnt so. "" without predictions.
    """
    import pandas as pd

    path = Path(run_dir) / TEST_PREDICTIONS
    if not path.exists():
        return ""
    frame = pd.read_csv(path)
    labelled_targets = [name for name in targets if name in frame and frame[name].notna().any()]
    figure, axes_list = figure_grid(len(labelled_targets), _COLUMNS, _HEIGHT)
    for axes, name in zip(axes_list, labelled_targets, strict=True):
        labelled = frame[frame[name].notna()]
        truth = labelled[name].to_numpy()
        predicted = labelled[f"{name}_predicted"].to_numpy()
        fields = targets[name]
        target = Target(name, fields["kind"], fields["unit"], fields["transform"])
        axes.set_title(name, fontsize=9)
        if target.kind == "classification":
            _draw_classes(axes, truth, predicted)
        else:
            _draw_values(axes, target, truth, predicted)
    return svg(figure, "parity")


def _draw_values(axes: "Axes", target: Target, truth: NDArray, predicted: NDArray) -> None:
    if target.transform == "log10":
        axes.set_xscale("log")
        axes.set_yscale("log")
    elif target.transform == "signed_log":
        axes.set_xscale("symlog", linthresh=1)
        axes.set_yscale("symlog", linthresh=1)
    ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
    axes.plot(ends, ends, color=GREY, linewidth=0.8, zorder=1)
    axes.scatter(truth, predicted, s=6, color=COLOURS[0], alpha=0.6, linewidth=0, zorder=2)
    unit = f", {target.unit}" if target.unit else ""
    axes.set_xlabel(f"true{unit}", fontsize=8)
    axes.set_ylabel("predicted", fontsize=8)


def _draw_classes(axes: "Axes", truth: NDArray, probability: NDArray) -> None:
    for label, value, colour in (("no", 0, COLOURS[1]), ("yes", 1, COLOURS[0])):
        of_class = probability[truth == value]
        axes.hist(of_class, _PROBABILITY_BINS, color=colour, alpha=0.7, label=label)
    axes.legend(frameon=False, fontsize=7)
    axes.set_xlabel("predicted probability", fontsize=8)
    axes.set_ylabel("rows", fontsize=8)
