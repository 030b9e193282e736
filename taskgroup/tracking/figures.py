"""The figures of a run written: into the report as SVG, and into a folder in a journal's style."""

import io
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from taskgroup.errors import ConfigError, did_you_mean
from taskgroup.files import atomic_path, write_frame
from taskgroup.plot.style import COLOURS, INK, LINE, NEGATIVE, POSITIVE, text_style
from taskgroup.plot.style import paper as paper_style
from taskgroup.tracking.figure_list import RunFigure, run_figures

FORMATS = ("pdf", "svg", "png")

# Figures stand in half of the report's column or across it. A browser shows 96 pixels per inch.
_REPORT_WIDTHS = {"single": 5.4, "double": 11.0}
_REPORT_FONT = 10
# Colours that are lighter on a dark page, by their names in report.css.
_PAGE_COLOURS = {
    INK: "ink",
    LINE: "line",
    COLOURS[0]: "blue",
    COLOURS[6]: "violet",
    POSITIVE: "positive",
    NEGATIVE: "negative",
}


def save_figures(
    run_dir: str | Path,
    folder: str | Path,
    paper: str = "aps",
    formats: Sequence[str] = FORMATS,
) -> list[Path]:
    """Write every figure of a run in a journal's style, and the numbers in it as CSV beside it; return the files.

    ``paper`` is one of ``taskgroup.plot.PAPERS``. Raises ConfigError: an unknown style or format.
    """
    for form in formats:
        if form not in FORMATS:
            raise ConfigError(f"figures: unknown format '{form}'; {did_you_mean(form, FORMATS)}")
    written = []
    for figure in run_figures(run_dir):
        path = Path(folder) / f"{figure.name}.csv"
        write_frame(path, figure.data)
        written.append(path)
        with paper_style(paper, figure.columns) as style:
            drawn = figure.figure(style.width(figure.columns))
            for form in formats:
                path = Path(folder) / f"{figure.name}.{form}"
                with atomic_path(path) as temporary:
                    drawn.savefig(temporary, format=form)
                written.append(path)
    return written


def report_svg(figure: RunFigure) -> str:
    """Return a figure as SVG for use inside the report: it follows the colours of the page, and has a text for readers.

    No XML head, no metadata, no namespace addresses.
    """
    import matplotlib

    # The salt makes element ids, and so the whole text, the same each time.
    options = text_style(_REPORT_FONT) | {"svg.hashsalt": figure.name}
    content = io.StringIO()
    with matplotlib.rc_context(options):
        drawn = figure.figure(_REPORT_WIDTHS[figure.columns])
        drawn.patch.set_alpha(0)
        for axes in drawn.axes:
            # The ground of a heat map means "unknown"; all others let the page show through.
            axes.patch.set_alpha(1 if axes.get_images() else 0)
        drawn.savefig(content, format="svg")
    text = content.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    for colour, variable in _PAGE_COLOURS.items():
        text = text.replace(colour.lower(), f"var(--{variable})")
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(figure.alt)}"', 1)
