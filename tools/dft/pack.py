"""Pack computed crystals into the dataset that the package ships.

    .venv/bin/python tools/dft/pack.py OUT [DEST]

Adds what ``compute.py`` left in OUT to what is packed in DEST already (default: the package's own data), standardises
the new densities, works out all formation energies afresh, and replaces the packed files. See README.md beside this.
"""

import argparse
import gzip
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from jobs import write_whole

from taskgroup.densities import Density, standardise

SIGMA, GRID = 0.20, 32  # Å, points an axis
ROUGHEST = 3e-3  # eV/atom by which an equation of state may miss its points
HERE = Path(__file__).parents[2] / "taskgroup" / "datasets" / "data" / "crystals"
SETTINGS = {
    "code": "GPAW 22.8",
    "functional": "PBE",
    "setups": "PAW 0.9.20000",
    "mode": "plane waves, 500 eV",
    "occupations": "Fermi-Dirac, 0.05 eV",
    "spin": "paired",
}

Packed = dict[str, tuple[dict[str, Any], np.ndarray]]  # name -> record, density float16 [32, 32, 32]


def packed_record(raw: dict[str, Any]) -> dict[str, Any]:
    """The record of a crystal as it is packed, from what ``compute.py`` wrote; formation energy still missing."""
    from pymatgen.core import Composition

    composition = Composition("".join(raw["symbols"]))
    return {
        "name": raw["name"],
        "formula": composition.reduced_formula,
        "chemical_system": composition.chemical_system,
        "family": raw["family"],
        "species": raw["symbols"],
        "lattice": raw["cell"],
        "frac_coords": raw["scaled_positions"],
        "valence_electrons": raw["nelectrons"],
        "native_grid": raw["grid"],
        "targets": {
            "bulk_modulus": raw["bulk_modulus"],
            "volume": raw["volume"],
            "density": raw["mass_density"],
            "energy_per_atom": raw["energy_per_atom"],
            "formation_energy": None,
            "fermi_energy": raw["fermi_energy"],
            "band_gap": raw["band_gap"],
            "bandwidth": raw["bandwidth"],
            "is_metal": int(raw["band_gap"] < 0.05),
        },
        "more": {
            "direct_gap": raw["direct_gap"],
            "dos_fermi": raw["dos_fermi"],
            "bulk_modulus_derivative": raw["bprime"],
            "eos_volumes": raw["eos_volumes"],
            "eos_energies": raw["eos_energies"],
            "eos_rms": raw["eos_rms"],
        },
    }


def unfit(raw: dict[str, Any]) -> str | None:
    """Why a computed crystal is left out, if it is."""
    if raw["eos_rms"] / raw["natoms"] > ROUGHEST:
        return f"equation of state rough by {raw['eos_rms'] / raw['natoms'] * 1e3:.1f} meV/atom"
    return None if raw["bulk_modulus"] > 0 else f"bulk modulus {raw['bulk_modulus']:.1f} GPa"


def computed(folder: Path, known: set[str]) -> tuple[Packed, dict[str, str]]:
    """The crystals in the computing tool's folder that are not known yet, and why some were left out."""
    found: Packed = {}
    left_out: dict[str, str] = {}
    for path in sorted(folder.glob("*.json")):
        raw = json.loads(path.read_text())
        if raw["name"] in known or not path.with_suffix(".npz").exists():
            continue
        reason = unfit(raw)
        if reason:
            left_out[raw["name"]] = reason
            continue
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
            values = arrays["density"].astype(float)[None]
        density = Density(values, raw["cell"], tuple(raw["symbols"]), raw["scaled_positions"], source=str(path))
        small = standardise(density, n=GRID, sigma=SIGMA).values[0].astype(np.float16)
        found[raw["name"]] = packed_record(raw), small
    return found, left_out


def packed(folder: Path) -> Packed:
    """What is packed in a folder already; nothing where there is none."""
    if not (folder / "crystals.json.gz").exists():
        return {}
    records = json.loads(gzip.decompress((folder / "crystals.json.gz").read_bytes()))
    with np.load(folder / "densities.npz", allow_pickle=False) as arrays:
        densities = arrays["density"]
    return {record["name"]: (record, density) for record, density in zip(records, densities, strict=True)}


