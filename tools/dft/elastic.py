"""C11, C12 and C44 of cubic crystals that are computed already, from stresses, with GPAW.

    OMP_NUM_THREADS=1 nice python3 tools/dft/elastic.py OUT --packed crystals.json.gz [PART PARTS] [--only NAME ...]

For each cubic crystal in the packed dataset that has none: the stress under a stretch and under a shear around the
equilibrium found before. Atoms relax in the strained cell: most prototypes have none that may, but the sublattices of
zincblende, diamond, fluorite and half-Heusler shift under shear, and C44 would be too large without it. A strain moves
a Fermi surface through the k-grid, so metals are strained on two grids, with a wide smearing: what both say can be
trusted (``pack.py`` asks how well they agree). Free-electron metals such as Al need more than either, and are left out
there.
Writes OUT/NAME.elastic, or OUT/NAME.elastic.fail, whole or not at all; what is there is not computed again. The
cheap come first: insulators (half a minute), then metals by their atoms (minutes), among equals in a shuffled order.
"""

import gzip
import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
from analysis import even_grid
from ase import Atoms
from ase.calculators.calculator import kptdensity2monkhorstpack
from ase.optimize import BFGS
from compute import INSULATOR, calculator
from elasticity import EV_PER_A3, cubic_constants, shear, stretch
from jobs import arguments, time_limit, write_whole

STRAIN = 0.015
INSULATING, METALLIC = (2.5,), (4.2, 5.2)  # k-points per 1/Å of the grids, the finest last
METALS = {
    "name": "methfessel-paxton",
    "width": 0.3,
    "order": 1,
}  # eV; the free energy misses that of 0 K by width^4
MOST_FORCE = 0.01  # eV/Å
MOST_STEPS = 15


def compute(record: dict[str, Any]) -> dict[str, Any]:
    """The elastic constants (GPa) of one packed crystal on each k-grid, the finest last."""
    atoms = Atoms(
        record["species"], cell=record["lattice"], scaled_positions=record["frac_coords"], pbc=True
    )
    start = time.time()
    grids: list[dict[str, Any]] = []
    for density in METALLIC if is_metal(record) else INSULATING:
        size = tuple(map(int, kptdensity2monkhorstpack(atoms, density, even=False)))
        grids.append(
            {
                "gpts": even_grid(atoms.cell.lengths() * 1.03, 0.18),
                "kpts": {"size": size, "gamma": True},
            }
        )
        if is_metal(record):
            grids[-1]["occupations"] = METALS
    stresses = [
        strained_stresses(atoms, deformation(STRAIN), grids) for deformation in (stretch, shear)
    ]
    found = [
        {
            "kpts": grid["kpts"]["size"],
            **cubic_constants(record["targets"]["bulk_modulus"], *of_grid, STRAIN),
        }
        for grid, *of_grid in zip(grids, *stresses, strict=True)
    ]
    return {"name": record["name"], "grids": found, "seconds": time.time() - start}


def strained_stresses(
    atoms: Atoms, deformation: np.ndarray, grids: list[dict[str, Any]]
) -> list[np.ndarray]:
    """On each grid the stress (xx yy zz yz xz xy, GPa) of the crystal with lattice deformed and atoms relaxed."""
    crystal = atoms.copy()
    crystal.set_cell(np.array(atoms.cell) @ deformation, scale_atoms=True)
    stresses = []
    for settings in grids:  # where the atoms went on one grid is where they start on the next
        crystal.calc = calculator(**settings)
        if len(crystal) > 1:
            BFGS(crystal, logfile=None).run(fmax=MOST_FORCE, steps=MOST_STEPS)
        stresses.append(crystal.get_stress() * EV_PER_A3)
    return stresses


def is_metal(record: dict[str, Any]) -> bool:
    """Whether the crystal needs a metal's k-grid: its gap is small or none."""
    return record["targets"]["band_gap"] <= INSULATOR


def is_cubic(record: dict[str, Any]) -> bool:
    """Whether the crystal's prototype is cubic: all are, but hcp."""
    return not record["name"].endswith("-hcp")


def main() -> None:
    options = arguments("Elastic constants of cubic crystals in a packed dataset.").parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.packed:
        raise SystemExit("--packed is needed: the dataset whose crystals are strained")
    with gzip.open(options.packed, "rt") as file:
        records = [
            record for record in json.load(file) if is_cubic(record) and "c11" not in record["more"]
        ]
    random.Random(0).shuffle(records)
    records.sort(key=lambda record: (is_metal(record), len(record["species"])))
    for position, record in enumerate(records):
        name = record["name"]
        done, failed = options.out / f"{name}.elastic", options.out / f"{name}.elastic.fail"
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
    print(f"{result['name']} {result['seconds']:.0f} s {result['grids']}", flush=True)


if __name__ == "__main__":
    main()
