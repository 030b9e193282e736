"""What all figures share: colours, column widths and fonts of journals, new Axes, and saving."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskgroup.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers too, without their yellow, which is too pale on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#332288", "#8C6D31")
GREEN, RED, GREY = "#009E73", "#D55E00", "#8C8C8C"
ALONE = "#7F7F7F"
# The ends of matplotlib's RdBu, so that heat maps and graphs speak one language.
POSITIVE, NEGATIVE = "#B2182B", "#2166AC"
# Text, and lines behind the data. Reports on a dark ground replace both.
INK, LINE = "#1f2933", "#e3e7eb"

_MILLIMETRES = 25.4
# Resolution of PNG: what journals ask of figures that mix lines and text.
_DPI = 300


@dataclass(frozen=True)
class Paper:
    """Figures of a journal: width of one column and of two, mm, and the font size, pt."""

    single: float
    double: float
    font_size: float

    def width(self, columns: str) -> float:
        """Return the width of ``single`` or ``double`` columns, inches."""
        return getattr(self, columns) / _MILLIMETRES


PAPERS = {
    "aps": Paper(86, 178, 8),
    "acs": Paper(84.7, 177.8, 7),
    "rsc": Paper(83, 171, 7),
    "elsevier": Paper(90, 190, 7),
    "nature": Paper(89, 183, 7),
}
"""Journals by publisher, as their guides for authors ask for."""


def find_paper(name: str) -> Paper:
    """Return the figures of a journal. Raises ConfigError, with the nearest name: it is not known."""
    if name not in PAPERS:
        raise ConfigError(f"paper: unknown style '{name}'; {did_you_mean(name, PAPERS)}")
    return PAPERS[name]


def text_style(font_size: float) -> dict[str, Any]:
    """Return settings of matplotlib for one font size: line widths and ticks go with it."""
    unit = font_size / 10
    return {
        "font.family": "sans-serif",
        "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
        "font.size": font_size,
        "axes.titlesize": font_size,
        "axes.labelsize": font_size,
        "xtick.labelsize": 0.9 * font_size,
        "ytick.labelsize": 0.9 * font_size,
        "legend.fontsize": 0.85 * font_size,
        "axes.linewidth": 0.8 * unit,
        "grid.linewidth": 0.8 * unit,
        "lines.linewidth": 1.6 * unit,
        "lines.markersize": 5 * unit,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "grid.color": LINE,
        # Text stays text: it can be searched, and an editor can change it.
        "pdf.fonttype": 42,
        "svg.fonttype": "none",
        "savefig.dpi": _DPI,
    }


@contextlib.contextmanager
def paper(name: str = "aps", columns: str = "single") -> Iterator[Paper]:
    """Give new figures the width and fonts of a journal while the block runs.

    ``name`` is one of ``PAPERS``, ``columns`` is ``single`` or ``double``. Raises ConfigError: another name.
    """
    import matplotlib

    style = find_paper(name)
    width = style.width(columns)
    settings = text_style(style.font_size) | {"figure.figsize": (width, 0.75 * width)}
    with matplotlib.rc_context(settings):
        yield style


def axes_or_new(ax: "Axes | None", aspect: float = 0.7, growth: float = 1.0) -> "Axes":
    """Return the Axes given, or those of a new figure whose height is ``aspect`` of its width.

    It has the usual width, or ``growth`` (at most 2) times that where this is more.
    """
    if ax is not None:
        return ax
    # With pyplot, so that notebooks show the figure.
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=_size(aspect, growth), layout="constrained")
    return figure.add_subplot()


def hidden_axes(aspect: float = 0.7, growth: float = 1.0) -> "Axes":
    """Return Axes like those of ``axes_or_new``, of a figure that is only ever saved: no window, no global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=_size(aspect, growth), layout="constrained").add_subplot()


def _size(aspect: float, growth: float) -> tuple[float, float]:
    width = setting("figure.figsize")[0] * min(2.0, max(1.0, growth))
    return width, aspect * width


def font_size(share: float = 1.0) -> float:
    """Return a share of the font size in force, pt: text inside a figure goes with that around it."""
    return share * setting("font.size")


def setting(name: str) -> Any:
    """Return a setting of matplotlib that is in force, such as a colour of the style."""
    import matplotlib

    return matplotlib.rcParams[name]


def table_of(source: Any, method: str) -> "pd.DataFrame":
    """Return a data frame as it is; of another object, such as a Study, what its method gives."""
    if hasattr(source, "itertuples"):
        return source
    return getattr(source, method)()


def plain(axes: "Axes", grid: str) -> None:
    """Leave only the lower axis, and lines behind the data across ``grid`` (x or y)."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis=grid)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)


def save(figure: "Figure | Axes", path: str | Path) -> None:
    """Save a figure, or that of Axes, to a file whose ending names the format: pdf, svg, png, ...

    Raises ConfigError: an unknown ending, or a folder that does not exist.
    """
    path = Path(path)
    figure = figure.get_figure(root=True) or figure
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        raise ConfigError(f"{path}: a picture must end in one of .{', .'.join(sorted(formats))}.")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: the folder {path.parent} does not exist.")
    # Labels may reach past the layout.
    figure.savefig(path, bbox_inches="tight")
