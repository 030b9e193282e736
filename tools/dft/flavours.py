"""The density of one crystal as other codes and pseudopotentials would give it, with GPAW.

    OMP_NUM_THREADS=1 nice python3 tools/dft/flavours.py OUT [PART PARTS]

A valence density depends on how the core was treated. For crystals that are packed already, at their packed geometry,
this computes the valence density in these flavours, as far as the elements have data sets for them:

    augmented       the PAW pseudo density plus compensation charges: what VASP writes into CHGCAR
    large_core      PAW with semicore electrons in the core, where ours has them in the valence
    norm_conserving Hartwigsen-Goedecker-Hutter pseudopotentials (doi:10.1103/PhysRevB.58.3641), LDA
    norm_conserving_semicore  the same with semicore electrons

Writes NAME--FLAVOUR.json and NAME--FLAVOUR.npz (``density``, 1/Å^3). See README.md beside this.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
from analysis import even_grid
from ase import Atoms
from ase.units import Bohr
from compute import calculator, crystal_record, kpoints, valence_density
from jobs import arguments, run

PACKED = Path(__file__).parents[2] / "taskgroup/datasets/data/crystals/crystals.json.gz"
WANTED = 72  # crystals: enough for sixty where some calculations fail
# Crystals of which VASP files are public, so that a real file and its imitation can be compared.
ALWAYS = ("Al-fcc", "Si-diamond", "NaCl-rocksalt")

# Elements whose default PAW data set has semicore electrons in the valence, and the data set that has not.
LARGE_CORES = {
    "Ag": "11", "Ir": "9", "Mg": "2", "Mo": "6", "Na": "1", "Nb": "5", "Ni": "10", "Os": "8", "Pd": "10",
    "Pt": "10", "Rh": "9", "Ru": "8", "Ta": "5", "Te": "16", "V": "5", "W": "6",
}  # fmt: skip


def crystals() -> list[dict[str, Any]]:
    """Return packed records: equally many of every family, those with a large-core data set first."""
    with gzip.open(PACKED, "rt") as file:
        records = json.load(file)
    by_family: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        by_family.setdefault(record["family"], []).append(record)
    share = WANTED // len(by_family)
    chosen = [record for record in records if record["name"] in ALWAYS]
    for family in sorted(by_family):
        members = [record for record in by_family[family] if record["name"] not in ALWAYS]
        with_variant = [record for record in members if set(record["species"]) & set(LARGE_CORES)]
        without_variant = [record for record in members if record not in with_variant]
        # Every k-th record, so that the alphabet does not decide which elements are there.
        half = share // 2
        chosen += with_variant[:: max(1, len(with_variant) // half)][:half]
        rest = share - half
        chosen += without_variant[:: max(1, len(without_variant) // rest)][:rest]
    return chosen


def flavours_of(symbols: set[str]) -> dict[str, dict[str, Any]]:
    """Return settings of the calculator for each flavour that these elements have."""
    from gpaw.hgh import sc_setups, setups

    found: dict[str, dict[str, Any]] = {"augmented": {}}
    variants = {symbol: LARGE_CORES[symbol] for symbol in symbols & set(LARGE_CORES)}
    if variants:
        found["large_core"] = {"setups": variants}
    if symbols <= set(setups):
        found["norm_conserving"] = {"setups": "hgh", "xc": "LDA"}
    semicore = {symbol: "hgh.sc" for symbol in symbols & set(sc_setups)}
    if semicore and symbols <= set(setups) | set(sc_setups):
        found["norm_conserving_semicore"] = {"setups": {"default": "hgh", **semicore}, "xc": "LDA"}
    return found


def candidates() -> list[tuple[str, str, Atoms]]:
    """Return (NAME--FLAVOUR, family, atoms) of everything to compute."""
    wanted = []
    for record in crystals():
        atoms = Atoms(
            record["species"],
            cell=record["lattice"],
            scaled_positions=record["frac_coords"],
            pbc=True,
        )
        for flavour in flavours_of(set(record["species"])):
            wanted.append((f"{record['name']}--{flavour}", record["family"], atoms))
    return wanted


def augmented_density(atoms: Atoms, calc: Any) -> np.ndarray:
    """Return the pseudo valence density plus the valence part of the compensation charges, 1/Å^3 on the fine grid."""
    density = calc.density
    pseudo_valence = density.nt_sG.sum(0) - density.nspins * density.nct_G
    on_fine_grid = density.interpolate(pseudo_valence)
    multipoles = {
        atom: matrices[: density.nspins].sum(0) @ density.setups[atom].Delta_pL
        for atom, matrices in density.D_asp.items()
    }
    compensation = density.pd3.zeros()
    density.ghat.add(compensation, multipoles)
    return (on_fine_grid + density.pd3.ifft(compensation)) / Bohr**3


def compute(name: str, family: str, atoms: Atoms) -> tuple[dict[str, Any], np.ndarray]:
    """Return the record and the density of one crystal in one flavour."""
    _, flavour = name.split("--")
    settings = flavours_of(set(atoms.get_chemical_symbols()))[flavour]
    # Norm-conserving potentials are harder than PAW; the packed densities came from a spacing of .18 Å.
    spacing = 0.14 if flavour.startswith("norm_conserving") else 0.18
    grid = even_grid(atoms.cell.lengths(), spacing)
    settings = {"xc": "PBE", **settings}
    calc = calculator(effort="rough", gpts=grid, kpts=kpoints(2.6), **settings)
    atoms = atoms.copy()
    atoms.calc = calc
    atoms.get_potential_energy()
    electrons = float(calc.get_number_of_electrons())
    if flavour == "large_core":
        density, charge = valence_density(atoms, calc)
        found = charge["charge_before_normalisation"]
    else:
        density = augmented_density(atoms, calc)
        found = float(density.mean() * atoms.get_volume())
        density = density * (electrons / found)
    record = {
        "name": name,
        "crystal": name.split("--")[0],
        "flavour": flavour,
        "family": family,
        **crystal_record(atoms),
        "nelectrons": electrons,
        "grid": list(density.shape),
        "charge_before_normalisation": found,
        "density_max": float(density.max()),
        "settings": {key: str(value) for key, value in settings.items()},
    }
    return record, density


if __name__ == "__main__":
    run(candidates(), compute, arguments("Valence densities in other flavours.").parse_args())
