"""Gain of each target from learning together, with its interval."""

from typing import TYPE_CHECKING, Any

from taskgroup.plot.style import GREEN, GREY, RED, axes_or_new, plain, setting, table_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# Height of a figure for so many targets, as a share of its width: that of the axis, and that of each target.
_ASPECT_OF_AXIS = 0.16
_ASPECT_OF_TARGET = 0.056


def gains(table: Any, *, ax: "Axes | None" = None) -> "Axes":
    """Draw the gain of each target: green where its interval lies above zero, red where below, else grey.

    ``table`` has the columns target, gain, low and high (NaN where there is no interval); or it is an object with a
    method ``gains()`` that gives one, such as a Study.
    """
    frame = table_of(table, "gains")
    known = frame[frame["gain"].notna()].sort_values("gain", kind="stable")
    axes = axes_or_new(ax, aspect(len(known)))
    for height, row in enumerate(known.itertuples()):
        colour = _colour(row.low, row.high)
        axes.plot([row.low, row.high], [height, height], color=colour, solid_capstyle="round")
        axes.plot(row.gain, height, "o", color=colour, zorder=3)
    axes.axvline(0, color=setting("axes.edgecolor"), linewidth=0.8)
    axes.set_yticks(range(len(known)), known["target"])
    axes.set_ylim(-0.6, len(known) - 0.4)
    axes.set_xlabel("skill together minus skill alone")
    plain(axes, grid="x")
    return axes


def aspect(n_targets: int) -> float:
    """Return the height that so many targets need, as a share of the width of the figure."""
    return _ASPECT_OF_AXIS + _ASPECT_OF_TARGET * n_targets


def _colour(low: "float | pd.NA", high: "float | pd.NA") -> str:
    # Comparisons with NaN are false: without an interval a gain is grey.
    if low > 0:
        return GREEN
    if high < 0:
        return RED
    return GREY
