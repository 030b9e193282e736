"""The datasets that come with the package: PBE valence densities and properties of simple crystals, and of magnets.

``data/*/DATA_CARD.md`` describe how they were computed and what is approximate; ``tools/dft`` makes them.
"""

import gzip
import json
from functools import cache
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taskgroup.datasets.dataset import Dataset
from taskgroup.datasets.target import Target, TargetTable

TARGETS = (
    Target(
        "bulk_modulus",
        unit="GPa",
        transform="log10",
        description="Birch-Murnaghan fit of five volumes",
    ),
    Target(
        "volume",
        unit="Å^3",
        transform="log10",
        description="primitive cell at the minimum of the fit",
        per="cell",
    ),
    Target("density", unit="g/cm^3", transform="log10", description="mass over volume"),
    Target(
        "energy_per_atom",
        unit="eV/atom",
        description="to spin-paired spherical atoms: minus a cohesive energy",
    ),
    Target(
        "formation_energy",
        unit="eV/atom",
        description="to the most stable elemental crystal of the set, or molecule",
    ),
    Target(
        "fermi_energy",
        unit="eV",
        description="to the average potential; in insulators somewhere in the gap",
    ),
    Target("band_gap", unit="eV", description="PBE, on the k-grid"),
    Target("bandwidth", unit="eV", description="of the topmost connected occupied manifold"),
    Target("is_metal", kind="classification", description="band gap below 0.05 eV"),
    Target(
        "shear_modulus",
        unit="GPa",
        transform="log10",
        description="Hill's, of stable cubic crystals",
    ),
    Target(
        "mechanically_stable",
        kind="classification",
        description="Born's criteria, of cubic crystals",
    ),
)

MAGNETIC_TARGETS = (
    Target(
        "volume",
        unit="Å^3",
        transform="log10",
        description="primitive cell near the minimum of the energy",
        per="cell",
    ),
    Target("density", unit="g/cm^3", transform="log10", description="mass over volume"),
    Target(
        "energy_per_atom",
        unit="eV/atom",
        description="to spin-paired spherical atoms: minus a cohesive energy",
    ),
    Target("fermi_energy", unit="eV", description="to the average potential"),
    Target(
        "magnetic_moment",
        unit="μB/atom",
        description="total spin moment of the ferromagnetic state found",
    ),
    Target("is_magnetic", kind="classification", description="moment above 0.1 μB/atom"),
)


def data_folder(name: str = "crystals") -> Traversable:
    """Return the folder of a packaged dataset.

    It holds ``crystals.json.gz``, ``densities.npz``, ``manifest.json`` and ``chgcar/``.
    """
    return files("taskgroup.datasets") / "data" / name


@cache
def load_crystals() -> Dataset:
    """Load the spin-paired crystals with all their targets; the packaged files are read once per process."""
    return _load("crystals", TARGETS)


@cache
def load_magnets() -> Dataset:
    """Load the ferromagnetic crystals, whose densities have two channels (total, magnetisation); once per process."""
    return _load("magnets", MAGNETIC_TARGETS)


@cache
def load_flavours() -> Dataset:
    """Load densities of some of the crystals as other codes and pseudopotentials give them; once per process.

    Ids are ``CRYSTAL--FLAVOUR``; labels are those of the crystal in ``crystals``. They are for tests, not for training.
    """
    return _load("flavours", TARGETS)


def _load(name: str, targets: tuple[Target, ...]) -> Dataset:
    folder = data_folder(name)
    manifest = json.loads((folder / "manifest.json").read_text())
    records = json.loads(gzip.decompress((folder / "crystals.json.gz").read_bytes()))
    with as_file(folder / "densities.npz") as path:
        densities = packed_densities(path)
    ids = tuple(record["name"] for record in records)
    labels = [_labels(record["targets"], targets) for record in records]
    return Dataset.from_arrays(
        name=name,
        ids=ids,
        targets=TargetTable(targets, ids, np.array(labels)),
        densities=densities,
        lattices=[record["lattice"] for record in records],
        formulas=[record["formula"] for record in records],
        chemical_systems=[record["chemical_system"] for record in records],
        species=[record["species"] for record in records],
        frac_coords=[record["frac_coords"] for record in records],
        spacing=manifest["spacing"],
        sigma=manifest["sigma"],
        kind=manifest["kind"],
        version=manifest["version"],
    )


def packed_densities(path: Path) -> list[NDArray[np.float16]]:
    """Return the densities [C, n1, n2, n3] of a packed file, which holds all values one after the other."""
    with np.load(path, allow_pickle=False) as archive:
        shapes, values = archive["shapes"], archive["values"]
    densities = []
    start = 0
    for shape in shapes:
        end = start + int(shape.prod())
        densities.append(values[start:end].reshape(shape))
        start = end
    return densities


def _labels(values_by_name: dict[str, float | None], targets: tuple[Target, ...]) -> list[float]:
    """Return the labels of one crystal in the order of the targets, NaN where missing."""
    values = [values_by_name.get(target.name) for target in targets]
    return [np.nan if value is None else float(value) for value in values]
