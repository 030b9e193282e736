"""Predicted against true values, one picture per target."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from taskgroup.datasets import Target
from taskgroup.plot.style import COLOURS, GREY, axes_or_new, font_size, table_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Bins of predicted probabilities: 0, 0.05, ... 1.
_PROBABILITY_BINS = np.linspace(0, 1, 21)
# More points than these hide each other's error bars.
_MOST_ERROR_BARS = 400


def parity(predictions: Any, target: str, *, ax: "Axes | None" = None) -> "Axes":
    """Draw predicted against true values of one target, or the predicted probabilities of each class.

    Axes are logarithmic where the target is learnt so; lines are one standard deviation of a prediction. In the corner
    stand R2 as learnt and the mean absolute error in the unit, or the area under the ROC curve.

    Args:
        predictions: a DataFrame with the columns ``target``, ``target_predicted`` and, where there is one,
            ``target_std``, in units; or an object with a method ``predictions()``, such as a Study.
        target: name of the target; ``predictions.attrs["targets"]`` may say what it means.
    """
    frame = table_of(predictions, "predictions")
    spec = _spec(frame, target)
    labelled = frame[frame[target].notna()]
    truth = labelled[target].to_numpy(dtype=float)
    predicted = labelled[f"{target}_predicted"].to_numpy(dtype=float)
    axes = axes_or_new(ax, 0.9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(target)
    if spec.kind == "classification":
        _draw_classes(axes, truth, predicted)
    else:
        std = labelled.get(f"{target}_std")
        _draw_values(axes, spec, truth, predicted, None if std is None else std.to_numpy())
    _write_scores(axes, spec, truth, predicted)
    return axes


def parity_grid(
    predictions: Any,
    targets: Iterable[str],
    figure: "Figure",
    columns: int = 4,
) -> "list[Axes]":
    """Draw ``parity`` of several targets side by side on an empty figure; return their Axes."""
    names = list(targets)
    n_rows = -(-len(names) // columns)
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08)
    axes_list = []
    for number, name in enumerate(names, start=1):
        axes = figure.add_subplot(n_rows, min(columns, len(names)), number)
        axes_list.append(parity(predictions, name, ax=axes))
    return axes_list


def _spec(frame: "pd.DataFrame", target: str) -> Target:
    fields = frame.attrs.get("targets", {}).get(target, {})
    return Target(target, **fields)


def _draw_values(
    axes: "Axes",
    target: Target,
    truth: NDArray,
    predicted: NDArray,
    std: NDArray | None,
) -> None:
    if target.transform == "log10":
        axes.set_xscale("log")
        axes.set_yscale("log")
    elif target.transform == "signed_log":
        axes.set_xscale("symlog", linthresh=1)
        axes.set_yscale("symlog", linthresh=1)
    ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
    axes.plot(ends, ends, color=GREY, linewidth=0.8, zorder=1)
    if std is not None and len(truth) <= _MOST_ERROR_BARS:
        bars = {"color": COLOURS[0], "alpha": 0.25, "linewidth": 0.6, "zorder": 1}
        axes.vlines(truth, predicted - std, predicted + std, **bars)
    size = font_size(0.6)
    axes.scatter(truth, predicted, s=size, color=COLOURS[0], alpha=0.6, linewidth=0, zorder=2)
    unit = f", {target.unit}" if target.unit else ""
    axes.set_xlabel(f"true{unit}")
    axes.set_ylabel("predicted")


def _draw_classes(axes: "Axes", truth: NDArray, probability: NDArray) -> None:
    for label, value, colour in (("no", 0, COLOURS[1]), ("yes", 1, COLOURS[0])):
        of_class = probability[truth == value]
        axes.hist(of_class, _PROBABILITY_BINS, color=colour, alpha=0.7, label=label)
    axes.legend(frameon=False, loc="upper right")
    axes.set_xlabel("predicted probability")
    axes.set_ylabel("rows")


def _write_scores(axes: "Axes", target: Target, truth: NDArray, predicted: NDArray) -> None:
    # Imported here, since it loads torch.
    from taskgroup.training.metrics import target_metrics

    metrics = target_metrics(target, truth, predicted)
    if target.kind == "classification":
        auc = metrics["auc"]
        # Under the legend, which the counts of a good classifier leave room for.
        text, place, align = ("" if auc is None else f"AUC {auc:.3f}"), (0.5, 0.97), "center"
    else:
        r2 = metrics["r2"]
        lines = [] if r2 is None else [f"R² {r2:.3f}"]
        lines.append(f"MAE {metrics['mae']:.3g} {target.unit}".rstrip())
        text, place, align = "\n".join(lines), (0.04, 0.97), "left"
    corner = {"transform": axes.transAxes, "va": "top", "ha": align}
    axes.text(*place, text, fontsize=font_size(0.8), **corner)
