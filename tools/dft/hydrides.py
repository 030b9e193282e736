"""PBE valence densities of crystals with hydrogen, at published geometries, with GPAW.

    OMP_NUM_THREADS=1 nice python3 tools/dft/hydrides.py OUT --structures matbench_phonons.json.gz [PART PARTS]

Hydrogen is the element that a density shows least: beside oxygen or nitrogen it makes no maximum of its own. This
computes the density of every crystal with hydrogen in a file of the Matbench format ({index, data: [[structure, y]]}),
at the geometry given there (relaxed with PBEsol by G. Petretto et al., doi:10.1038/sdata.2018.65), smallest first.
One self-consistent run each: nothing is relaxed, so there is no bulk modulus.
Writes NAME.json and NAME.npz (``density``, 1/Å^3), or NAME.fail. See README.md beside this.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
from analysis import even_grid
from ase import Atoms
from compute import calculator, crystal_record, electrons, kpoints, valence_density
from jobs import arguments, run

FAMILY = "hydride"
MOST_ATOMS = 16  # above, a run takes longer than ten minutes


def candidates(path: Path) -> list[tuple[str, str, Atoms]]:
    """Return (name, family, atoms) of the crystals with hydrogen in a file of the Matbench format."""
    with gzip.open(path, "rt") as file:
        table = json.load(file)
    found = []
    for index, (structure, _) in zip(table["index"], table["data"], strict=True):
        atoms = as_atoms(structure)
        if "H" in atoms.get_chemical_symbols() and len(atoms) <= MOST_ATOMS:
            found.append((f"{atoms.get_chemical_formula()}-phonon{index}", FAMILY, atoms))
    return sorted(found, key=lambda candidate: len(candidate[2]))


def as_atoms(structure: dict[str, Any]) -> Atoms:
    """Return the atoms of a pymatgen structure written as a dictionary."""
    symbols = [site["species"][0]["element"] for site in structure["sites"]]
    positions = [site["abc"] for site in structure["sites"]]
    return Atoms(symbols, cell=structure["lattice"]["matrix"], scaled_positions=positions, pbc=True)


def compute(name: str, family: str, atoms: Atoms) -> tuple[dict[str, Any], np.ndarray]:
    """Return the record and the density of one crystal."""
    atoms = atoms.copy()
    grid = even_grid(atoms.cell.lengths(), 0.18)
    atoms.calc = calculator(effort="rough", gpts=grid, kpts=kpoints(2.0))
    energy = float(atoms.get_potential_energy())
    density, charge = valence_density(atoms, atoms.calc)
    record = {
        "name": name,
        "family": family,
        **crystal_record(atoms),
        "energy": energy,
        "energy_per_atom": energy / len(atoms),
        **electrons(atoms, atoms.calc),
        **charge,
    }
    return record, density


if __name__ == "__main__":
    parser = arguments("Valence densities of crystals with hydrogen.")
    parser.add_argument(
        "--structures", type=Path, required=True, help="file of the Matbench format"
    )
    options = parser.parse_args()
    run(candidates(options.structures), compute, options)
