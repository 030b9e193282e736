"""Predicted against true: the test rows of a run as a table and as pictures."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from taskgroup.datasets import Target
from taskgroup.tracking.figures import COLOURS, GREY, figure_grid, svg

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

TEST_PREDICTIONS = "test_predictions.csv"
_COLUMNS = 4  # pictures beside each other


def write_predictions(
    run_dir: str | Path, targets: Mapping[str, np.ndarray], predicted: "pd.DataFrame"
) -> Path:
    """Write ``test_predictions.csv``: id, then of each target its true value (as its name), ``_predicted``, ``_std``.

    ``targets`` are true values [rows], NaN where missing; ``predicted`` is what ``taskgroup.export.predict`` gives.
    """
    import pandas as pd

    columns = {
        f"{name}{end}": values
        for name, truth in targets.items()
        for end, values in (
            ("", truth),
            ("_predicted", predicted[name]),
            ("_std", predicted[f"{name}_std"]),
        )
    }
    path = Path(run_dir) / TEST_PREDICTIONS
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    pd.DataFrame(columns, index=predicted.index).to_csv(draft)
    os.replace(draft, path)
    return path


def parity_figure(run_dir: str | Path, targets: Mapping[str, Mapping[str, str]]) -> str:
    """A picture a target: predicted against true values, or predicted probabilities by class; "" without predictions.

    ``targets`` are those of a StudyRecord. Axes are logarithmic where the target is learnt so.
    """
    import pandas as pd

    path = Path(run_dir) / TEST_PREDICTIONS
    if not path.exists():
        return ""
    frame = pd.read_csv(path)
    shown = [name for name in targets if name in frame and frame[name].notna().any()]
    figure, axes = figure_grid(len(shown), _COLUMNS, 2.1)
    for at, name in zip(axes, shown, strict=True):
        known = frame[name].notna()
        truth, predicted = (
            frame.loc[known, name].to_numpy(),
            frame.loc[known, f"{name}_predicted"].to_numpy(),
        )
        fields = targets[name]
        spec = Target(name, fields["kind"], fields["unit"], fields["transform"])
        at.set_title(name, fontsize=9)
        (_draw_classes if spec.kind == "classification" else _draw_values)(
            at, spec, truth, predicted
        )
    return svg(figure, "parity")


def _draw_values(axes: "Axes", target: Target, truth: np.ndarray, predicted: np.ndarray) -> None:
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


def _draw_classes(axes: "Axes", target: Target, truth: np.ndarray, predicted: np.ndarray) -> None:
    bins = np.linspace(0, 1, 21)
    for value, colour in ((0, COLOURS[1]), (1, COLOURS[0])):
        axes.hist(
            predicted[truth == value], bins, color=colour, alpha=0.7, label=("no", "yes")[value]
        )
    axes.legend(frameon=False, fontsize=7)
    axes.set_xlabel("predicted probability", fontsize=8)
    axes.set_ylabel("rows", fontsize=8)
