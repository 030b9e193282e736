"""Heat maps of affinities and of measured transfer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from taskgroup.affinity import Affinity, affinity_matrix
from taskgroup.grouping import Grouping
from taskgroup.plot.style import axes_or_new, font_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# With more targets than these there is no room for numbers in the cells.
_MOST_NUMBERS = 16
# With more targets than these a new figure is wider than usual.
_MOST_IN_USUAL_WIDTH = 12
# With more targets than these the names stand upright.
_MOST_SLANTED = 24
# Cells darker than this share of the scale get white numbers.
_DARK_CELL = 0.6
# A correlation of 0.4 and more is shown on the scale from -1 to 1; weaker ones would be all pale.
_LEAST_FULL_SCALE = 0.4
_UNKNOWN = "#D9D9D9"
# Share of the width of a figure that names, margins and the bar of colours take.
_MARGIN = 0.4
_POINTS_PER_INCH = 72


def affinity(
    labels: Any,
    grouping: Grouping | None = None,
    *,
    measure: str = "spearman",
    alpha: float = 0.05,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw an affinity matrix: red positive, blue negative, grey unknown; numbers with p > alpha stand in brackets.

    Args:
        labels: an Affinity, labels (TargetTable, DataFrame) to compare by ``measure``, or an object with a method
            ``affinity()`` such as a Study.
        grouping: its groups stand together and are framed.
    """
    drawn = _affinity_of(labels, measure)
    drawn = drawn.select(_order(drawn, grouping))
    axes = axes_or_new(ax, 0.85, growth=len(drawn.names) / _MOST_IN_USUAL_WIDTH)
    limit = _limit(drawn)
    _draw_cells(axes, drawn, limit)
    if len(drawn.names) <= _MOST_NUMBERS:
        _write_numbers(axes, drawn, limit, alpha)
    if grouping:
        _frame(axes, [len(group.serves) for group in grouping.groups])
    return axes


def transfer_matrix(
    gains: Any, grouping: Grouping | None = None, *, ax: "Axes | None" = None
) -> "Axes":
    """Draw measured gains of learning together: rows are helpers, columns those who gain (red) or lose (blue).

    ``gains`` is an Affinity, or an object with a method ``transfer_matrix()`` such as a Study.
    """
    if not isinstance(gains, Affinity):
        gains = gains.transfer_matrix()
    return affinity(gains, grouping, ax=ax)


def _affinity_of(labels: Any, measure: str) -> Affinity:
    if isinstance(labels, Affinity):
        return labels
    if hasattr(labels, "affinity"):
        return labels.affinity(measure)
    return affinity_matrix(labels, measure)


def _order(drawn: Affinity, grouping: Grouping | None) -> list[str]:
    if grouping is None:
        return sorted(drawn.names)
    return [name for group in grouping.groups for name in group.serves if name in drawn.names]


def _draw_cells(axes: "Axes", drawn: Affinity, limit: float) -> None:
    size = len(drawn.names)
    axes.set_facecolor(_UNKNOWN)
    image = axes.imshow(drawn.values, cmap="RdBu_r", vmin=-limit, vmax=limit)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    bar.set_label(drawn.measure.replace("_", " "))
    bar.outline.set_visible(False)
    font = min(0.9 * font_size(), 0.75 * _cell_points(axes, size))
    is_slanted = size <= _MOST_SLANTED
    turn = 45 if is_slanted else 90
    axes.set_xticks(range(size), drawn.names, rotation=turn, ha="right", fontsize=font)
    for label in axes.get_xticklabels():
        label.set(rotation_mode="anchor", va="top" if is_slanted else "center")
    axes.set_yticks(range(size), drawn.names, fontsize=font)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if not np.array_equal(drawn.values, drawn.values.T, equal_nan=True):
        axes.set(xlabel="affected target", ylabel="helper")


def _cell_points(axes: "Axes", size: int) -> float:
    """Return about how many points a cell is wide."""
    width = axes.figure.get_figwidth() * axes.get_position().width
    return _POINTS_PER_INCH * width * (1 - _MARGIN) / size


def _limit(drawn: Affinity) -> float:
    """Return where the colours end: 1 for correlations, the largest strength off the diagonal on other scales."""
    off_diagonal = ~np.eye(len(drawn.names), dtype=bool)
    strengths = np.abs(drawn.values[off_diagonal])
    largest = float(np.max(strengths[np.isfinite(strengths)], initial=0.0))
    if largest == 0.0 or _LEAST_FULL_SCALE < largest <= 1.0:
        return 1.0
    return largest


def _write_numbers(axes: "Axes", drawn: Affinity, limit: float, alpha: float) -> None:
    font = min(0.75 * font_size(), 0.4 * _cell_points(axes, len(drawn.names)))
    for (i, j), value in np.ndenumerate(drawn.values):
        if not np.isfinite(value) or i == j:
            continue
        text = _number(value, limit)
        if drawn.p[i, j] > alpha:
            text = f"({text})"
        colour = "white" if abs(value) > _DARK_CELL * limit else "black"
        axes.text(j, i, text, ha="center", va="center", fontsize=font, color=colour)


def _number(value: float, limit: float) -> str:
    """Return a number that is short enough for a cell: ``.12``, or two digits on a scale beyond 1."""
    text = f"{value:.2g}"
    if limit <= 1.0:
        # Adding zero turns -0.0 into 0.0.
        rounded = round(value, 2) + 0.0
        text = f"{rounded:.2f}".replace("0.", ".", 1)
    return text.replace("-", "\N{MINUS SIGN}")


def _frame(axes: "Axes", sizes: Sequence[int]) -> None:
    from matplotlib.patches import Rectangle

    start = 0
    for size in sizes:
        corner = (start - 0.5, start - 0.5)
        axes.add_patch(Rectangle(corner, size, size, fill=False, lw=1.8, ec="black", clip_on=False))
        start += size
