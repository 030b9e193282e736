"""The pictures of a report, each an SVG text to stand inside HTML: no files, no links, no fonts of its own."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from taskgroup.grouping import Grouping
from taskgroup.tracking.record import FinalRecord, Interval, TrialRecord

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers too; groups beyond eight start again.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C8C", "#B8A800")
GREEN, RED, GREY = "#009E73", "#D55E00", "#8C8C8C"


def target_graph_figure(graph: "nx.Graph", grouping: Grouping) -> str:
    """Targets coloured by the group that serves them; edges by strength, dashed where the affinity is negative."""
    import networkx as nx

    figure, axes = _figure(6.4, 4.4)
    strengths = {(a, b): abs(weight) for a, b, weight in graph.edges(data="weight")}
    layout = nx.spring_layout(
        nx.Graph([(a, b, {"weight": w}) for (a, b), w in strengths.items()]), k=1.2, seed=0
    )
    layout |= nx.circular_layout([node for node in graph if node not in layout], scale=1.3)
    for (a, b), strength in strengths.items():
        style = ":" if graph[a][b]["weight"] < 0 else "-"
        (xa, ya), (xb, yb) = layout[a], layout[b]
        axes.plot(
            [xa, xb], [ya, yb], style, color="#9AA5B1", linewidth=0.5 + 4 * strength, zorder=1
        )
    colour_of = group_colours(grouping)
    for node, (x, y) in layout.items():
        axes.scatter(
            x, y, s=260, color=colour_of.get(node, GREY), edgecolor="white", linewidth=1.5, zorder=2
        )
        halo = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
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


def heat_map_figure(names: Sequence[str], values: np.ndarray) -> str:
    """An affinity matrix, rows helpers and columns those affected, on a diverging scale; the diagonal is left out."""
    size = 1.8 + 0.48 * len(names)
    figure, axes = _figure(size + 1.2, size)
    values = np.where(np.eye(len(names), dtype=bool), np.nan, np.array(values, dtype=np.float64))
    limit = float(np.nanmax(np.abs(values), initial=1e-9))
    image = axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    for i, j in np.ndindex(*values.shape):
        if np.isfinite(values[i, j]):
            colour = "white" if abs(values[i, j]) > 0.6 * limit else "#333"
            axes.text(
                j, i, f"{values[i, j]:.2f}", ha="center", va="center", fontsize=7, color=colour
            )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, shrink=0.7).outline.set_visible(False)
    return svg(figure, "affinity")


def gains_figure(gains: Mapping[str, Interval]) -> str:
    """What joining gave each target, with its interval: green where it helped, red where it hurt, grey in between."""
    known = {target: gain for target, gain in gains.items() if gain.mean is not None}
    ordered = sorted(known, key=lambda target: known[target].mean)
    figure, axes = _figure(6.4, 0.9 + 0.36 * len(ordered))
    for height, target in enumerate(ordered):
        gain = known[target]
        colour = {"helped": GREEN, "hurt": RED}.get(verdict(gain), GREY)
        if gain.low is not None and gain.high is not None:
            axes.plot(
                [gain.low, gain.high],
                [height, height],
                color=colour,
                linewidth=2.5,
                solid_capstyle="round",
            )
        axes.scatter(gain.mean, height, color=colour, s=42, zorder=3)
    axes.axvline(0, color="#444", linewidth=0.8)
    axes.set_yticks(range(len(ordered)), ordered)
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.set_xlabel("skill together minus skill alone")
    _plain(axes, grid="x")
    return svg(figure, "gains")


def progress_figure(records: Sequence[TrialRecord], final: FinalRecord | None) -> str:
    """The objective of each trial in the order they finished, and the best so far."""
    figure, axes = _figure(6.4, 3.2)
    scored = [
        record for record in records if record.objective is not None and record.kind != "refit"
    ]
    searched = [record for record in scored if record.kind in ("baseline", "trial")]
    styles = {"baseline": ("#0072B2", "s", "baseline"), "trial": (GREY, "o", "trial")}
    for kind, (colour, marker, label) in styles.items():
        points = [
            (i, record.objective)
            for i, record in enumerate(searched, start=1)
            if record.kind == kind
        ]
        if points:
            axes.scatter(
                *zip(*points, strict=True), color=colour, marker=marker, s=26, label=label, zorder=3
            )
    if searched:
        best = np.maximum.accumulate([record.objective for record in searched])
        axes.step(
            range(1, len(searched) + 1),
            best,
            where="post",
            color="#333",
            linewidth=1.2,
            label="best so far",
        )
    assembled = [record.objective for record in scored if record.kind == "assembled"]
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
    axes.set_ylabel("mean skill (validation)")
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    _plain(axes, grid="y")
    return svg(figure, "progress")


def curves_figure(records: Sequence[TrialRecord], most: int = 6) -> str:
    """Mean skill by epoch of the best trials and of the baselines; empty text where no curve was kept."""
    scored = [record for record in records if record.objective is not None and record.curve]
    ordered = sorted(scored, key=lambda record: (record.kind != "baseline", -record.objective))[
        :most
    ]
    if not ordered:
        return ""
    figure, axes = _figure(6.4, 3.2)
    for colour, record in zip(COLOURS, ordered, strict=False):
        means = [_mean(list(epoch.values())) for epoch in record.curve]
        style = "--" if record.kind == "baseline" else "-"
        axes.plot(
            range(1, len(means) + 1), means, style, color=colour, linewidth=1.6, label=record.name
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean skill (validation)")
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    _plain(axes, grid="y")
    return svg(figure, "curves")


def group_colours(grouping: Grouping) -> dict[str, str]:
    """A colour a target: that of the group that serves it."""
    numbered = enumerate(grouping.groups)
    return {
        target: COLOURS[number % len(COLOURS)]
        for number, group in numbered
        for target in group.serves
    }


def verdict(gain: Interval) -> str:
    """A gain in a word: ``helped``, ``hurt``, or ``within seed noise`` where its interval holds zero."""
    if gain.low is not None and gain.low > 0:
        return "helped"
    return "hurt" if gain.high is not None and gain.high < 0 else "within seed noise"


def _mean(values: Sequence[float | None]) -> float:
    known = [max(value, -1.0) for value in values if value is not None]
    return sum(known) / len(known) if known else float("nan")


def _figure(width: float, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    return figure, axes


def figure_grid(
    count: int, columns: int, height: float, width: float = 9.6
) -> "tuple[Figure, list[Axes]]":
    """A figure with ``count`` axes in rows of at most ``columns``, each ``height`` inches high."""
    from matplotlib.figure import Figure

    rows = -(-count // columns)
    figure = Figure(figsize=(width, rows * height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = [figure.add_subplot(rows, min(columns, count), i + 1) for i in range(count)]
    for each in axes:
        each.patch.set_alpha(0)
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(labelsize=7, length=2)
    return figure, axes


def _plain(axes: "Axes", grid: str) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis=grid, color="#E3E7EB", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)


def svg(figure: "Figure", name: str) -> str:
    """The figure as SVG for use inside HTML: no XML head, no metadata, no namespace addresses."""
    import matplotlib

    content = io.StringIO()
    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}
    ):
        figure.savefig(content, format="svg")
    text = content.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
