"""From densities to properties, with units and uncertainties.

Each target is answered by the group that serves it, by the mean of the group's members in the space of the target's
transform. Its standard deviation there is sqrt(spread of the members^2 + residual^2), the residual being the error on
rows the networks were not trained on; in the target's unit it is half the width of the interval mean ± that much.
A classification target's value is a probability, its standard deviation the spread of the members.

With ``coverage`` a regression target also gets the bounds of an interval that holds so large a share of new values of
crystals like those of the dataset (conformal, see ``conformal_widths``).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from taskgroup.datasets import Dataset, load_dataset
from taskgroup.densities import (
    Density,
    promolecule,
    read_density,
    read_structure,
    readers,
    standardise,
)
from taskgroup.errors import BundleError, InputError, StoreError
from taskgroup.export.bundle import Bundle
from taskgroup.models import MultiTaskNetwork, PreparedRows

if TYPE_CHECKING:
    import pandas as pd

Item = tuple[
    str, NDArray[np.float32], NDArray[np.float64]
]  # id, density [C, n, n, n], lattice [3, 3]


def predict(
    bundle: Bundle,
    inputs: Any,
    *,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    rows: Sequence[int] | None = None,
    coverage: float | None = None,
    on_error: Callable[[str, InputError], None] | None = None,
) -> "pd.DataFrame":
    """Predict the targets of a bundle.

    Parameters
    ----------
    inputs: a Dataset, a store folder, or a list of densities: files, Density or pymatgen density objects; a bundle of
        promolecules takes structure files and pymatgen structures instead.
    batch_size: densities at a time; default: 32, on a GPU 128.
    device: where to compute; default: a GPU if there is one.
    rows: of a Dataset or store; default all.
    coverage: of prediction intervals, 0.5, 0.68, 0.9 or 0.95; default: none.
    on_error: called with the name and error of an input that cannot be used, which is then left out; without it the
        error is raised.

    Returns a DataFrame with index ``id``, a column a target and a column ``<target>_std`` each, with a coverage also
    ``<target>_low`` and ``<target>_high`` of each regression target, and the units in ``.attrs["units"]``. Raises
    InputError for input the bundle cannot take, and a coverage it does not know.
    """
    import pandas as pd

    widths = {} if coverage is None else interval_widths(bundle, coverage)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    batch_size = batch_size or (32 if place.type == "cpu" else 128)
    dataset = _as_dataset(inputs)
    if dataset is not None:
        check_dataset(bundle, dataset)
        items = _rows(bundle, dataset, range(len(dataset)) if rows is None else rows, batch_size)
    else:
        items = _items(bundle, [inputs] if _is_single(inputs) else inputs, on_error)
    columns = [*bundle.targets, *(f"{name}_std" for name in bundle.targets)]
    ids: list[str] = []
    blocks = [np.empty((0, len(columns)))]
    while batch := list(islice(items, batch_size)):
        ids += [name for name, _, _ in batch]
        densities = np.stack([density for _, density, _ in batch])
        values, stds = predict_arrays(
            bundle, densities, np.stack([lattice for _, _, lattice in batch]), place
        )
        blocks.append(np.concatenate([values, stds], axis=1))
    frame = pd.DataFrame(
        np.concatenate(blocks), index=pd.Index(ids, name="id", dtype=object), columns=columns
    )
    for name, width in widths.items():
        target = bundle.spec.target(name)
        middle = target.forward_predictions(frame[name].to_numpy())
        frame[f"{name}_low"], frame[f"{name}_high"] = (
            target.inverse(middle - width),
            target.inverse(middle + width),
        )
    frame.attrs["units"] = bundle.units
    return frame


def interval_widths(bundle: Bundle, coverage: float) -> dict[str, float]:
    """Half the widths of the intervals of this coverage, by regression target. Raises BundleError: it is not known."""
    regression = [target.name for target in bundle.spec.targets if target.kind == "regression"]
    known = bundle.spec.intervals
    for name in regression:
        if f"{coverage:g}" not in known.get(name, {}):
            found = f"the bundle has {', '.join(known.get(name, {})) or 'none'}"
            raise BundleError(
                f"target '{name}': no prediction interval of coverage {coverage:g}; {found}."
            )
    return {name: known[name][f"{coverage:g}"] for name in bundle.targets if name in regression}


def predict_arrays(
    bundle: Bundle,
    densities: NDArray[np.float32],
    lattices: NDArray[np.float64],
    device: torch.device | str = "cpu",
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values and standard deviations [B, T] in units, targets in the order of ``bundle.targets``.

    ``densities`` [B, C, n, n, n] in e/Å^3 must be standardised as the bundle's ``spec.density`` says; ``lattices``
    [B, 3, 3] in Å.
    """
    density = torch.as_tensor(densities, dtype=torch.float32, device=device)
    lattice = torch.as_tensor(lattices, dtype=torch.float32, device=device)
    values = np.empty((len(densities), len(bundle.targets)))
    stds = np.empty_like(values)
    prepared: dict[str, PreparedRows] = {}
    for group in bundle.spec.grouping.groups:
        networks = bundle.members[group]
        with torch.inference_mode():
            found = [
                _outputs(network.to(device).eval(), density, lattice, prepared)
                for network in networks
            ]
            outputs = torch.stack(found).double().cpu().numpy()
        names = [target.name for target in networks[0].targets]
        for name in group.serves:
            at = bundle.targets.index(name)
            values[:, at], stds[:, at] = _combine(bundle, name, outputs[:, :, names.index(name)])
    return values, stds


