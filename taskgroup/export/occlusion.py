"""Which regions of a density a prediction leans on: occlusion.

Around a point the density is replaced by a smooth one (low-passed, so that bonds and shells are gone), the number of
electrons stays what it was, and the networks predict again. The change is what the prediction owed to the structure of
the density there. After Zeiler and Fergus 2014, doi:10.1007/978-3-319-10590-1_53; they put grey squares on photographs.

It says what the networks respond to, which need not be what causes the property.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from taskgroup.errors import ConfigError
from taskgroup.export._predict import predict_items
from taskgroup.export.bundle import Bundle
from taskgroup.export.inputs import Item, source_items

if TYPE_CHECKING:
    import pandas as pd

# Gaussian width in Å of the low-pass that takes bonds and shells out of a density.
_SMOOTH = 1.0
# Atoms whose heights in the cell differ by less, as a share of it, lie in one slice.
_SAME_HEIGHT = 0.06
_IMAGES = np.array(list(product((-1, 0, 1), repeat=3)))


@dataclass(frozen=True, eq=False)
class Slice:
    """What a prediction owes to the regions in one plane of the cell, at ``height`` along its third vector.

    ``changes`` maps a target to [m, m] numbers at the points (i/m, j/m) of the first two vectors, in its unit.
    """

    height: float
    changes: dict[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Explanation:
    """What the predictions of one crystal lean on.

    Attributes:
        id: of the input.
        predictions: by target, in its unit.
        units: by target.
        atoms: DataFrame with a row per atom of the primitive cell: element, fractional coordinates, and of each target
            the prediction minus that with the atom's surroundings occluded.
        lattice: of that cell, Å.
        slices: the same for points in the planes of the atoms; empty unless asked for.
        note: what was done to the cell that was given.
    """

    id: str
    predictions: dict[str, float]
    units: dict[str, str]
    atoms: "pd.DataFrame"
    lattice: NDArray[np.float64]
    slices: tuple[Slice, ...] = ()
    note: str = ""


def explain(
    bundle: Bundle,
    source: Any,
    *,
    width: float = 0.6,
    points: int = 0,
    most_slices: int = 4,
    device: str | torch.device = "cpu",
) -> Explanation:
    """Return what the predictions of one density lean on, atom by atom.

    Parameters
    ----------
    bundle: the networks.
    source: one input as ``Bundle.predict`` takes it.
    width: Gaussian width of an occluded region, Å.
    points: of a slice, along each vector of the cell; 0: no slices. Each slice costs ``points``^2 predictions.
    most_slices: slices at most.
    device: where to compute.

    Raises InputError: an input that the bundle cannot take, or a width that is not positive.
    """
    if not width > 0:
        raise ConfigError(f"width: must be above 0 Å, found {width:g}")
    item = next(source_items(bundle, source, None))
    atom_centres = item.frac_coords
    heights: list[float] = []
    if points:
        heights = _heights(item.frac_coords)[:most_slices]
    plane_centres = [_plane(height, points) for height in heights]
    centres = np.concatenate([atom_centres, *plane_centres])
    predicted = predict_items(bundle, _occluded(item, centres, width), device=device)
    values = predicted[list(bundle.targets)]
    # The first item is the crystal as it is.
    changes = values.iloc[0] - values.iloc[1:]
    n_atoms = len(atom_centres)
    slices = []
    for number, height in enumerate(heights):
        start = n_atoms + number * points**2
        rows = changes.iloc[start : start + points**2]
        maps = {name: rows[name].to_numpy().reshape(points, points) for name in bundle.targets}
        slices.append(Slice(height, maps))
    return Explanation(
        id=item.id,
        predictions={name: float(values.iloc[0][name]) for name in bundle.targets},
        units=dict(bundle.units),
        atoms=_atom_table(item, changes.iloc[:n_atoms]),
        lattice=item.lattice,
        slices=tuple(slices),
        note=item.note,
    )


def smoothed(
    density: NDArray[np.float64], lattice: NDArray[np.float64], sigma: float
) -> NDArray[np.float64]:
    """Return a periodic density [C, x, y, z] convolved with a Gaussian of width ``sigma`` Å; charge is conserved."""
    frequencies = [np.fft.fftfreq(n, 1 / n) for n in density.shape[1:]]
    indices = np.stack(np.meshgrid(*frequencies, indexing="ij"), axis=-1)
    waves = 2 * np.pi * indices @ np.linalg.inv(lattice).T
    damping = np.exp(-0.5 * sigma**2 * (waves**2).sum(axis=-1))
    transformed = np.fft.fftn(density, axes=(1, 2, 3)) * damping
    return np.fft.ifftn(transformed, axes=(1, 2, 3)).real


def window(
    shape: Sequence[int], lattice: NDArray[np.float64], centre: NDArray[np.float64], width: float
) -> NDArray[np.float64]:
    """Return a Gaussian [x, y, z] around a point and its periodic images, 1 at the point; at most 1 everywhere."""
    axes = [np.arange(n) / n for n in shape]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    # The nearest image of a point lies in this cell or in one beside it.
    offset = (grid - centre + 0.5) % 1.0 - 0.5
    total = np.zeros(tuple(shape))
    for image in _IMAGES:
        distances = (offset + image) @ lattice
        total += np.exp(-0.5 * (distances**2).sum(axis=-1) / width**2)
    return np.minimum(total, 1.0)


def _occluded(item: Item, centres: NDArray[np.float64], width: float) -> Iterator[Item]:
    """Yield the crystal as it is, then with the density around each centre smoothed out."""
    yield item
    density = item.density.astype(np.float64)
    smooth = smoothed(density, item.lattice, _SMOOTH)
    electrons = density[0].sum()
    for number, centre in enumerate(centres):
        weight = window(density.shape[1:], item.lattice, centre, width)
        changed = density + weight * (smooth - density)
        if electrons > 0:
            changed *= electrons / changed[0].sum()
        yield item._replace(id=f"occluded-{number}", density=changed.astype(np.float32))


def _heights(frac_coords: NDArray[np.float64]) -> list[float]:
    """Return the heights of the planes that hold atoms, along the third vector, lowest first."""
    heights: list[float] = []
    # A height of 0.999 is that of an atom at 0, up to rounding.
    for height in np.sort(frac_coords[:, 2] % 1.0):
        distances = [abs((height - other + 0.5) % 1.0 - 0.5) for other in heights]
        if min(distances, default=1.0) > _SAME_HEIGHT:
            heights.append(float(height))
    return heights


def _plane(height: float, points: int) -> NDArray[np.float64]:
    """Return the points of a slice [points^2, 3], fractional."""
    along = np.arange(points) / points
    first, second = np.meshgrid(along, along, indexing="ij")
    return np.stack([first.ravel(), second.ravel(), np.full(points**2, height)], axis=1)


def _atom_table(item: Item, changes: "pd.DataFrame") -> "pd.DataFrame":
    import pandas as pd

    table = pd.DataFrame(item.frac_coords % 1.0, columns=["a", "b", "c"])
    table.insert(0, "element", item.species)
    for name in changes:
        table[name] = changes[name].to_numpy()
    return table.rename_axis("atom")