def set_formation_energies(records: list[dict[str, Any]], molecules: dict[str, float]) -> None:
    """Formation energies (eV/atom), relative to the most stable elemental crystal or the molecule.

    They stay missing (None) where an element has neither.
    """
    reference = dict(molecules)
    for record in records:
        if len(set(record["species"])) == 1:
            element, energy = record["species"][0], record["targets"]["energy_per_atom"]
            reference[element] = min(reference.get(element, energy), energy)
    for record in records:
        species, targets = record["species"], record["targets"]
        missing = [element for element in species if element not in reference]
        elements = 0.0 if missing else sum(reference[element] for element in species) / len(species)
        targets["formation_energy"] = None if missing else targets["energy_per_atom"] - elements


def write(crystals: Packed, molecules: dict[str, float], folder: Path) -> dict[str, Any]:
    """Write the packed files and their manifest, each whole or not at all, and return the manifest.

    The bytes depend on the crystals only, so packing twice gives the same hash; the version counts the changes.
    """
    rows = [crystals[name] for name in sorted(crystals)]
    records = [record for record, _ in rows]
    set_formation_energies(records, molecules)
    arrays = io.BytesIO()
    np.savez_compressed(arrays, density=np.array([density for _, density in rows]))
    content = {
        "crystals.json.gz": gzip.compress(json.dumps(records).encode(), 9, mtime=0),
        "densities.npz": arrays.getvalue(),
    }
    manifest = make_manifest(content, len(rows), folder / "manifest.json")
    folder.mkdir(parents=True, exist_ok=True)
    content["molecules.json"] = json.dumps(molecules).encode()
    content["manifest.json"] = (json.dumps(manifest, indent=1) + "\n").encode()
    for name, data in content.items():
        write_whole(folder / name, data)
    return manifest


def make_manifest(content: dict[str, bytes], n: int, previous: Path) -> dict[str, Any]:
    """Version, size, checksums and settings of the packed files."""
    sha256 = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(content.items())}
    whole = hashlib.sha256("".join(sha256.values()).encode()).hexdigest()
    before = json.loads(previous.read_text()) if previous.exists() else {"version": "0", "hash": None}
    version = int(before["version"]) + (before["hash"] != whole)
    return {
        "name": "crystals",
        "version": str(version),
        "n": n,
        "hash": whole,
        "sha256": sha256,
        "kind": "valence",
        "grid": GRID,
        "sigma": SIGMA,
        "settings": SETTINGS,
    }


def write_chgcar(raw: dict[str, Any], values: np.ndarray, path: Path) -> None:
    """A computed crystal as CHGCAR.gz on its native grid: what a user would bring."""
    from pymatgen.core import Lattice, Structure
    from pymatgen.io.vasp.outputs import Chgcar

    structure = Structure(Lattice(raw["cell"]), raw["symbols"], raw["scaled_positions"])
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = path.with_suffix("")
    Chgcar(structure, {"total": values.astype(float) * structure.volume}).write_file(plain)
    write_whole(path, gzip.compress(plain.read_bytes(), 9, mtime=0))
    plain.unlink()


def read_molecules(*candidates: Path) -> dict[str, float]:
    """The molecules' energies, eV/atom, from the first file that is there."""
    for path in candidates:
        if path.exists():
            return json.loads(path.read_text())
    raise SystemExit(f"No energies of molecules in {' or '.join(map(str, candidates))}: run molecules.py first.")


def main() -> None:
    parser = argparse.ArgumentParser(description="Pack computed crystals into the package's dataset.")
    parser.add_argument("out", type=Path, help="folder that compute.py wrote")
    parser.add_argument("dest", type=Path, nargs="?", default=HERE, help="packed dataset to extend (default: ours)")
    parser.add_argument("--chgcar", nargs="+", default=[], metavar="NAME", help="also write these as CHGCAR.gz")
    options = parser.parse_args()
    molecules = read_molecules(options.out / "molecules.ref", options.dest / "molecules.json", HERE / "molecules.json")
    crystals = packed(options.dest)
    new, left_out = computed(options.out, set(crystals))
    manifest = write(crystals | new, molecules, options.dest)
    for name in options.chgcar:
        raw = json.loads((options.out / f"{name}.json").read_text())
        with np.load(options.out / f"{name}.npz", allow_pickle=False) as arrays:
            write_chgcar(raw, arrays["density"], options.dest / "chgcar" / f"{name}.CHGCAR.gz")
    print(f"{manifest['n']} crystals ({len(new)} new), version {manifest['version']}, hash {manifest['hash'][:12]}")
    for name, reason in left_out.items():
        print(f"left out {name}: {reason}")


if __name__ == "__main__":
    main()
