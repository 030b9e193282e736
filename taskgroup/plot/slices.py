"""What a prediction leans on: slices through the atoms of a crystal."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from taskgroup.errors import ConfigError, did_you_mean
from taskgroup.plot.style import INK, font_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Atoms at most so far from a slice, as a share of the cell, are drawn in it.
_NEAR = 0.06
_FACE = "white"


def explanation(explained: Any, target: str, figure: "Figure") -> "list[Axes]":
    """Draw what the prediction of one target leans on, a panel per slice, on an empty figure; return their Axes.

    Red regions raise the prediction, blue ones lower it; dots are the atoms in the slice. ``explained`` is what
    ``taskgroup.export.explain`` gives with ``points``. Raises ConfigError: an unknown target, or no slices.
    """
    if target not in explained.predictions:
        near = did_you_mean(target, explained.predictions)
        raise ConfigError(f"explanation: unknown target '{target}'; {near}")
    if not explained.slices:
        raise ConfigError("explanation: has no slices; ask for them with points=12")
    maps = [each.changes[target] for each in explained.slices]
    limit = float(np.max(np.abs(maps))) or 1.0
    axes_list = []
    for number, (each, changes) in enumerate(zip(explained.slices, maps, strict=True), start=1):
        axes = figure.add_subplot(1, len(maps), number)
        corners = _in_plane(_corner_points(len(changes)), explained.lattice)
        image = axes.pcolormesh(
            corners[..., 0], corners[..., 1], changes, cmap="RdBu_r", vmin=-limit, vmax=limit
        )
        _draw_atoms(axes, explained, each.height)
        axes.set_aspect("equal")
        axes.axis("off")
        axes.set_title(f"c = {each.height:.2f}")
        axes_list.append(axes)
    unit = explained.units[target]
    bar = figure.colorbar(image, ax=axes_list, shrink=0.8)
    bar.set_label(f"{target} owed to the region{f', {unit}' if unit else ''}")
    bar.outline.set_visible(False)
    return axes_list


def _corner_points(count: int) -> NDArray[np.float64]:
    """Return the corners of the cells around the points i/count, fractional [count + 1, count + 1, 2]."""
    along = (np.arange(count + 1) - 0.5) / count
    return np.stack(np.meshgrid(along, along, indexing="ij"), axis=-1)


def _in_plane(points: NDArray[np.float64], lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return fractional points of the first two vectors as x and y, Å; the first vector lies along x."""
    first, second = lattice[0], lattice[1]
    length = np.linalg.norm(first)
    along = second @ first / length
    across = np.sqrt(max(second @ second - along**2, 0.0))
    return points @ np.array([[length, 0.0], [along, across]])


def _draw_atoms(axes: "Axes", explained: Any, height: float) -> None:
    for atom in explained.atoms.itertuples():
        distance = abs((atom.c - height + 0.5) % 1.0 - 0.5)
        if distance > _NEAR:
            continue
        place = np.array([atom.a, atom.b])
        x, y = _in_plane(place, explained.lattice)
        axes.plot(x, y, "o", color=_FACE, mec=INK, mew=0.8)
        axes.annotate(
            atom.element,
            (x, y),
            (0, font_size(0.6)),
            textcoords="offset points",
            ha="center",
            fontsize=font_size(0.8),
            color="black",
        )