def _outputs(
    network: MultiTaskNetwork,
    density: torch.Tensor,
    lattice: torch.Tensor,
    prepared: dict[str, PreparedRows],
) -> torch.Tensor:
    """Predictions [B, T] of one network; networks with equal views share the prepared fields."""
    key = network.view.key
    if key not in prepared:
        prepared[key] = network.view.prepare(density, lattice)
    return network.decode(network(prepared[key], lattice))


def _combine(bundle: Bundle, name: str, predicted: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Mean and standard deviation [B], in the unit, of members' predictions [members, B]."""
    target = bundle.spec.target(name)
    learnt = target.forward_predictions(predicted)
    spread = learnt.std(axis=0, ddof=1) if len(learnt) > 1 else np.zeros(learnt.shape[1])
    mean = learnt.mean(axis=0)
    if target.kind == "classification":
        return mean, spread
    half = np.sqrt(spread**2 + (bundle.spec.residuals.get(name) or 0.0) ** 2)
    return target.inverse(mean), (target.inverse(mean + half) - target.inverse(mean - half)) / 2


def check_dataset(bundle: Bundle, dataset: Dataset) -> None:
    """Refuse a dataset whose densities are not the kind the bundle takes. Raises BundleError."""
    wanted = bundle.spec.density
    for name in ("kind", "grid", "sigma"):
        if getattr(dataset, name) != getattr(wanted, name):
            found = f"{getattr(wanted, name)} for this bundle, but '{dataset.name}' has {getattr(dataset, name)}"
            raise BundleError(f"dataset '{dataset.name}': {name} of the densities must be {found}.")
    _check_channels(bundle, dataset.n_channels, f"dataset '{dataset.name}'")


def standardised(bundle: Bundle, source: Any, name: str) -> Item:
    """One input as the networks take it. Raises InputError where it is not the kind of density the bundle knows."""
    wanted = bundle.spec.density
    density = _density(bundle, source, name)
    if density.kind != wanted.kind:
        raise BundleError(
            f"{name}: this bundle takes {wanted.kind} densities, but found one of kind {density.kind}."
        )
    _check_channels(bundle, density.n_channels, name)
    if density.kind != "promolecule" or density.grid != (wanted.grid,) * 3:
        density = standardise(density, wanted.grid, wanted.sigma)
    values = (
        density.values[: wanted.n_channels].astype(np.float16).astype(np.float32)
    )  # datasets keep float16
    return name, values, density.lattice


def _density(bundle: Bundle, source: Any, name: str) -> Density:
    wanted = bundle.spec.density
    if isinstance(source, Density):
        return source
    source = Path(source) if isinstance(source, str) else source
    holds_density = isinstance(source, tuple) or any(reader.suits(source) for reader in readers())
    if wanted.kind == "promolecule":
        if holds_density:
            found = "found a DFT density; give the structure"
            raise BundleError(
                f"{name}: this bundle takes structures (it makes promolecules of them), but {found}."
            )
        structure = read_structure(source) if isinstance(source, Path) else source
        return promolecule(structure, wanted.grid, wanted.sigma, name)
    if isinstance(source, Path) and source.exists() and not holds_density:
        found = "the file's name is none of a density (CHGCAR, CHG, AECCAR, *.cube); a structure alone is not enough"
        raise BundleError(f"{name}: this bundle takes {wanted.kind} densities, but {found}.")
    return read_density(source, all_electron=wanted.kind == "all-electron")


def _check_channels(bundle: Bundle, found: int, name: str) -> None:
    """Of two channels the total alone may be used; a magnetisation cannot be made up."""
    wanted = bundle.spec.density.n_channels
    if found < wanted:
        raise BundleError(
            f"{name}: this bundle takes {wanted} channels (total, magnetisation), but found {found}."
        )


def _items(
    bundle: Bundle, inputs: Iterable[Any], on_error: Callable[[str, InputError], None] | None
) -> Iterator[Item]:
    for number, source in enumerate(inputs):
        name = _name(source, number)
        try:
            yield standardised(bundle, source, name)
        except InputError as error:
            if on_error is None:
                raise
            on_error(name, error)


def _rows(bundle: Bundle, dataset: Dataset, rows: Sequence[int], batch_size: int) -> Iterator[Item]:
    chosen = np.asarray(rows, dtype=np.int64)
    channels = bundle.spec.density.n_channels
    for start in range(0, len(chosen), batch_size):
        part = chosen[start : start + batch_size]
        densities = dataset.densities(part)[:, :channels]
        yield from zip(
            (dataset.ids[row] for row in part), densities, dataset.lattices[part], strict=True
        )


def _as_dataset(inputs: Any) -> Dataset | None:
    if isinstance(inputs, Dataset):
        return inputs
    if isinstance(inputs, str | Path) and not Path(inputs).is_file():
        try:
            return load_dataset(inputs)
        except StoreError:
            if Path(inputs).exists():
                raise
    return None


def _is_single(inputs: Any) -> bool:
    return (
        isinstance(inputs, str | Path | Density)
        or hasattr(inputs, "structure")
        or hasattr(inputs, "lattice")
    )


def _name(source: Any, number: int) -> str:
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, tuple):
        return " + ".join(map(str, source))
    named = source.source if isinstance(source, Density) and source.source != "memory" else None
    return named or f"input-{number}"
