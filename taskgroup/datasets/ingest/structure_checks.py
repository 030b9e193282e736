"""Checks of a crystal against what its file, or the property table, states of its composition."""

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from taskgroup.densities import read_structure
from taskgroup.densities.compression import bare_name, read_file
from taskgroup.errors import DensityError

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

# What curators write into a file whose atoms are not all there: ICSD, COD and CSD each in their words.
_MISSING_ATOMS = re.compile(
    r"(?:(?:h|hydrogen|d|deuterium)[- ]?atoms?|hydrogens|atoms?|positions?|coordinates?)"
    r"[^.\n;]{0,40}?(?:missing|not (?:located|determined|found|given|included|refined)|omitted|unknown)"
    r"|missing (?:h\b|hydrogen|atoms?|positions?)|no (?:h|hydrogen) atoms",
    re.IGNORECASE,
)
_FORMULA_TAG = re.compile(
    r"^_chemical_formula_sum\s+(?:'([^'\n]+)'|\"([^\"\n]+)\"|(\S+))", re.MULTILINE
)
_TOLERANCE = 0.02


def read_checked_structure(path: Path) -> tuple["Structure", str]:
    """Read a structure file, and note what it says of missing atoms.

    Raises DensityError: its atoms are not the formula that it states.
    """
    structure = _read_quietly(path)
    if not bare_name(path.name).lower().endswith((".cif", ".mcif")):
        return structure, ""
    text = read_file(path).decode(errors="replace")
    stated = _stated_formula(text)
    if stated is not None and not _same_composition(stated, structure.composition):
        raise DensityError(
            f"{path}: states the formula {stated.reduced_formula}, but its atoms are "
            f"{structure.composition.reduced_formula}: atoms are missing, or their occupancies wrong"
        )
    remark = _MISSING_ATOMS.search(text)
    if remark is None:
        return structure, ""
    words = " ".join(remark.group().split())
    if stated is None:
        raise DensityError(f"{path}: says that atoms are missing ('{words}')")
    return structure, f"the file says '{words}', though its atoms are the formula it states"


def _read_quietly(path: Path) -> "Structure":
    # pymatgen warns of what it repairs, such as rounded coordinates; composition is compared below
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_structure(path)


def _stated_formula(text: str) -> "Composition | None":
    """Return the formula that a CIF states; None where there is none that can be read."""
    match = _FORMULA_TAG.search(text)
    if match is None:
        return None
    stated = next(group for group in match.groups() if group is not None)
    if "?" in stated or stated.strip() == ".":
        return None
    return _composition(stated.replace(" ", ""))


def _composition(formula: str) -> "Composition | None":
    from pymatgen.core import Composition

    try:
        composition = Composition(formula)
    # pymatgen raises many kinds on what is no formula
    except Exception:  # noqa: BLE001
        return None
    return composition if composition else None


def _same_composition(a: "Composition", b: "Composition") -> bool:
    """Tell if two compositions have the same elements in the same shares; deuterium counts as hydrogen."""
    return _shares_agree(_shares(a), _shares(b))


def _shares(composition: "Composition") -> dict[str, float]:
    shares: dict[str, float] = {}
    for species, share in composition.fractional_composition.items():
        symbol = getattr(species, "element", species).symbol
        name = "H" if symbol in ("D", "T") else symbol
        shares[name] = shares.get(name, 0.0) + share
    return shares


def _shares_agree(a: dict[str, float], b: dict[str, float]) -> bool:
    if a.keys() != b.keys():
        return False
    return all(abs(a[symbol] - b[symbol]) <= _TOLERANCE * max(a[symbol], b[symbol]) for symbol in a)


def formula_note(stated: str, species: Sequence[str]) -> str:
    """Return a note where a row's crystal is another one than the property table states; '' where they agree."""
    from pymatgen.core import Composition

    table = _composition(stated)
    if table is None:
        return ""
    crystal = Composition(Counter(species))
    if _same_composition(table, crystal):
        return ""
    return f"the table states {stated[:60]}, the file holds {crystal.reduced_formula}"
