"""The structure at the beginning of a VASP file."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from taskgroup.densities.elements import is_element
from taskgroup.densities.reader import one_line, refuse

# What pymatgen raises on text that is no POSCAR.
_PARSE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
# Lines: comment, scale, three lattice vectors.
_N_LATTICE_LINES = 5
_SMALLEST_VOLUME = 1e-6
# "H1.25" and "H.75": hydrogen with a fractional core charge, which saturates a surface.
_PSEUDO_HYDROGEN = re.compile(r"H\d*\.\d+")


@dataclass(frozen=True)
class Poscar:
    """A crystal: lattice [3, 3] in Å, its volume in Å^3, element symbols, fractional coordinates [atoms, 3]."""

    lattice: np.ndarray
    volume: float
    species: tuple[str, ...]
    frac_coords: np.ndarray


def begins_poscar(lines: Sequence[bytes]) -> bool:
    """Return whether five lines are a comment, one or three scale factors and three lattice vectors."""
    if len(lines) < _N_LATTICE_LINES:
        return False
    counts = []
    for line in lines[1:_N_LATTICE_LINES]:
        try:
            counts.append(len([float(word) for word in line.split()]))
        except ValueError:
            return False
    return counts[0] in (1, 3) and counts[1:] == [3, 3, 3] and not _is_numbers(lines[0])


def read_poscar(lines: list[str], source: Any) -> Poscar:
    """Return the crystal that the lines of a POSCAR describe. Raises DensityError, which names the source.

    Beyond pymatgen: three scale factors, one for each Cartesian component; pseudo-hydrogens as hydrogen.
    """
    from pymatgen.io.vasp.inputs import BadPoscarWarning
    from pymatgen.io.vasp.inputs import Poscar as PymatgenPoscar

    lines = [line.rstrip("\r\n") for line in lines]
    if len(lines) < _N_LATTICE_LINES + 3:
        refuse(source, f"must begin with a POSCAR of at least 8 lines, found {len(lines)}")
    _check_lattice(lines, source)
    _check_species(lines, source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", BadPoscarWarning)
            structure = PymatgenPoscar.from_str("\n".join(lines) + "\n").structure
    except BadPoscarWarning as warning:
        refuse(source, f"must name its elements ({one_line(warning)})")
    except _PARSE_ERRORS as error:
        refuse(source, f"must begin with a POSCAR, which does not parse ({one_line(error)})")
    species = tuple(site.specie.symbol for site in structure)
    lattice = structure.lattice
    return Poscar(lattice.matrix, lattice.volume, species, structure.frac_coords)


def _is_numbers(line: bytes) -> bool:
    try:
        return len([float(word) for word in line.split()]) > 0
    except ValueError:
        return False


def _check_lattice(lines: list[str], source: Any) -> None:
    """Refuse a lattice that does not parse; turn three scale factors into one in place."""
    try:
        factors = [float(word) for word in lines[1].split()[:3]]
    except ValueError:
        factors = [float(lines[1].split()[0])] if _starts_with_number(lines[1]) else []
    try:
        vectors = np.array([_three_floats(line) for line in lines[2:_N_LATTICE_LINES]])
    except ValueError as error:
        refuse(source, f"must begin with a POSCAR, which does not parse ({one_line(error)})")
    if len(factors) not in (1, 3) or not np.isfinite(factors).all() or 0 in factors:
        refuse(source, f"must have one or three scale factors, found '{lines[1].strip()[:60]}'")
    if len(factors) == 3:
        if min(factors) < 0:
            refuse(source, f"three scale factors must be positive, found {factors}")
        vectors = vectors * factors
        _write_vectors(lines, vectors)
        _scale_cartesian(lines, np.array(factors))
    if abs(np.linalg.det(vectors)) < _SMALLEST_VOLUME:
        refuse(source, "the lattice must span a volume, found vectors in one plane")


def _starts_with_number(line: str) -> bool:
    words = line.split()
    return bool(words) and _is_numbers(words[0].encode())


def _three_floats(line: str) -> list[float]:
    numbers = [float(word) for word in line.split()[:3]]
    if len(numbers) != 3 or not np.isfinite(numbers).all():
        raise ValueError(f"a lattice vector must be three numbers, found '{line.strip()[:60]}'")
    return numbers


def _write_vectors(lines: list[str], vectors: np.ndarray) -> None:
    lines[1] = "1.0"
    for number, vector in enumerate(vectors, start=2):
        lines[number] = " ".join(repr(float(x)) for x in vector)


def _scale_cartesian(lines: list[str], factors: np.ndarray) -> None:
    """Scale Cartesian coordinates too, which the three factors also multiply."""
    for number in range(_N_LATTICE_LINES + 1, len(lines)):
        if lines[number].strip()[:1] in ("C", "c", "K", "k"):
            break
    else:
        return
    for place in range(number + 1, len(lines)):
        words = lines[place].split()
        try:
            scaled = [float(word) for word in words[:3]] * factors
        except ValueError:
            return
        lines[place] = " ".join([*(repr(float(x)) for x in scaled), *words[3:]])


def _check_species(lines: list[str], source: Any) -> None:
    """Refuse species that are no elements and counts that are no counts; name elements only, in place."""
    place = _N_LATTICE_LINES
    n_symbols = 0
    # VASP writes at most 20 symbols on a line; the counts follow.
    while place < len(lines) and not _is_counts(lines[place]):
        if _starts_with_number(lines[place]):
            refuse(source, f"numbers of atoms must be whole, found '{lines[place].strip()[:60]}'")
        symbols = [_element(word, source) for word in lines[place].split()]
        lines[place] = " ".join(symbols)
        n_symbols += len(symbols)
        place += 1
    counts: list[int] = []
    while place < len(lines) and _is_counts(lines[place]):
        counts += [int(word) for word in lines[place].split()]
        place += 1
        if n_symbols and len(counts) >= n_symbols:
            break
    if not counts or min(counts) < 0 or sum(counts) == 0:
        refuse(source, f"numbers of atoms must be positive, found {counts or 'none'}")
    if n_symbols and n_symbols != len(counts):
        refuse(
            source,
            f"must have a number of atoms per element, found {n_symbols} elements, {len(counts)} numbers",
        )
    # A line per atom: a header that promises more is refused before memory is taken for it.
    if sum(counts) > len(lines) - place:
        refuse(
            source,
            f"must list {sum(counts)} atoms, found {max(len(lines) - place - 1, 0)} lines for them",
        )


def _is_counts(line: str) -> bool:
    words = line.split()
    return bool(words) and all(re.fullmatch(r"[-+]?\d+", word) for word in words)


def _element(word: str, source: Any) -> str:
    """Return the element of a word such as ``Na``, ``Na_pv``, ``Mg_pv/f474ac0d`` or ``H1.25``."""
    symbol = word.split("/")[0].split("_")[0]
    if _PSEUDO_HYDROGEN.fullmatch(symbol):
        return "H"
    if not is_element(symbol):
        refuse(
            source,
            f"every species must be an element, found '{word[:20]}': a vacancy, a dummy or a damaged header; "
            "name its elements",
        )
    return symbol
