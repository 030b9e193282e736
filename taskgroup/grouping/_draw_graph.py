"""The picture of a target graph: targets on a circle, groups side by side, so that labels never meet."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np

from taskgroup.grouping._figure import (
    ALONE,
    GROUP_COLOURS,
    NEGATIVE,
    POSITIVE,
    new_figure,
    save_figure,
)
from taskgroup.grouping.grouping import Group, Grouping

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GAP = 0.6
"""Free space between two groups on the circle, in units of the space of one target."""
_ROOMY = 16
"""Up to so many targets everything is drawn in full size."""
_MOST_LEVEL = 12
"""Up to so many targets labels are level and do not meet; beyond, they point outwards."""
_MOST_HELPED = 3


def draw_graph(graph: nx.Graph, path: str | Path, grouping: Grouping | None = None) -> None:
    """Save a target graph: solid edges are positive, dashed ones negative, wider is stronger, paler crosses groups.

    Colours are groups, grey are targets alone; a small dot inside the circle is a group which that target helps without
    being served by it. Without a grouping every target is a group. The suffix of path names the format (png, pdf, ...).
    """
    grouping = grouping or Grouping.singles(graph)
    angles = _angles([group.serves for group in grouping.groups])
    scale = min(1.0, (_ROOMY / len(angles)) ** 0.75)
    figure = new_figure(7.2, 5.8)
    axes = figure.add_subplot()
    axes.set_aspect("equal")
    axes.axis("off")
    _draw_edges(axes, graph, grouping, angles, scale)
    for group, colour in _colours(grouping).items():
        _draw_group(
            axes,
            {name: angles[name] for name in group.serves},
            colour,
            scale,
            len(angles) <= _MOST_LEVEL,
        )
        for name in group.helpers:
            place = [other for other in grouping.groups if name in other.helpers].index(group)
            if place < _MOST_HELPED:
                at = _at(angles[name], 0.88 - 0.06 * place)
                axes.plot(*at, "o", color=colour, ms=7.0 * scale, mec="white", mew=0.8, zorder=5)
    _draw_legend(axes, graph)
    save_figure(figure, path)


def _colours(grouping: Grouping) -> dict[Group, str]:
    """A colour for each group of several targets, grey for targets alone."""
    palette = itertools.cycle(GROUP_COLOURS)
    return {group: next(palette) if len(group) > 1 else ALONE for group in grouping.groups}


def _angles(groups: Sequence[Sequence[str]]) -> dict[str, float]:
    """The angle of each target, clockwise from the top, with gaps between groups."""
    gap = _GAP if len(groups) > 1 else 0.0
    places: dict[str, float] = {}
    for number, names in enumerate(groups):
        for name in names:
            places[name] = len(places) + gap * number
    around = len(places) + gap * len(groups)
    return {
        name: np.pi / 2.0 - 2.0 * np.pi * (place + (1.0 + gap) / 2.0) / around
        for name, place in places.items()
    }


def _at(angle: float, radius: float = 1.0) -> tuple[float, float]:
    return radius * float(np.cos(angle)), radius * float(np.sin(angle))


def _width(share: float, scale: float) -> float:
    """Line width of an edge whose strength is that share of the strongest."""
    return (0.6 + 4.4 * share**1.5) * scale


def _strengths(graph: nx.Graph) -> list[float]:
    return sorted(abs(weight) for *_, weight in graph.edges(data="weight", default=1.0))


def _draw_edges(
    axes: "Axes", graph: nx.Graph, grouping: Grouping, angles: dict[str, float], scale: float
) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Curve

    strongest = max(_strengths(graph), default=1.0)
    for one, other, weight in sorted(
        graph.edges(data="weight", default=1.0), key=lambda edge: abs(edge[2])
    ):
        inside = other in grouping.serving(one).serves
        start, end = np.array(_at(angles[one], 0.97)), np.array(_at(angles[other], 0.97))
        towards_middle = 0.3 * (start + end) / 2.0  # so that edges between neighbours leave the rim
        curve = Curve([start, towards_middle, end], [Curve.MOVETO, Curve.CURVE3, Curve.CURVE3])
        line = PathPatch(
            curve,
            fill=False,
            color=POSITIVE if weight > 0.0 else NEGATIVE,
            linestyle="-" if weight > 0.0 else (0, (2.5, 1.0)),
            linewidth=_width(abs(weight) / strongest, scale),
            alpha=0.9 if inside else 0.3,
            capstyle="butt",
            zorder=3 if inside else 2,
        )
        axes.add_patch(line)


def _draw_group(
    axes: "Axes", angles: dict[str, float], colour: str, scale: float, level: bool
) -> None:
    """The targets of a group with their labels outside, and the arc that binds them."""
    turns = list(angles.values())
    along = np.linspace(max(turns), min(turns), 60)
    axes.plot(
        np.cos(along),
        np.sin(along),
        color=colour,
        lw=16.0 * scale,
        alpha=0.3,
        solid_capstyle="round",
        zorder=1,
    )
    for name, angle in angles.items():
        axes.plot(
            *_at(angle), "o", color=colour, ms=15.0 * scale, mec="white", mew=1.5 * scale, zorder=4
        )
        right = np.cos(angle) >= -1e-9
        outwards = np.degrees(angle) if right else np.degrees(angle) + 180.0
        axes.text(
            *_at(angle, 1.04 + 0.06 * scale),
            name,
            rotation=0.0 if level else outwards,
            rotation_mode="anchor",
            ha="left" if right else "right",
            va="center",
            fontsize=max(3.0, 11.0 * scale),
        )


def _draw_legend(axes: "Axes", graph: nx.Graph) -> None:
    from matplotlib.lines import Line2D

    strengths = _strengths(graph)
    if not strengths:
        return
    weights = [weight for *_, weight in graph.edges(data="weight", default=1.0)]
    entries = [("positive", POSITIVE, "-")] if max(weights) > 0.0 else []
    entries += [("negative", NEGATIVE, (0, (2.5, 1.0)))] if min(weights) < 0.0 else []
    handles = [
        Line2D([], [], color=colour, ls=style, lw=2.5, label=label)
        for label, colour, style in entries
    ]
    shown = {
        f"{value:.2g}": value
        for value in (strengths[-1], strengths[len(strengths) // 2], strengths[0])
    }
    handles += [
        Line2D([], [], color="#555555", lw=_width(value / strengths[-1], 1.0), label=text)
        for text, value in shown.items()
    ]
    title = str(graph.graph.get("measure", "weight")).replace("_", " ")
    axes.figure.legend(
        handles=handles,
        title=title,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=9,
    )
