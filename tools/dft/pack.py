"""Pack computed crystals into the dataset that the package ships.

    .venv/bin/python tools/dft/pack.py OUT [DEST]

Adds what ``compute.py`` and ``elastic.py`` left in OUT to what is packed in DEST already (default: the package's own
data), standardises the new densities, works out all formation energies afresh, and replaces the packed files. See
README.md beside this.
"""

import argparse
import gzip
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from elasticity import hill_shear, is_stable
from jobs import write_whole

from taskgroup.datasets.crystals import packed_densities
from taskgroup.densities import DEFAULT_SPACING, Density, standard_form

SIGMA = 0.20  # Å
ROUGHEST = 3e-3  # eV/atom by which an equation of state may miss its points
GAP, MOMENT = 0.05, 0.1  # eV, and Bohr magnetons per atom: less is a metal, or not magnetic
LOOSEST, LOOSEST_SHARE = (
    5.0,
    0.15,
)  # GPa, or share of it, by which an elastic constant may differ between two k-grids
HERE = Path(__file__).parents[2] / "taskgroup" / "datasets" / "data" / "crystals"
SETTINGS = {
    "code": "GPAW 22.8",
    "functional": "PBE",
    "setups": "PAW 0.9.20000",
    "mode": "plane waves, 500 eV",
    "occupations": "Fermi-Dirac, 0.05 eV",
}

# What a packed record calls a property: what the computing tools call it.
TARGETS = {
    "bulk_modulus": "bulk_modulus",
    "volume": "volume",
    "density": "mass_density",
    "energy_per_atom": "energy_per_atom",
    "formation_energy": "formation_energy",
    "fermi_energy": "fermi_energy",
    "band_gap": "band_gap",
    "bandwidth": "bandwidth",
    "is_metal": "is_metal",
    "magnetic_moment": "magnetic_moment",
    "is_magnetic": "is_magnetic",
}
MORE = {
    "direct_gap": "direct_gap",
    "dos_fermi": "dos_fermi",
    "bulk_modulus_derivative": "bprime",
    "eos_volumes": "eos_volumes",
    "eos_energies": "eos_energies",
    "eos_rms": "eos_rms",
}

Packed = dict[
    str, tuple[dict[str, Any], np.ndarray]
]  # name -> record, density float16 [1 or 2, n1, n2, n3] in its standard form


def packed_record(raw: dict[str, Any]) -> dict[str, Any]:
    """The record of a crystal as it is packed, from what the computing tools wrote; formation energy still missing."""
    from pymatgen.core import Composition

    composition = Composition("".join(raw["symbols"]))
    known = raw | {"is_metal": int(raw["band_gap"] < GAP)}
    if "magnetic_moment" in raw:
        known["is_magnetic"] = int(abs(raw["magnetic_moment"]) > MOMENT)
    else:
        known["formation_energy"] = None  # magnets have no references of their elements
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
        "targets": {target: known[key] for target, key in TARGETS.items() if key in known},
        "more": {name: known[key] for name, key in MORE.items() if key in known},
    }


def unfit(raw: dict[str, Any]) -> str | None:
    """Why a computed crystal is left out, if it is."""
    if "eos_rms" not in raw:
        return None
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
        density, reason = small_density(raw, path.with_suffix(".npz"))
        if reason:
            left_out[raw["name"]] = reason
            continue
        found[raw["name"]] = with_density(packed_record(raw), density)
    return found, left_out


def add_elastic(crystals: Packed, folder: Path) -> tuple[int, dict[str, str]]:
    """Give packed crystals the elastic constants in a folder: how many got any, and why some did not.

    The finest k-grid is believed where the one before it says the same. A crystal that both call unstable is so,
    however much they differ, and has no shear modulus.
    """
    left_out: dict[str, str] = {}
    done = 0
    for record, _ in crystals.values():
        path = folder / f"{record['name']}.elastic"
        if not path.exists():
            continue
        *before, best = [
            {name: grid[name] for name in ("c11", "c12", "c44")}
            for grid in json.loads(path.read_text())["grids"]
        ]
        stable = is_stable(**best)
        missed = max((_differs(coarse, best) for coarse in before), default=0.0)
        if any(is_stable(**coarse) != stable for coarse in before) or (stable and missed > 1):
            left_out[record["name"]] = f"elastic constants not converged: {before[-1]} and {best}"
            continue
        record["targets"]["shear_modulus"] = hill_shear(**best) if stable else None
        record["targets"]["mechanically_stable"] = int(stable)
        record["more"] |= best
        done += 1
    return done, left_out


def _differs(coarse: dict[str, float], fine: dict[str, float]) -> float:
    """By how many times what is allowed C' = (C11 - C12) / 2 or C44 differ."""
    pairs = [((c["c11"] - c["c12"]) / 2, c["c44"]) for c in (coarse, fine)]
    return max(
        abs(a - b) / max(LOOSEST, LOOSEST_SHARE * abs(b)) for a, b in zip(*pairs, strict=True)
    )


