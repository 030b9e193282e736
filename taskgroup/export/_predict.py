"""From densities to properties, with units and uncertainties.

Each target is answered by the group that serves it, by the mean of the group's members in the space of the target's
transform. Its standard deviation there is sqrt(spread of the members^2 + residual^2), the residual being the error on
rows the networks were not trained on; in the target's unit it is half the width of the interval mean ± that much.
A classification target's value is a probability, its standard deviation the spread of the members.

With ``coverage`` a regression target also gets the bounds of an interval that holds so large a share of new values of
crystals like those of the dataset (conformal, see ``conformal_widths``).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from taskgroup.datasets.extensive import atom_counts
from taskgroup.errors import BundleError
from taskgroup.export.bundle import Bundle
from taskgroup.export.inputs import (
    Item,
    OnError,
    Stated,
    as_dataset,
    check_dataset,
    dataset_items,
    source_items,
)
from taskgroup.models import AtomBatch, CrystalBatch, MultiTaskNetwork, PreparedRows

if TYPE_CHECKING:
    import pandas as pd

# Densities predicted at a time: small batches fit a CPU's cache, a GPU wants to be filled.
_CPU_BATCH = 32
_GPU_BATCH = 128
# Values of a batch: 128 densities on 32^3 points. Networks make a dozen fields of each.
_BATCH_POINTS = 128 * 32**3
# Values that wait until there are enough of their shape: 64 MB.
_WAITING_POINTS = 16 << 20


def predict(
    bundle: Bundle,
    inputs: Any,
    *,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    rows: Sequence[int] | None = None,
    coverage: float | None = None,
    on_error: OnError | None = None,
    electrons: float | None = None,
    frame: int | None = None,
) -> "pd.DataFrame":
    """Predict the targets of a bundle.

    Parameters
    ----------
    inputs: a Dataset, a store folder, or a list of densities: files, folders and archives of files, Density or
        pymatgen density objects; a bundle of promolecules takes structure files and pymatgen structures instead. Rows
        of a dataset and materials in a folder go by their ids, files by their paths.
    batch_size: densities at a time; default: 32, on a GPU 128.
    device: where to compute; default: a GPU if there is one.
    rows: of a Dataset or store; default all.
    coverage: of prediction intervals, 0.5, 0.68, 0.9 or 0.95; default: none.
    on_error: called with the name and error of an input that cannot be used, which is then left out; without it the
        error is raised.
    electrons, frame: of all files, see ``densities.read_density``.

    Returns a DataFrame with index ``id``, one column per target and one column ``<target>_std`` each, with a coverage
    also ``<target>_low`` and ``<target>_high`` of each regression target. Units are in ``.attrs["units"]``;
    ``.attrs["notes"]`` says by id what was done to the cell of an input (a supercell is brought to its primitive cell).

    Raises InputError: input the bundle cannot take, or a coverage it does not know.
    """
    widths = {}
    if coverage is not None:
        widths = interval_widths(bundle, coverage)
    device = _device(device)
    if batch_size is None:
        batch_size = _CPU_BATCH if device.type == "cpu" else _GPU_BATCH
    items = _items(bundle, inputs, rows, batch_size, on_error, Stated(electrons, frame))
    frame, species = _predicted_frame(bundle, items, batch_size, device)
    for name, width in widths.items():
        target = bundle.spec.target(name)
        middle = target.forward_predictions(frame[name].to_numpy())
        frame[f"{name}_low"] = target.inverse(middle - width)
        frame[f"{name}_high"] = target.inverse(middle + width)
    _give_back_extensive(bundle, frame, species)
    frame.attrs["units"] = bundle.units
    return frame


def predict_items(
    bundle: Bundle, items: Iterable[Item], *, device: str | torch.device | None = None
) -> "pd.DataFrame":
    """Return predictions and standard deviations, in units, of densities that are in the bundle's form already."""
    device = _device(device)
    batch_size = _CPU_BATCH if device.type == "cpu" else _GPU_BATCH
    frame, species = _predicted_frame(bundle, iter(items), batch_size, device)
    _give_back_extensive(bundle, frame, species)
    return frame


def interval_widths(bundle: Bundle, coverage: float) -> dict[str, float]:
    """Return half the width of the intervals of a coverage by regression target. Raises BundleError: not known."""
    key = f"{coverage:g}"
    widths = {}
    for name in bundle.targets:
        if bundle.spec.target(name).kind != "regression":
            continue
        width_by_coverage = bundle.spec.intervals.get(name, {})
        if key not in width_by_coverage:
            known = ", ".join(width_by_coverage) or "none"
            raise BundleError(
                f"target '{name}': no prediction interval of coverage {key}; the bundle has {known}."
            )
        widths[name] = width_by_coverage[key]
    return widths


