"""The picture of a target graph: targets on a circle, groups side by side, so that labels never meet."""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np

from taskgroup.grouping import Group, Grouping
from taskgroup.grouping import target_graph as make_graph
from taskgroup.plot.style import ALONE, COLOURS, NEGATIVE, POSITIVE, axes_or_new, font_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Free space between two groups on the circle, in units of the space of one target.
_GAP = 0.6
# Up to so many targets everything is drawn in full size.
_ROOMY = 16
# Up to so many targets labels are level and do not meet; beyond, they point outwards.
_MOST_LEVEL = 12
_MOST_HELPED = 3
# Width in inches of the figure that sizes of marks are made for.
_FULL_WIDTH = 7.2
_DASHES = (0, (2.5, 1.0))


def target_graph(
    graph: Any, grouping: Grouping | None = None, *, ax: "Axes | None" = None
) -> "Axes":
    """Draw a target graph: solid edges are positive, dashed ones negative, wider is stronger, paler crosses groups.

    Colours are groups, grey are targets alone; a small dot inside the circle is a group which that target helps without
    being served by it.

    Args:
        graph: of ``tg.target_graph``, or labels (TargetTable, DataFrame, Affinity) to make one of.
        grouping: default: every target is a group.
    """
    if not isinstance(graph, nx.Graph):
        graph = make_graph(graph)
    grouping = grouping or Grouping.singles(graph)
    axes = axes_or_new(ax, 0.8)
    axes.set_aspect("equal")
    axes.axis("off")
    angles = _angles([group.serves for group in grouping.groups])
    crowding = min(1.0, (_ROOMY / len(angles)) ** 0.75)
    scale = crowding * min(1.0, axes.figure.get_figwidth() / _FULL_WIDTH)
    _draw_edges(axes, graph, grouping, angles, scale)
    for group, colour in group_colours(grouping).items():
        angle_of = {name: angles[name] for name in group.serves}
        _draw_group(axes, angle_of, colour, scale)
        _draw_names(axes, angle_of, scale, is_level=len(angles) <= _MOST_LEVEL)
        _draw_helpers(axes, group, grouping, angles, colour, scale)
    _draw_legend(axes, graph)
    return axes


def group_colours(grouping: Grouping) -> dict[Group, str]:
    """Return a colour for each group of several targets, grey for targets alone."""
    palette = itertools.cycle(COLOURS)
    return {group: next(palette) if len(group) > 1 else ALONE for group in grouping.groups}


