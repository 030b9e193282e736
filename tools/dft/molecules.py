"""Energies of the elements whose reference is a molecule, with the crystals' cutoff.

    OMP_NUM_THREADS=1 python3 tools/dft/molecules.py OUT

Writes OUT/molecules.ref, {symbol: eV/atom}, which ``pack.py`` reads; resumable.
"""

import json
import math
import sys
from pathlib import Path

from ase import Atoms
from compute import CUTOFF
from jobs import write_whole

# symbol: (bond length in Å, magnetic moment in Bohr magnetons)
DIATOMIC = {
    "H": (0.75, 0),
    "N": (1.10, 0),
    "O": (1.23, 2),
    "F": (1.42, 0),
    "Cl": (2.00, 0),
    "Br": (2.31, 0),
    "I": (2.69, 0),
}


def sulfur_ring(bond: float = 2.06, height: float = 1.0) -> Atoms:
    """S8: a crown of eight atoms, alternately ``height`` Å apart along its axis, neighbours ``bond`` Å apart."""
    radius = math.sqrt(bond**2 - height**2) / (2 * math.sin(math.pi / 8))
    angles = [k * math.pi / 4 for k in range(8)]
    return Atoms(
        "S8",
        [
            (radius * math.cos(a), radius * math.sin(a), height / 2 * (-1) ** k)
            for k, a in enumerate(angles)
        ],
    )


def molecules() -> dict[str, tuple[Atoms, int]]:
    """Element -> (molecule in its box, magnetic moment)."""
    pairs = {
        x: (Atoms([x, x], [(0, 0, 0), (0, 0, d)], cell=[8, 8.2, 9]), m)
        for x, (d, m) in DIATOMIC.items()
    }
    ring = sulfur_ring()
    ring.set_cell([10, 10.2, 8])
    return {**pairs, "S": (ring, 0)}


def energy_per_atom(atoms: Atoms, moment: int) -> float:
    """eV/atom on GPAW's zero, as the crystals' energies."""
    from gpaw import GPAW, PW, FermiDirac

    atoms.center()
    atoms.pbc = True
    if moment:
        atoms.set_initial_magnetic_moments([moment / len(atoms)] * len(atoms))
    atoms.calc = GPAW(
        mode=PW(CUTOFF),
        xc="PBE",
        spinpol=bool(moment),
        occupations=FermiDirac(0.02, fixmagmom=bool(moment)),
        convergence={"energy": 5e-4, "density": 1e-3},
        txt=None,
    )
    return atoms.get_potential_energy() / len(atoms)


def main(folder: Path) -> None:
    path = folder / "molecules.ref"
    known = json.loads(path.read_text()) if path.exists() else {}
    for element, (atoms, moment) in molecules().items():
        if element not in known:
            known[element] = energy_per_atom(atoms, moment)
            write_whole(path, json.dumps(known).encode())
            print(element, known[element], flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
