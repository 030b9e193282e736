"""The pictures of a report, each an SVG text to stand inside HTML: no files, no links, no fonts of its own."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from taskgroup.grouping import Grouping
from taskgroup.intervals import Interval
from taskgroup.tracking.record import FinalRecord, TrialRecord
from taskgroup.tracking.verdict import gain_in_a_word

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers too; groups beyond eight start again.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C8C", "#B8A800")
GREEN, RED, GREY, DARK = "#009E73", "#D55E00", "#8C8C8C", "#333"
_EDGE_COLOUR = "#9AA5B1"
_GRID_COLOUR = "#E3E7EB"

_COLOUR_OF_GAIN = {"helped": GREEN, "hurt": RED, "within seed noise": GREY}

# Width in inches of a figure that stands alone in the report's column.
_WIDTH = 6.4

# Cells of a heat map darker than this share of the scale get white numbers.
_DARK_CELL = 0.6


def target_graph_figure(graph: "nx.Graph", grouping: Grouping) -> str:
    """Draw targets coloured by the group that serves them; edges by strength, dotted where the affinity is negative."""
    figure, axes = _figure(_WIDTH, 4.4)
    position_of = _graph_layout(graph)
    for a, b, weight in graph.edges(data="weight"):
        (x_a, y_a), (x_b, y_b) = position_of[a], position_of[b]
        style = ":" if weight < 0 else "-"
        width = 0.5 + 4 * abs(weight)
        axes.plot([x_a, x_b], [y_a, y_b], style, color=_EDGE_COLOUR, linewidth=width, zorder=1)
    colour_of = group_colours(grouping)
    # Names stay readable where they cross an edge.
    halo = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
    for node, (x, y) in position_of.items():
        colour = colour_of.get(node, GREY)
        axes.scatter(x, y, s=260, color=colour, edgecolor="white", linewidth=1.5, zorder=2)
        axes.annotate(
            node,
            (x, y),
            (0, 12),
            textcoords="offset points",
            ha="center",
            fontsize=10,
            zorder=3,
            bbox=halo,
        )
    axes.axis("off")
    axes.margins(0.18)
    return svg(figure, "graph")


def heat_map_figure(names: Sequence[str], values: NDArray[np.float64]) -> str:
    """Draw an affinity matrix, rows helpers and columns those affected, on a diverging scale; without the diagonal."""
    size = 1.8 + 0.48 * len(names)
    figure, axes = _figure(size + 1.2, size)
    shown = np.array(values, dtype=np.float64)
    np.fill_diagonal(shown, np.nan)
    # The floor keeps the scale valid where every affinity is zero.
    limit = float(np.nanmax(np.abs(shown), initial=1e-9))
    image = axes.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    for i, j in np.ndindex(*shown.shape):
        value = shown[i, j]
        if np.isfinite(value):
            colour = "white" if abs(value) > _DARK_CELL * limit else DARK
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, shrink=0.7).outline.set_visible(False)
    return svg(figure, "affinity")


def gains_figure(gains: Mapping[str, Interval]) -> str:
    """Draw the gain of each target with its interval: green where joining helped, red where it hurt, else grey."""
    known = {target: gain for target, gain in gains.items() if gain.mean is not None}
    ordered = sorted(known, key=lambda target: known[target].mean)
    figure, axes = _figure(_WIDTH, 0.9 + 0.36 * len(ordered))
    for height, target in enumerate(ordered):
        gain = known[target]
        colour = _COLOUR_OF_GAIN[gain_in_a_word(gain)]
        if gain.low is not None and gain.high is not None:
            bounds = [gain.low, gain.high]
            heights = [height, height]
            axes.plot(bounds, heights, color=colour, linewidth=2.5, solid_capstyle="round")
        axes.scatter(gain.mean, height, color=colour, s=42, zorder=3)
    axes.axvline(0, color="#444", linewidth=0.8)
    axes.set_yticks(range(len(ordered)), ordered)
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.set_xlabel("skill together minus skill alone")
    _plain(axes, grid="x")
    return svg(figure, "gains")


def progress_figure(records: Sequence[TrialRecord], final: FinalRecord | None) -> str:
    """Draw the objective of each trial in the order they finished, and the best so far."""
    figure, axes = _figure(_WIDTH, 3.2)
    searched = [record for record in records if record.is_trial and record.objective is not None]
    _scatter_kind(axes, searched, "baseline", COLOURS[0], "s")
    _scatter_kind(axes, searched, "trial", GREY, "o")
    if searched:
        numbers = range(1, len(searched) + 1)
        best = np.maximum.accumulate([record.objective for record in searched])
        axes.step(numbers, best, where="post", color=DARK, linewidth=1.2, label="best so far")
    assembled = [
        record.objective
        for record in records
        if record.kind == "assembled" and record.objective is not None
    ]
    if assembled:
        axes.axhline(max(assembled), color=GREEN, linewidth=1.2, linestyle="--", label="assembled")
    if final is not None and final.reevaluation.mean is not None:
        axes.axhline(
            final.reevaluation.mean,
            color=RED,
            linewidth=1.2,
            linestyle=":",
            label="choice, trained again",
        )
    axes.set_xlabel("trials finished")
    _skill_axis(axes)
    return svg(figure, "progress")


def curves_figure(records: Sequence[TrialRecord], most: int = 6) -> str:
    """Draw mean skill by epoch of the baselines and the best trials; empty text where no curve was stored."""
    with_curve = [record for record in records if record.objective is not None and record.curve]
    ordered = sorted(with_curve, key=lambda record: (record.kind != "baseline", -record.objective))
    if not ordered:
        return ""
    figure, axes = _figure(_WIDTH, 3.2)
    for colour, record in zip(COLOURS, ordered[:most], strict=False):
        means = [_mean_skill(list(skills.values())) for skills in record.curve]
        epochs = range(1, len(means) + 1)
        style = "--" if record.kind == "baseline" else "-"
        axes.plot(epochs, means, style, color=colour, linewidth=1.6, label=record.name)
    axes.set_xlabel("epoch")
    _skill_axis(axes)
    return svg(figure, "curves")


def group_colours(grouping: Grouping) -> dict[str, str]:
    """Return the colour of each target: that of the group that serves it."""
    colours = {}
    for number, group in enumerate(grouping.groups):
        for target in group.serves:
            colours[target] = COLOURS[number % len(COLOURS)]
    return colours


def figure_grid(
    count: int, columns: int, height: float, width: float = 9.6
) -> "tuple[Figure, list[Axes]]":
    """Return a figure with ``count`` axes in rows of at most ``columns``, each ``height`` inches high."""
    from matplotlib.figure import Figure

    n_rows = -(-count // columns)
    figure = Figure(figsize=(width, n_rows * height), layout="constrained")
    figure.patch.set_alpha(0)
    axes_list = []
    for number in range(1, count + 1):
        axes = figure.add_subplot(n_rows, min(columns, count), number)
        axes.patch.set_alpha(0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=7, length=2)
        axes_list.append(axes)
    return figure, axes_list


def svg(figure: "Figure", name: str) -> str:
    """Return the figure as SVG for use inside HTML: no XML head, no metadata, no namespace addresses."""
    import matplotlib

    # The salt makes element ids, and so the whole text, the same each time.
    options = {"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}
    content = io.StringIO()
    with matplotlib.rc_context(options):
        figure.savefig(content, format="svg")
    text = content.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)


def _graph_layout(graph: "nx.Graph") -> dict[str, tuple[float, float]]:
    """Return positions: related targets near each other, those without an edge on a circle around them."""
    import networkx as nx

    # Springs pull by strength; a negative affinity relates two targets as much as a positive one.
    related = nx.Graph()
    for a, b, weight in graph.edges(data="weight"):
        related.add_edge(a, b, weight=abs(weight))
    position_of = nx.spring_layout(related, k=1.2, seed=0)
    unrelated = [node for node in graph if node not in position_of]
    return position_of | nx.circular_layout(unrelated, scale=1.3)


def _scatter_kind(
    axes: "Axes", searched: Sequence[TrialRecord], kind: str, colour: str, marker: str
) -> None:
    numbers = []
    objectives = []
    for number, record in enumerate(searched, start=1):
        if record.kind == kind:
            numbers.append(number)
            objectives.append(record.objective)
    if numbers:
        axes.scatter(numbers, objectives, color=colour, marker=marker, s=26, label=kind, zorder=3)


def _skill_axis(axes: "Axes") -> None:
    axes.set_ylabel("mean skill (validation)")
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    _plain(axes, grid="y")


def _mean_skill(values: Sequence[float | None]) -> float:
    # Skills are clipped as in the objective of a study.
    known = [max(value, -1.0) for value in values if value is not None]
    return sum(known) / len(known) if known else float("nan")


def _figure(width: float, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    return figure, axes


def _plain(axes: "Axes", grid: str) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis=grid, color=_GRID_COLOUR, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
