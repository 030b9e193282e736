"""Spin-polarised crystals: two-channel densities and magnetic moments, with GPAW.

    OMP_NUM_THREADS=1 nice python3 tools/dft/magnets.py OUT [PART PARTS] [--packed crystals.json.gz] [--only NAME ...]

Elements, monoxides and mononitrides, B2 and L1_2 alloys and Heusler crystals X2YZ with Cr, Mn, Fe, Co and Ni, started
ferromagnetic: antiferromagnetic orders need larger cells and are not looked for. Volumes are those of ``approach``,
within a few per cent of the minimum, without an equation of state. Same settings and files as ``compute.py`` otherwise;
``density`` in NAME.npz is [2, nx, ny, nz] (total, magnetisation), and the record has ``magnetic_moment`` in Bohr
magnetons per atom. ``pack.py OUT DEST`` packs them, into a DEST of their own.
"""

import random
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from analysis import even_grid
from ase import Atoms
from compute import INSULATOR, approach, calculator, crystal_record, kpoints, valence_density
from jobs import arguments, run
from prototypes import Candidate, cubic
from prototypes import bond_length as bond

MIXER = {
    "method": "sum",
    "backend": "pulay",
    "beta": 0.1,
    "nmaxold": 5,
    "weight": 50,
}  # converges sooner than GPAW's
MAGNETIC = {
    "Cr": 3.0,
    "Mn": 3.5,
    "Fe": 2.5,
    "Co": 2.0,
    "Ni": 1.0,
}  # moments to start from, Bohr magnetons
CORNER, QUARTER, CENTER, THREE_QUARTERS = (0.0,) * 3, (0.25,) * 3, (0.5,) * 3, (0.75,) * 3
FACES = [(0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5)]


def magnets() -> list[Candidate]:
    """(name, family, atoms with initial moments) of every magnetic candidate; names end in ``-fm``.

    Small cells first, shuffled else.
    """
    families = (_elements, _rocksalts, _alloys, _heuslers)
    found = [_started(*candidate) for family in families for candidate in family()]
    random.Random(0).shuffle(found)
    return sorted(found, key=lambda candidate: len(candidate[2]))


def _started(name: str, family: str, atoms: Atoms) -> Candidate:
    atoms.set_initial_magnetic_moments(
        [MAGNETIC.get(symbol, 0.0) for symbol in atoms.get_chemical_symbols()]
    )
    return f"{name}-fm", family, atoms


def _elements() -> Iterator[Candidate]:
    for x in MAGNETIC:
        d = bond(x, x) * 0.9  # covalent radii of the high-spin state are too long for the metals
        yield f"{x}-fcc", "element", cubic([x], [CORNER], d * 2**0.5, "fcc")
        yield f"{x}-bcc", "element", cubic([x], [CORNER], d * 2 / 3**0.5, "bcc")


def _rocksalts() -> Iterator[Candidate]:
    for a, b in product(MAGNETIC, ("O", "S", "N")):
        yield f"{a}{b}-rocksalt", "AB", cubic([a, b], [CORNER, CENTER], 2 * bond(a, b), "fcc")


def _alloys() -> Iterator[Candidate]:
    partners = ("Al", "Ga", "Ti", "V", "Rh", "Pd", "Pt")
    for a, b in [
        *product(MAGNETIC, partners),
        ("Fe", "Co"),
        ("Fe", "Ni"),
        ("Mn", "Ni"),
        ("Mn", "Co"),
        ("Co", "Ni"),
    ]:
        d = 0.9 * bond(a, b)
        yield (
            f"{a}{b}-cesiumchloride",
            "intermetallic",
            cubic([a, b], [CORNER, CENTER], d * 2 / 3**0.5, "sc"),
        )
        yield (
            f"{a}3{b}-L12",
            "intermetallic",
            cubic([b, a, a, a], [CORNER, *FACES], d * 2**0.5, "sc"),
        )


def _heuslers() -> Iterator[Candidate]:
    for x, y, z in product(
        ("Fe", "Co", "Ni", "Cu"), ("Cr", "Mn", "Fe", "Ti", "V"), ("Al", "Ga", "Si", "Ge", "Sn")
    ):
        if x != y and (x in MAGNETIC or y in MAGNETIC):
            sites = [QUARTER, THREE_QUARTERS, CENTER, CORNER]
            yield (
                f"{x}2{y}{z}-heusler",
                "X2YZ",
                cubic([x, x, y, z], sites, 3.6 * bond(x, z) / 3**0.5, "fcc"),
            )


def compute(name: str, family: str, atoms: Atoms) -> tuple[dict[str, Any], np.ndarray]:
    """The record and the two-channel density of one ferromagnetic crystal."""
    from ase.dft.bandgap import bandgap

    atoms, gap = approach(atoms, mixer=MIXER)
    grid = even_grid(atoms.cell.lengths(), 0.18)
    atoms.calc = calculator(gpts=grid, kpts=kpoints(1.6 if gap > INSULATOR else 2.6), mixer=MIXER)
    total = float(atoms.get_potential_energy())
    density, charge = valence_density(atoms, atoms.calc)
    record = {
        "name": name,
        "family": family,
        **crystal_record(atoms),
        "energy": total,
        "energy_per_atom": total / len(atoms),
        "fermi_energy": float(atoms.calc.get_fermi_level()),
        "band_gap": float(bandgap(atoms.calc, output=None)[0]),
        "magnetic_moment": float(atoms.get_magnetic_moment()) / len(atoms),
        "moment_of_density": float(density[1].mean() * atoms.get_volume()),
        **charge,
    }
    return record, density


if __name__ == "__main__":
    run(
        magnets(),
        compute,
        arguments("Spin-polarised densities and moments of magnetic crystals.").parse_args(),
    )
