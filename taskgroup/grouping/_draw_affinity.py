"""The heat map of an affinity."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from taskgroup.affinity import Affinity
from taskgroup.grouping._figure import new_figure, save_figure
from taskgroup.grouping.grouping import Grouping

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_NUMBERS = 16
_CELL = 0.48
_MOST_CELLS = 24


def draw_affinity(
    affinity: Affinity, path: str | Path, grouping: Grouping | None = None, alpha: float = 0.05
) -> None:
    """Save a heat map: red positive, blue negative, grey unknown; numbers with p > alpha stand in brackets.

    With a grouping its groups stand together and are framed. The suffix of path names the format (png, pdf, svg, ...).
    """
    order = (
        [name for group in grouping.groups for name in group.serves]
        if grouping
        else sorted(affinity.names)
    )
    affinity = affinity.select(order)
    size = len(order)
    cells = _CELL * min(size, _MOST_CELLS)
    figure = new_figure(2.4 + cells, 1.5 + cells)
    axes = figure.add_subplot()
    axes.set_facecolor("#D9D9D9")
    limit = _limit(affinity)
    image = axes.imshow(affinity.values, cmap="RdBu_r", vmin=-limit, vmax=limit)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    bar.set_label(affinity.measure.replace("_", " "))
    bar.outline.set_visible(False)
    font = float(np.clip(72.0 * cells / size * 0.75, 2.5, 9.0))
    axes.set_xticks(
        range(size), order, rotation=45 if size <= _MOST_CELLS else 90, ha="right", fontsize=font
    )
    for label in axes.get_xticklabels():
        label.set(rotation_mode="anchor", va="center" if size > _MOST_CELLS else "top")
    axes.set_yticks(range(size), order, fontsize=font)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if not np.array_equal(affinity.values, affinity.values.T, equal_nan=True):
        axes.set(xlabel="affected target", ylabel="helper")
    if size <= _MOST_NUMBERS:
        _write_numbers(axes, affinity, limit, alpha)
    if grouping:
        _frame(axes, [len(group.serves) for group in grouping.groups])
    save_figure(figure, path)


def _limit(affinity: Affinity) -> float:
    """Where the colours end: 1 for correlations, the largest strength off the diagonal on other scales."""
    off = np.abs(affinity.values[~np.eye(len(affinity.names), dtype=bool)])
    largest = float(np.max(off[np.isfinite(off)], initial=0.0))
    return 1.0 if 0.4 < largest <= 1.0 or largest == 0.0 else largest


def _write_numbers(axes: "Axes", affinity: Affinity, limit: float, alpha: float) -> None:
    for i, row in enumerate(affinity.values):
        for j, value in enumerate(row):
            if not np.isfinite(value) or i == j:
                continue
            text = (
                f"{value:.2g}"
                if limit > 1.0
                else f"{round(value, 2) + 0.0:.2f}".replace("0.", ".", 1)
            )
            text = text.replace("-", "\N{MINUS SIGN}")
            text = f"({text})" if affinity.p[i, j] > alpha else text
            colour = "white" if abs(value) > 0.6 * limit else "black"
            axes.text(j, i, text, ha="center", va="center", fontsize=7.5, color=colour)


def _frame(axes: "Axes", sizes: Sequence[int]) -> None:
    from matplotlib.patches import Rectangle

    start = 0
    for size in sizes:
        corner = (start - 0.5, start - 0.5)
        axes.add_patch(Rectangle(corner, size, size, fill=False, lw=1.8, ec="black", clip_on=False))
        start += size
