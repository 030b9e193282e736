"""C11, C12, C44, shear modulus and stability of cubic crystals that are computed already, with GPAW.

    OMP_NUM_THREADS=1 nice python3 tools/dft/elastic.py OUT --packed crystals.json.gz [PART PARTS] [--only NAME ...]

For each cubic crystal in the packed dataset: energies under a tetragonal and a shear strain at constant volume, around
the equilibrium found before. Atoms relax in the strained cell: most prototypes have none that may, but the sublattices
of zincblende, diamond, fluorite and half-Heusler shift under shear, and C44 would be too large without it.
Checked: Si gives 152, 57 and 74 GPa. Simple metals are hard: C44 of Al still fell from 45 to 33 GPa between 16 and 20
k-points an axis. Look at the energies in the record, which should lie on a parabola, before such a value is used.
Writes OUT/NAME.elastic.json, or OUT/NAME.elastic.fail, whole or not at all; what is there is not computed again.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
from analysis import even_grid
from ase import Atoms
from ase.calculators.calculator import kptdensity2monkhorstpack
from ase.optimize import BFGS
from compute import INSULATOR, calculator
from elasticity import cubic_constants, curvature, hill_shear, is_stable, mirrored, shear, tetragonal
from jobs import arguments, time_limit, write_whole

TETRAGONAL = (-0.03, -0.015, 0.0, 0.015, 0.03)
SHEAR = (0.0, 0.015, 0.03)
SMEARING = 0.1  # eV: strains move a Fermi surface through the k-grid, and less smearing makes that heard in E
METAL, INSULATING = 6.0, 3.0  # k-points per 1/Å
MOST_FORCE = 0.02  # eV/Å
MOST_STEPS = 12


def compute(record: dict[str, Any]) -> dict[str, Any]:
    """The elastic constants (GPa) of one packed crystal, and the energies (eV) they come from."""
    atoms = Atoms(record["species"], cell=record["lattice"], scaled_positions=record["frac_coords"], pbc=True)
    density = INSULATING if record["targets"]["band_gap"] > INSULATOR else METAL
    settings = {
        "gpts": even_grid(atoms.cell.lengths() * 1.03, 0.18),
        "kpts": {"size": tuple(map(int, kptdensity2monkhorstpack(atoms, density, even=False))), "gamma": True},
    }
    stretched = [strained_energy(atoms, tetragonal(d), settings) for d in TETRAGONAL]
    sheared = [stretched[TETRAGONAL.index(0.0)], *(strained_energy(atoms, shear(d), settings) for d in SHEAR[1:])]
    constants = cubic_constants(
        record["targets"]["bulk_modulus"],
        curvature(TETRAGONAL, stretched),
        curvature(*mirrored(SHEAR, sheared)),
        float(atoms.get_volume()),
    )
    return {
        "name": record["name"],
        **constants,
        "shear_modulus": hill_shear(**constants) if is_stable(**constants) else None,
        "mechanically_stable": int(is_stable(**constants)),
        "tetragonal_energies": stretched,
        "shear_energies": sheared,
    }


def strained_energy(atoms: Atoms, deformation: np.ndarray, settings: dict[str, Any]) -> float:
    """The energy (eV) of the crystal with its lattice deformed and its atoms relaxed."""
    crystal = atoms.copy()
    crystal.set_cell(np.array(atoms.cell) @ deformation, scale_atoms=True)
    crystal.calc = calculator(effort="tight", smearing=SMEARING, **settings)
    if len(crystal) > 1:
        BFGS(crystal, logfile=None).run(fmax=MOST_FORCE, steps=MOST_STEPS)
    return float(crystal.get_potential_energy())


def is_cubic(record: dict[str, Any]) -> bool:
    """Whether the crystal's prototype is cubic: all are, but hcp."""
    return not record["name"].endswith("-hcp")


def main() -> None:
    options = arguments("Elastic constants of cubic crystals in a packed dataset.").parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.packed:
        raise SystemExit("--packed is needed: the dataset whose crystals are strained")
    with gzip.open(options.packed, "rt") as file:
        records = [record for record in json.load(file) if is_cubic(record)]
    for position, record in enumerate(records):
        name = record["name"]
        done, failed = options.out / f"{name}.elastic.json", options.out / f"{name}.elastic.fail"
        chosen = name in options.only if options.only else position % options.parts == options.part
        if not chosen or done.exists() or (failed.exists() and not options.retry_failed):
            continue
        compute_one(record, options.time_limit, done, failed)


def compute_one(record: dict[str, Any], seconds: int, done: Path, failed: Path) -> None:
    try:
        with time_limit(seconds):
            result = compute(record)
    except Exception as error:  # noqa: BLE001 - any failure of one crystal must not stop the others
        write_whole(failed, repr(error).encode())
        print(f"{record['name']} failed: {repr(error)[:100]}", flush=True)
        return
    write_whole(done, json.dumps(result).encode())
    failed.unlink(missing_ok=True)
    print({key: value for key, value in result.items() if not key.endswith("energies")}, flush=True)


if __name__ == "__main__":
    main()
