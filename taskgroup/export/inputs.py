"""Inputs of a prediction: datasets, files, folders and objects in memory, brought to the form the networks take."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from taskgroup.datasets import Dataset, load_dataset
from taskgroup.datasets.store.manifest import MANIFEST
from taskgroup.densities import (
    CellReport,
    Density,
    find_vacuum,
    is_archive_path,
    read_density,
    read_structure,
    readers,
    standard_form,
    standard_promolecule,
)
from taskgroup.densities.atom_match import misplaced_atoms_note
from taskgroup.densities.standardise import sampled, standard_grid
from taskgroup.errors import BundleError, InputError, MissingDependency, StoreError, TaskgroupError
from taskgroup.export.bundle import Bundle
from taskgroup.export.folders import folder_materials

# Grid points may be so much farther apart than asked for: text files round lattice vectors.
_ROUNDING = 1 + 1e-6

OnError = Callable[[str, TaskgroupError], None]


class Stated(NamedTuple):
    """What the caller says of all files: their valence electrons, and which of several configurations is meant."""

    electrons: float | None = None
    frame: int | None = None


NOTHING_STATED = Stated()


class Item(NamedTuple):
    """One input: id, density [C, n1, n2, n3] in e/Å^3 as standardised for the bundle, cell [3, 3] in Å, and atoms.

    ``note`` says what was done to the cell that was given, where a user should know.
    """

    id: str
    density: NDArray[np.float32]
    lattice: NDArray[np.float64]
    species: tuple[str, ...]
    frac_coords: NDArray[np.float64]
    note: str = ""


def as_dataset(inputs: Any) -> Dataset | None:
    """Return the dataset that is given, named, or stored in the folder given; None where the input is none.

    A folder that is no store may hold calculations; it is one of the sources of ``source_items``.
    """
    if isinstance(inputs, Dataset):
        return inputs
    if not isinstance(inputs, str | Path) or Path(inputs).is_file():
        return None
    try:
        return load_dataset(inputs)
    except StoreError:
        if not Path(inputs).exists() or _holds_files(Path(inputs)):
            return None
        raise


def dataset_items(
    bundle: Bundle, dataset: Dataset, rows: Sequence[int], batch_size: int
) -> Iterator[Item]:
    """Yield rows of a dataset; densities are read ``batch_size`` at a time."""
    row_numbers = np.asarray(rows, dtype=np.int64)
    n_channels = bundle.spec.density.n_channels
    for start in range(0, len(row_numbers), batch_size):
        batch = row_numbers[start : start + batch_size]
        for row, stored in zip(batch, dataset.read(batch), strict=True):
            density = _on_grid(
                bundle, stored[:n_channels].astype(np.float32), dataset.lattices[row]
            )
            yield Item(
                dataset.ids[row],
                density,
                dataset.lattices[row],
                dataset.species[row],
                dataset.frac_coords[row],
            )


def source_items(
    bundle: Bundle, inputs: Any, on_error: OnError | None, stated: Stated = NOTHING_STATED
) -> Iterator[Item]:
    """Yield single densities or structures, given alone or in a list; see ``predict`` for what they may be."""
    sources: Iterable[Any] = inputs
    if _is_single(inputs):
        sources = [inputs]
    for name, source in _named(bundle, sources, on_error):
        try:
            yield standardised(bundle, source, name, stated)
        # a package that one format needs must not stop the other files
        except (InputError, MissingDependency) as error:
            if on_error is None:
                raise
            on_error(name, error)


def standardised(bundle: Bundle, source: Any, name: str, stated: Stated = NOTHING_STATED) -> Item:
    """Return one input as the networks take it. Raises InputError: not the kind of density the bundle takes."""
    wanted = bundle.spec.density
    density, report = _standard_density(bundle, source, name, stated)
    # Datasets store float16, and the networks were trained on what they store.
    stored = density.values[: wanted.n_channels].astype(np.float16)
    notes = [report.note, _atoms_note(density)]
    vacuum = find_vacuum(density.values[0], density.lattice)
    if vacuum:
        notes.append(f"{vacuum}; networks that learnt from filled cells do not know such")
    return Item(
        name,
        stored.astype(np.float32),
        density.lattice,
        density.species,
        density.frac_coords,
        "; ".join(filter(None, notes)),
    )


def _atoms_note(density: Density) -> str:
    # those of a promolecule made it
    return "" if density.kind == "promolecule" else misplaced_atoms_note(density)


def check_dataset(bundle: Bundle, dataset: Dataset) -> None:
    """Refuse a dataset whose densities are not the kind the bundle takes. Raises BundleError.

    Those on another grid are taken if it holds all that the low-pass left: they are resampled by their Fourier series.
    """
    wanted = bundle.spec.density
    names = ["kind", "sigma"]
    if not _is_fine(dataset):
        names += ["grid", "spacing"]
    for name in names:
        expected, found = getattr(wanted, name), getattr(dataset, name)
        if found != expected:
            raise BundleError(
                f"dataset '{dataset.name}': {name} of the densities must be {expected} for this bundle, "
                f"but '{dataset.name}' has {found}."
            )
    _check_channels(bundle, dataset.n_channels, f"dataset '{dataset.name}'")


def _is_fine(dataset: Dataset) -> bool:
    """Return whether the points of all rows are as near as the width of the low-pass: what they miss is below 1 %."""
    distances = np.linalg.norm(dataset.lattices, axis=2) / dataset.shapes
    return bool(distances.max(initial=0) <= dataset.sigma * _ROUNDING)


def _on_grid(
    bundle: Bundle, density: NDArray[np.float32], lattice: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return a stored density on the grid that the bundle takes."""
    wanted = bundle.spec.density
    grid = standard_grid(lattice, wanted.grid, wanted.sigma, wanted.spacing)
    if density.shape[1:] == grid:
        return density
    return sampled(density.astype(float), lattice, grid).astype(np.float32)