def predict_crystals(
    bundle: Bundle, crystals: CrystalBatch, device: torch.device | str = "cpu"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return values and standard deviations [B, T] in units, targets in the order of ``bundle.targets``.

    Densities must be standardised as the bundle's ``spec.density`` says. Extensive targets are per atom here.
    """
    crystals = crystals.to(device)
    values = np.empty((len(crystals), len(bundle.targets)))
    stds = np.empty_like(values)
    prepared_by_view: dict[str, PreparedRows] = {}
    for group in bundle.spec.grouping.groups:
        networks = bundle.members[group]
        outputs_by_member = []
        with torch.inference_mode():
            for network in networks:
                network.to(device).eval()
                outputs_by_member.append(_outputs(network, crystals, prepared_by_view))
            outputs = torch.stack(outputs_by_member).double().cpu().numpy()
        names = [target.name for target in networks[0].targets]
        for name in group.serves:
            column = bundle.targets.index(name)
            mean, std = _combine(bundle, name, outputs[:, :, names.index(name)])
            values[:, column] = mean
            stds[:, column] = std
    return values, stds


def _items(
    bundle: Bundle,
    inputs: Any,
    rows: Sequence[int] | None,
    batch_size: int,
    on_error: OnError | None,
    stated: Stated,
) -> Iterator[Item]:
    dataset = as_dataset(inputs)
    if dataset is None:
        return source_items(bundle, inputs, on_error, stated)
    check_dataset(bundle, dataset)
    if rows is None:
        rows = range(len(dataset))
    return dataset_items(bundle, dataset, rows, batch_size)


def _give_back_extensive(
    bundle: Bundle, frame: "pd.DataFrame", species: Sequence[Sequence[str]]
) -> None:
    """Multiply the columns of extensive targets, learnt per atom, by the atoms that their unit counts, in place."""
    for name in bundle.targets:
        target = bundle.spec.target(name)
        if not target.is_extensive:
            continue
        counts = atom_counts(target, species)
        for column in (name, f"{name}_std", f"{name}_low", f"{name}_high"):
            if column in frame:
                frame[column] *= counts


def _predicted_frame(
    bundle: Bundle, items: Iterator[Item], batch_size: int, device: torch.device
) -> tuple["pd.DataFrame", list[tuple[str, ...]]]:
    """Return values and standard deviations of all items, made batch by batch, and the atoms of each."""
    import pandas as pd

    columns = [*bundle.targets, *(f"{name}_std" for name in bundle.targets)]
    ids: dict[int, str] = {}
    species: dict[int, tuple[str, ...]] = {}
    notes: dict[str, str] = {}
    blocks = [np.empty((0, len(columns)))]
    for numbered in _batches(items, batch_size):
        batch = [item for _, item in numbered]
        values, stds = predict_crystals(bundle, _crystals(bundle, batch), device)
        for number, item in numbered:
            ids[number] = item.id
            species[number] = item.species
            if item.note:
                notes[item.id] = item.note
        blocks.append(np.concatenate([values, stds], axis=1))
    # Batches of one shape do not come in the order of the items.
    order = np.argsort(list(ids), kind="stable")
    index = pd.Index([ids[number] for number in sorted(ids)], name="id", dtype=object)
    frame = pd.DataFrame(np.concatenate(blocks)[order], index=index, columns=columns)
    frame.attrs["notes"] = notes
    return frame, [species[number] for number in sorted(species)]


def _batches(items: Iterator[Item], batch_size: int) -> Iterator[list[tuple[int, Item]]]:
    """Yield items with their numbers in batches whose densities have one shape; few of them wait in memory."""
    waiting: dict[tuple[int, ...], list[tuple[int, Item]]] = {}
    n_waiting = 0
    for number, item in enumerate(items):
        shape = item.density.shape
        waiting.setdefault(shape, []).append((number, item))
        n_waiting += item.density.size
        n_points = item.density.size * len(waiting[shape])
        if len(waiting[shape]) == batch_size or n_points >= _BATCH_POINTS:
            n_waiting -= n_points
            yield waiting.pop(shape)
        elif n_waiting > _WAITING_POINTS:
            fullest = max(waiting, key=lambda shape: len(waiting[shape]))
            n_waiting -= math.prod(fullest) * len(waiting[fullest])
            yield waiting.pop(fullest)
    yield from waiting.values()


def _crystals(bundle: Bundle, items: Sequence[Item]) -> CrystalBatch:
    """Return items as one batch."""
    densities = np.stack([item.density for item in items])
    lattices = np.stack([item.lattice for item in items])
    species = [item.species for item in items]
    atoms = AtomBatch.of(species, [item.frac_coords for item in items])
    return CrystalBatch.of(densities, lattices, atoms, bundle.spec.density.sigma)


def _device(asked: str | torch.device | None) -> torch.device:
    if asked is not None:
        return torch.device(asked)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _outputs(
    network: MultiTaskNetwork, crystals: CrystalBatch, prepared_by_view: dict[str, PreparedRows]
) -> torch.Tensor:
    """Return predictions [B, T] of one network; networks with equal views share the prepared rows."""
    key = network.view.key
    if key not in prepared_by_view:
        prepared_by_view[key] = network.view.prepare(crystals)
    return network.decode(network(prepared_by_view[key], crystals.lattice))


def _combine(bundle: Bundle, name: str, predicted: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Return mean and standard deviation [B], in the unit, of members' predictions [members, B]."""
    target = bundle.spec.target(name)
    learnt = target.forward_predictions(predicted)
    mean = learnt.mean(axis=0)
    spread = np.zeros_like(mean)
    if len(learnt) > 1:
        spread = learnt.std(axis=0, ddof=1)
    if target.kind == "classification":
        return mean, spread
    residual = bundle.spec.residuals.get(name) or 0.0
    half_width = np.sqrt(spread**2 + residual**2)
    high = target.inverse(mean + half_width)
    low = target.inverse(mean - half_width)
    return target.inverse(mean), (high - low) / 2
