"""The dataset that comes with the package: PBE valence densities and properties of simple crystals.

``data/crystals/DATA_CARD.md`` tells how they were computed and what is approximate; ``tools/dft`` makes them.
"""

import gzip
import json
from functools import cache
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable

import numpy as np

from taskgroup.datasets.dataset import Dataset
from taskgroup.datasets.target import Target, TargetTable

TARGETS = (
    Target("bulk_modulus", unit="GPa", transform="log10", description="Birch-Murnaghan fit of five volumes"),
    Target("volume", unit="Å^3", transform="log10", description="primitive cell at the minimum of the fit"),
    Target("density", unit="g/cm^3", transform="log10", description="mass over volume"),
    Target("energy_per_atom", unit="eV/atom", description="to spin-paired spherical atoms: minus a cohesive energy"),
    Target(
        "formation_energy", unit="eV/atom", description="to the most stable elemental crystal of the set, or molecule"
    ),
    Target("fermi_energy", unit="eV", description="to the average potential; in insulators somewhere in the gap"),
    Target("band_gap", unit="eV", description="PBE, on the k-grid"),
    Target("bandwidth", unit="eV", description="of the topmost connected occupied manifold"),
    Target("is_metal", kind="classification", description="band gap below 0.05 eV"),
)


def data_folder() -> Traversable:
    """The folder of the packaged data: ``crystals.json.gz``, ``densities.npz``, ``manifest.json``, ``chgcar/``."""
    return files("taskgroup.datasets") / "data" / "crystals"


@cache
def load_crystals() -> Dataset:
    """The crystals with all their targets; reads the packaged files once a process."""
    folder = data_folder()
    manifest = json.loads((folder / "manifest.json").read_text())
    records = json.loads(gzip.decompress((folder / "crystals.json.gz").read_bytes()))
    with as_file(folder / "densities.npz") as path, np.load(path, allow_pickle=False) as archive:
        densities = archive["density"][:, None]
    ids = tuple(record["name"] for record in records)
    labels = [[_number(record["targets"][spec.name]) for spec in TARGETS] for record in records]
    return Dataset.from_arrays(
        name="crystals",
        ids=ids,
        targets=TargetTable(TARGETS, ids, np.array(labels)),
        densities=densities,
        lattices=[record["lattice"] for record in records],
        formulas=[record["formula"] for record in records],
        chemical_systems=[record["chemical_system"] for record in records],
        species=[record["species"] for record in records],
        frac_coords=[record["frac_coords"] for record in records],
        sigma=manifest["sigma"],
        kind=manifest["kind"],
        version=manifest["version"],
    )


def _number(label: float | None) -> float:
    return np.nan if label is None else float(label)
