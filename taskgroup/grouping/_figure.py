"""Figures without pyplot (no display, no global state), and the colours they share."""

from pathlib import Path
from typing import TYPE_CHECKING

from taskgroup.errors import GroupingError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, made for colour blindness, without its yellow, which is too pale on white
GROUP_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#332288")
ALONE = "#7F7F7F"
POSITIVE, NEGATIVE = "#B2182B", "#2166AC"
"""The ends of matplotlib's RdBu, so that heat maps and graphs speak one language."""


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of that size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: "Figure", path: str | Path) -> None:
    """Save to a file whose suffix names the format; GroupingError for an unknown suffix or a missing folder."""
    path = Path(path)
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        raise GroupingError(f"{path}: a picture must end in one of .{', .'.join(sorted(formats))}.")
    if not path.parent.is_dir():
        raise GroupingError(f"{path}: the folder {path.parent} does not exist.")
    figure.savefig(path, dpi=200, bbox_inches="tight")  # labels may reach past the layout
