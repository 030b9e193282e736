"""Pack the densities that ``flavours.py`` computed into a small dataset that the package ships.

    .venv/bin/python tools/dft/pack_flavours.py OUT [DEST]

Each density is standardised as those of ``crystals`` are, and gets the labels of its crystal there: labels do not
depend on how a core was treated, so predictions should not either. See README.md beside this.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from pack import HERE, Packed, packed, small_density, with_density, write_packed

DEST = HERE.parent / "flavours"
SETTINGS = {
    "code": "GPAW 22.8",
    "augmented": "PAW with compensation charges, as VASP writes CHGCAR",
    "large_core": "PAW, semicore electrons in the core",
    "norm_conserving": "Hartwigsen-Goedecker-Hutter pseudopotentials, LDA",
    "norm_conserving_semicore": "the same with semicore electrons in the valence",
}
# Of the parent's record, what also holds for its flavours.
KEPT = ("formula", "chemical_system", "family", "targets")


def flavour_record(raw: dict[str, Any], crystal: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a flavour, from what ``flavours.py`` wrote and the packed record of its crystal."""
    kept = {key: crystal[key] for key in KEPT}
    return kept | {
        "name": raw["name"],
        "crystal": raw["crystal"],
        "flavour": raw["flavour"],
        "valence_electrons": raw["nelectrons"],
        "native_grid": raw["grid"],
    }


def flavours(folder: Path, crystals: Packed) -> tuple[list[tuple[dict[str, Any], np.ndarray]], int]:
    """Return packed rows of all finished flavours of packed crystals, by name, and how many were left out."""
    rows = []
    left_out = 0
    for path in sorted(folder.glob("*--*.json")):
        raw = json.loads(path.read_text())
        arrays = path.with_suffix(".npz")
        if raw["crystal"] not in crystals or not arrays.exists():
            left_out += 1
            continue
        density, reason = small_density(raw, arrays)
        if reason:
            left_out += 1
            continue
        record = flavour_record(raw, crystals[raw["crystal"]][0])
        rows.append(with_density(record, density))
    return rows, left_out


def main() -> None:
    parser = argparse.ArgumentParser(description="Pack densities of other flavours.")
    parser.add_argument("out", type=Path, help="folder that flavours.py wrote")
    parser.add_argument("dest", type=Path, nargs="?", default=DEST)
    options = parser.parse_args()
    rows, left_out = flavours(options.out, packed(HERE))
    manifest = write_packed(rows, {"name": "flavours", "settings": SETTINGS}, options.dest)
    n_crystals = len({record["crystal"] for record, _ in rows})
    print(f"{len(rows)} densities of {n_crystals} crystals, {left_out} left out")
    print(f"version {manifest['version']}, hash {manifest['hash'][:12]}")


if __name__ == "__main__":
    main()
