"""What happened in a study: the search, the training of its networks, and what more rows would give."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from taskgroup.plot.style import COLOURS, GREEN, GREY, RED, axes_or_new, plain, setting, table_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# Curves that a figure shows at most; with more, colours start again.
_MOST_CURVES = 6
_MEAN = "mean"


def search(history: Any, *, ax: "Axes | None" = None) -> "Axes":
    """Draw the value of each trial in the order they finished, the best so far, and what became of it.

    ``history`` has the columns kind (baseline, trial, assembled or ``trained again``) and objective, in the order the
    trials finished; or it is an object with a method ``history()``, such as a Study.
    """
    frame = table_of(history, "history")
    axes = axes_or_new(ax, 0.5)
    trials = frame[frame["kind"].isin(["baseline", "trial"]) & frame["objective"].notna()]
    numbers = np.arange(1, len(trials) + 1)
    for kind, colour, marker in (("baseline", COLOURS[0], "s"), ("trial", GREY, "o")):
        is_kind = (trials["kind"] == kind).to_numpy()
        if is_kind.any():
            values = trials["objective"][is_kind]
            axes.plot(numbers[is_kind], values, marker, color=colour, label=kind, zorder=3)
    ink = setting("text.color")
    if len(trials):
        best = trials["objective"].cummax()
        axes.step(numbers, best, where="post", color=ink, linewidth=1.2, label="best so far")
    for kind, colour, style in (("assembled", GREEN, "--"), ("trained again", RED, ":")):
        values = frame["objective"][frame["kind"] == kind].dropna()
        if len(values):
            axes.axhline(values.max(), color=colour, linewidth=1.2, linestyle=style, label=kind)
    axes.set_xlabel("trials finished")
    _skill_axis(axes)
    return axes


def training_curves(curves: Any, *, ax: "Axes | None" = None) -> "Axes":
    """Draw validation skill by epoch of some trials; baselines are dashed.

    ``curves`` has the columns name, kind, epoch and skill; or it is an object with a method ``training_curves()``.
    """
    frame = table_of(curves, "training_curves")
    axes = axes_or_new(ax, 0.5)
    names = list(dict.fromkeys(frame["name"]))[:_MOST_CURVES]
    for colour, name in zip(COLOURS, names, strict=False):
        rows = frame[frame["name"] == name]
        style = "--" if rows["kind"].iloc[0] == "baseline" else "-"
        axes.plot(rows["epoch"], rows["skill"], style, color=colour, label=name)
    axes.set_xlabel("epoch")
    _skill_axis(axes)
    return axes


def learning_curve(points: Any, *, ax: "Axes | None" = None) -> "Axes":
    """Draw test skill of each target, and of their mean, against training rows; the band is the interval of the mean.

    ``points`` has the columns target (``mean`` among them), rows, skill, low and high; or it is an object with a method
    ``learning_curve()`` that gives one.
    """
    frame = table_of(points, "learning_curve")
    axes = axes_or_new(ax, 0.65)
    targets = [name for name in dict.fromkeys(frame["target"]) if name != _MEAN]
    for number, target in enumerate(targets):
        rows = frame[frame["target"] == target]
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(rows["rows"], rows["skill"], "o-", color=colour, linewidth=1.2, label=target)
    mean = frame[frame["target"] == _MEAN].astype({"low": float, "high": float})
    ink = setting("text.color")
    axes.plot(mean["rows"], mean["skill"], "s-", color=ink, linewidth=2, label=_MEAN)
    axes.fill_between(mean["rows"], mean["low"], mean["high"], color=ink, alpha=0.12, linewidth=0)
    axes.set_xscale("log")
    axes.set_xticks(mean["rows"], _whole(mean["rows"]))
    axes.minorticks_off()
    axes.set_xlabel("training rows")
    axes.set_ylabel("skill (test rows)")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    plain(axes, grid="y")
    return axes


def _whole(rows: "Sequence[float] | pd.Series") -> list[str]:
    return [f"{n:.0f}" for n in rows]


def _skill_axis(axes: "Axes") -> None:
    axes.set_ylabel("mean skill (validation)")
    axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    plain(axes, grid="y")