def _named(
    bundle: Bundle, sources: Iterable[Any], on_error: OnError | None
) -> Iterator[tuple[str, Any]]:
    """Yield every source with its id; of a folder or an archive, one source per material in it."""

    def refuse(name: str, error: InputError) -> None:
        if on_error is None:
            raise error
        on_error(name, error)

    for number, source in enumerate(sources):
        try:
            if not _is_collection(source, bundle.spec.density.kind):
                yield _name(source, number), source
                continue
            materials = folder_materials(Path(source), bundle.spec.density.kind)
        except InputError as error:
            refuse(str(source), error)
            continue
        for material in materials:
            if material.problem:
                refuse(material.id, InputError(f"{source}: {material.problem}"))
            elif len(material.files) == 1:
                yield material.id, material.files[0]
            else:
                yield material.id, material.files


def _is_collection(source: Any, kind: str) -> bool:
    """Return whether a source is a folder, or an archive of densities."""
    if not isinstance(source, str | Path):
        return False
    path = Path(source)
    if path.is_dir():
        return True
    return kind != "promolecule" and is_archive_path(path)


def _holds_files(folder: Path) -> bool:
    """Return whether a folder may hold calculations: it has files, and no store was begun in it."""
    if (folder / MANIFEST).exists():
        return False
    return any(path.is_file() for path in folder.rglob("*"))


def _standard_density(
    bundle: Bundle, source: Any, name: str, stated: Stated
) -> tuple[Density, CellReport]:
    """Return one input as datasets store it, in its primitive cell, and what was done to the cell that was given."""
    wanted = bundle.spec.density
    if isinstance(source, str):
        source = Path(source)
    if wanted.kind == "promolecule" and not isinstance(source, Density):
        structure = _structure(source, name)
        return standard_promolecule(
            structure, wanted.grid, wanted.sigma, name, spacing=wanted.spacing
        )
    density = source
    if not isinstance(source, Density):
        density = _read(source, name, wanted.kind, stated)
    if density.kind != wanted.kind:
        raise BundleError(
            f"{name}: this bundle takes {wanted.kind} densities, but found one of kind {density.kind}."
        )
    _check_channels(bundle, density.n_channels, name)
    sigma = wanted.sigma
    grid = standard_grid(density.lattice, wanted.grid, wanted.sigma, wanted.spacing)
    if density.kind == "promolecule" and density.grid == grid:
        # Promolecules were low-passed when they were made.
        sigma = 0.0
    return standard_form(density, wanted.grid, sigma, spacing=wanted.spacing)


def _structure(source: Any, name: str) -> Any:
    """Return the structure that a bundle of promolecules makes its density of."""
    if _holds_density(source):
        raise BundleError(
            f"{name}: this bundle takes structures (it makes promolecules of them), "
            "but found a DFT density; give the structure."
        )
    if isinstance(source, Path):
        return read_structure(source)
    return source


def _read(source: Any, name: str, kind: str, stated: Stated) -> Density:
    if isinstance(source, Path) and source.exists() and not _holds_density(source):
        raise BundleError(
            f"{name}: this bundle takes {kind} densities, but the file's name is none of a density "
            "(CHGCAR, CHG, AECCAR, *.cube); a structure alone is not enough."
        )
    return read_density(source, all_electron=kind == "all-electron", **stated._asdict())


def _holds_density(source: Any) -> bool:
    return isinstance(source, tuple) or any(reader.suits(source) for reader in readers())


def _check_channels(bundle: Bundle, found: int, name: str) -> None:
    """Raise BundleError where a channel is missing: of two the total may be used, a magnetisation cannot be made up."""
    wanted = bundle.spec.density.n_channels
    if found < wanted:
        raise BundleError(
            f"{name}: this bundle takes {wanted} channels (total, magnetisation), but found {found}."
        )


def _is_single(inputs: Any) -> bool:
    """Return whether the input is one density or structure; those of pymatgen and ASE have such attributes."""
    is_ours = isinstance(inputs, str | Path | Density)
    return is_ours or hasattr(inputs, "structure") or hasattr(inputs, "lattice")


def _name(source: Any, number: int) -> str:
    """Return the id of an input: its path, or its number where it has none."""
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, tuple):
        return " + ".join(map(str, source))
    if isinstance(source, Density) and source.source not in ("", "memory"):
        return source.source
    return f"input-{number}"