def _angles(groups: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return the angle of each target, clockwise from the top, with gaps between groups."""
    gap = _GAP if len(groups) > 1 else 0.0
    places: dict[str, float] = {}
    for number, names in enumerate(groups):
        for name in names:
            places[name] = len(places) + gap * number
    around = len(places) + gap * len(groups)
    angles = {}
    for name, place in places.items():
        share = (place + (1.0 + gap) / 2.0) / around
        angles[name] = np.pi / 2.0 - 2.0 * np.pi * share
    return angles


def _at(angle: float, radius: float = 1.0) -> tuple[float, float]:
    return radius * float(np.cos(angle)), radius * float(np.sin(angle))


def _width(share: float, scale: float) -> float:
    """Return the line width of an edge whose strength is that share of the strongest."""
    return (0.6 + 4.4 * share**1.5) * scale


def _strengths(graph: nx.Graph) -> list[float]:
    return sorted(abs(weight) for *_, weight in graph.edges(data="weight", default=1.0))


def _draw_edges(
    axes: "Axes",
    graph: nx.Graph,
    grouping: Grouping,
    angles: Mapping[str, float],
    scale: float,
) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Curve

    strongest = max(_strengths(graph), default=1.0)
    edges = list(graph.edges(data="weight", default=1.0))
    # The strongest are drawn last, on top of the others.
    for one, other, weight in sorted(edges, key=lambda edge: abs(edge[2])):
        is_inside = other in grouping.serving(one).serves
        start = np.array(_at(angles[one], 0.97))
        end = np.array(_at(angles[other], 0.97))
        # Bent towards the middle, so that edges between neighbours leave the rim.
        bend = 0.3 * (start + end) / 2.0
        curve = Curve([start, bend, end], [Curve.MOVETO, Curve.CURVE3, Curve.CURVE3])
        line = PathPatch(
            curve,
            fill=False,
            color=POSITIVE if weight > 0.0 else NEGATIVE,
            linestyle="-" if weight > 0.0 else _DASHES,
            linewidth=_width(abs(weight) / strongest, scale),
            alpha=0.9 if is_inside else 0.3,
            capstyle="butt",
            zorder=3 if is_inside else 2,
        )
        axes.add_patch(line)


def _draw_group(axes: "Axes", angle_of: Mapping[str, float], colour: str, scale: float) -> None:
    """Draw the targets of a group, and the arc that binds them."""
    turns = list(angle_of.values())
    along = np.linspace(max(turns), min(turns), 60)
    arc = {"color": colour, "lw": 16.0 * scale, "alpha": 0.3, "solid_capstyle": "round"}
    axes.plot(np.cos(along), np.sin(along), zorder=1, **arc)
    dot = {"color": colour, "ms": 15.0 * scale, "mec": "white", "mew": 1.5 * scale}
    for angle in turns:
        axes.plot(*_at(angle), "o", zorder=4, **dot)


def _draw_names(
    axes: "Axes", angle_of: Mapping[str, float], scale: float, *, is_level: bool
) -> None:
    """Write the names outside the circle."""
    size = max(0.3 * font_size(), 1.1 * font_size() * min(1.0, scale))
    for name, angle in angle_of.items():
        is_right = np.cos(angle) >= -1e-9
        outwards = np.degrees(angle) if is_right else np.degrees(angle) + 180.0
        axes.text(
            *_at(angle, 1.04 + 0.06 * scale),
            name,
            rotation=0.0 if is_level else outwards,
            rotation_mode="anchor",
            ha="left" if is_right else "right",
            va="center",
            fontsize=size,
        )


def _draw_helpers(
    axes: "Axes",
    group: Group,
    grouping: Grouping,
    angles: Mapping[str, float],
    colour: str,
    scale: float,
) -> None:
    """Draw a dot of the group's colour at each of its helpers, further inside for each further group it helps."""
    dot = {"color": colour, "ms": 7.0 * scale, "mec": "white", "mew": 0.8}
    for name in group.helpers:
        helped = [other for other in grouping.groups if name in other.helpers]
        place = helped.index(group)
        if place < _MOST_HELPED:
            axes.plot(*_at(angles[name], 0.88 - 0.06 * place), "o", zorder=5, **dot)


def _draw_legend(axes: "Axes", graph: nx.Graph) -> None:
    from matplotlib.lines import Line2D

    strengths = _strengths(graph)
    if not strengths:
        return
    weights = [weight for *_, weight in graph.edges(data="weight", default=1.0)]
    handles = []
    if max(weights) > 0.0:
        handles.append(Line2D([], [], color=POSITIVE, ls="-", lw=2.5, label="positive"))
    if min(weights) < 0.0:
        handles.append(Line2D([], [], color=NEGATIVE, ls=_DASHES, lw=2.5, label="negative"))
    # Strongest, middle and weakest edge, each once.
    shown = dict.fromkeys([strengths[-1], strengths[len(strengths) // 2], strengths[0]])
    labels = {f"{value:.2g}": value for value in shown}
    for text, value in labels.items():
        width = _width(value / strengths[-1], 1.0)
        handles.append(Line2D([], [], color=ALONE, lw=width, label=text))
    title = str(graph.graph.get("measure", "weight")).replace("_", " ")
    legend = {"title": title, "loc": "upper center", "bbox_to_anchor": (0.5, -0.02)}
    axes.legend(handles=handles, ncols=len(handles), frameon=False, **legend)