def small_density(raw: dict[str, Any], path: Path) -> tuple[Density, str]:
    """The density in the form that stores keep, and why the crystal is left out: its labels may count another cell."""
    with np.load(path, allow_pickle=False) as arrays:
        values = arrays["density"].astype(float)
    blocks = values if values.ndim == 4 else values[None]
    density = Density(
        blocks, raw["cell"], tuple(raw["symbols"]), raw["scaled_positions"], source=str(path)
    )
    small, report = standard_form(density, sigma=SIGMA, spacing=DEFAULT_SPACING)
    return small, f"computed in a {report}" if report.repeats > 1 else ""


def with_density(record: dict[str, Any], density: Density) -> tuple[dict[str, Any], np.ndarray]:
    """The record of a crystal in the cell and at the origin of its density, and the values as they are packed."""
    cell = {
        "species": list(density.species),
        "lattice": density.lattice.tolist(),
        "frac_coords": density.frac_coords.tolist(),
    }
    return record | cell, density.values.astype(np.float16)


def packed(folder: Path) -> Packed:
    """What is packed in a folder already; nothing where there is none."""
    if not (folder / "crystals.json.gz").exists():
        return {}
    records = json.loads(gzip.decompress((folder / "crystals.json.gz").read_bytes()))
    densities = packed_densities(folder / "densities.npz")
    return {
        record["name"]: (record, density)
        for record, density in zip(records, densities, strict=True)
    }


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
    densities = [density for _, density in rows]
    magnetic = len(densities[0]) == 2
    if not magnetic:
        set_formation_energies(records, molecules)
    about = {
        "name": "magnets" if magnetic else "crystals",
        "settings": SETTINGS | {"spin": "polarised, ferromagnetic" if magnetic else "paired"},
    }
    extra = {} if magnetic else {"molecules.json": json.dumps(molecules).encode()}
    return write_packed(rows, about, folder, extra)


def write_packed(
    rows: list[tuple[dict[str, Any], np.ndarray]],
    about: dict[str, Any],
    folder: Path,
    extra: dict[str, bytes] | None = None,
) -> dict[str, Any]:
    """Write records, densities, ``extra`` files and a manifest that says what ``about`` does; return the manifest."""
    records = [record for record, _ in rows]
    densities = [density for _, density in rows]
    arrays = io.BytesIO()
    np.savez_compressed(
        arrays,
        shapes=np.array([density.shape for density in densities]),
        values=np.concatenate([density.reshape(-1) for density in densities]),
    )
    content = {
        "crystals.json.gz": gzip.compress(json.dumps(records).encode(), 9, mtime=0),
        "densities.npz": arrays.getvalue(),
    }
    manifest = {
        "name": about["name"],
        **version_of(content, folder / "manifest.json"),
        "n": len(rows),
        "kind": "valence",
        "spacing": DEFAULT_SPACING,
        "sigma": SIGMA,
        **about,
    }
    folder.mkdir(parents=True, exist_ok=True)
    content |= extra or {}
    content["manifest.json"] = (json.dumps(manifest, indent=1) + "\n").encode()
    for name, data in content.items():
        write_whole(folder / name, data)
    return manifest


def version_of(content: dict[str, bytes], manifest: Path) -> dict[str, Any]:
    """The checksums of the packed files, and a version that is one up where they differ from the manifest's."""
    sha256 = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(content.items())}
    whole = hashlib.sha256("".join(sha256.values()).encode()).hexdigest()
    before = (
        json.loads(manifest.read_text()) if manifest.exists() else {"version": "0", "hash": None}
    )
    return {
        "version": str(int(before["version"]) + (before["hash"] != whole)),
        "hash": whole,
        "sha256": sha256,
    }


def write_chgcar(raw: dict[str, Any], values: np.ndarray, path: Path) -> None:
    """A computed crystal's total density as CHGCAR.gz on its native grid: what a user would bring."""
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
    raise SystemExit(
        f"No energies of molecules in {' or '.join(map(str, candidates))}: run molecules.py first."
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Pack computed crystals into the package's dataset."
    )
    parser.add_argument("out", type=Path, help="folder that compute.py wrote")
    parser.add_argument(
        "dest", type=Path, nargs="?", default=HERE, help="packed dataset to extend (default: ours)"
    )
    parser.add_argument(
        "--chgcar", nargs="+", default=[], metavar="NAME", help="also write these as CHGCAR.gz"
    )
    options = parser.parse_args()
    molecules = read_molecules(
        options.out / "molecules.ref", options.dest / "molecules.json", HERE / "molecules.json"
    )
    crystals = packed(options.dest)
    new, left_out = computed(options.out, set(crystals))
    crystals |= new
    strained, not_converged = add_elastic(crystals, options.out)
    manifest = write(crystals, molecules, options.dest)
    for name in options.chgcar:
        raw = json.loads((options.out / f"{name}.json").read_text())
        with np.load(options.out / f"{name}.npz", allow_pickle=False) as arrays:
            write_chgcar(raw, arrays["density"], options.dest / "chgcar" / f"{name}.CHGCAR.gz")
    print(f"{manifest['n']} crystals ({len(new)} new), {strained} with new elastic constants")
    print(f"version {manifest['version']}, hash {manifest['hash'][:12]}")
    for name, reason in (left_out | not_converged).items():
        print(f"left out {name}: {reason}")


if __name__ == "__main__":
    main()
