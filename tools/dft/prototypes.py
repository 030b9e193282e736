"""Candidate crystals by prototype: the names, families and guessed lattice constants that everything starts from.

Bond lengths are guessed from covalent radii; ``compute.py`` finds the minimum from there. ``candidates.txt`` holds the
names that are worth computing: a draw from these, so that every family is there in fair number.
"""

import random
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

Candidate = tuple[str, str, Atoms]  # name, family, atoms at the guessed lattice constant

_METALS = (
    "Li Na K Rb Cs Be Mg Ca Sr Ba Sc Y La Ti Zr Hf V Nb Ta Mo W Tc Re Ru Os Rh Ir Pd Pt Cu Ag Au Zn Cd Al Ga In Tl Sn "
    "Pb Sb Bi Si Ge As P Se Te"
)
_PRIMITIVE = {
    "sc": np.eye(3),
    "fcc": np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2,
    "bcc": np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]) / 2,
}
_CORNER, _QUARTER, _CENTER, _THREE_QUARTERS = (0, 0, 0), (0.25,) * 3, (0.5,) * 3, (0.75,) * 3
_FACES = [(0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]


def candidates(seed: int = 0) -> list[Candidate]:
    """All candidates, shuffled: the first hundred are of every family."""
    families = (_elements, _ab, _ab2, _abx3, _half_heuslers, _intermetallics)
    unique = {
        candidate[0]: candidate
        for family in reversed(families)
        for candidate in reversed(list(family()))
    }
    found = list(reversed(unique.values()))
    random.Random(seed).shuffle(found)
    return found


def wanted() -> list[Candidate]:
    """The candidates named in ``candidates.txt``, in the order of computing: small and reliable ones first."""
    names = set((Path(__file__).parent / "candidates.txt").read_text().split())

    def effort(candidate: Candidate) -> tuple[bool, bool, bool]:
        name, family, atoms = candidate
        simple = family == "element" and ("fcc" in name or "diamond" in name)
        return len(atoms) > 3, not simple, family == "element" and "hcp" in name

    return sorted((candidate for candidate in candidates() if candidate[0] in names), key=effort)


def cubic(
    symbols: list[str], positions: list[tuple[float, ...]], constant: float, lattice: str
) -> Atoms:
    """The primitive cell of a cubic crystal; ``positions`` in units of the cubic lattice constant (Å)."""
    return Atoms(
        symbols,
        cell=constant * _PRIMITIVE[lattice],
        positions=np.array(positions) * constant,
        pbc=True,
    )


def bond_length(*symbols: str) -> float:
    """A guess, Å: the sum of the covalent radii."""
    return sum(covalent_radii[atomic_numbers[symbol]] for symbol in symbols)


def _pairs(*groups: tuple[str, str]) -> list[tuple[str, ...]]:
    return [pair for first, second in groups for pair in product(first.split(), second.split())]


def _elements() -> Iterator[Candidate]:
    for x in _METALS.split():
        d = bond_length(x, x)
        hexagonal = Atoms(
            [x, x],
            cell=[d, d, 1.633 * d, 90, 90, 120],
            scaled_positions=[(1 / 3, 2 / 3, 0.25), (2 / 3, 1 / 3, 0.75)],
            pbc=True,
        )
        yield f"{x}-fcc", "element", cubic([x], [_CORNER], d * 2**0.5, "fcc")
        yield f"{x}-bcc", "element", cubic([x], [_CORNER], d * 2 / 3**0.5, "bcc")
        yield f"{x}-hcp", "element", hexagonal
        yield f"{x}-sc", "element", cubic([x], [_CORNER], d, "sc")
    for x in ("C", "Si", "Ge", "Sn", "B", "Ga", "P", "As"):
        yield (
            f"{x}-diamond",
            "element",
            cubic([x, x], [_CORNER, _QUARTER], bond_length(x, x) * 4 / 3**0.5, "fcc"),
        )


def _ab() -> Iterator[Candidate]:
    pairs = _pairs(
        ("Li Na K Rb Cs Cu Ag Tl", "F Cl Br I"),
        ("Be Mg Ca Sr Ba Zn Cd Sn Pb", "O S Se Te"),
        ("Sc Y La B Al Ga In", "N P As Sb"),
        ("Ti Zr Hf Si Ge Sn V Nb Ta", "C N"),
    )
    for a, b in [*pairs, ("Si", "Ge"), ("Si", "Sn"), ("Ge", "Sn")]:
        d = bond_length(a, b)
        yield f"{a}{b}-rocksalt", "AB", cubic([a, b], [_CORNER, _CENTER], 2 * d, "fcc")
        yield f"{a}{b}-zincblende", "AB", cubic([a, b], [_CORNER, _QUARTER], 4 * d / 3**0.5, "fcc")
        yield (
            f"{a}{b}-cesiumchloride",
            "AB",
            cubic([a, b], [_CORNER, _CENTER], 2 * d / 3**0.5, "sc"),
        )


def _ab2() -> Iterator[Candidate]:
    pairs = _pairs(
        ("Be Mg Ca Sr Ba Zn Cd Pb Sn", "F Cl Br I"),
        ("Ti Zr Hf Si Ge Sn Pb", "O S Se"),
    )
    # Antifluorite: the name's second element sits on the fluorine sites.
    pairs += [(b, a) for a, b in _pairs(("Li Na K Rb Cs Cu Ag", "O S Se Te"))]
    pairs += [(b, a) for a, b in _pairs(("Be Mg Ca Sr Ba", "C Si Ge Sn Pb"))]
    pairs += _pairs(("Ti Zr Hf Sc Y La Mg Ca", "H"))
    for a, b in pairs:
        constant = 4 * bond_length(a, b) / 3**0.5
        yield (
            f"{a}{b}2-fluorite",
            "AB2",
            cubic([a, b, b], [_CORNER, _QUARTER, _THREE_QUARTERS], constant, "fcc"),
        )


def _triples(*groups: tuple[str, str, str]) -> list[tuple[str, ...]]:
    return [
        triple for group in groups for triple in product(*(symbols.split() for symbols in group))
    ]


def _abx3() -> Iterator[Candidate]:
    for a, b, x in _triples(
        ("Na K Rb Cs Ag", "V Nb Ta", "O"),
        ("Mg Ca Sr Ba Pb Sn Cd", "Ti Zr Hf Si Ge Sn", "O"),
        ("La Y Bi", "Al Ga In Sc", "O"),
        ("Na K Rb Cs", "Mg Ca Sr Zn Cd Pb Sn Ge", "F Cl Br I"),
        ("Ca Sr Ba", "Ti Zr Hf", "S"),
    ):
        atoms = cubic([a, b, x, x, x], [_CORNER, _CENTER, *_FACES], 2 * bond_length(b, x), "sc")
        yield f"{a}{b}{x}3-perovskite", "ABX3", atoms


def _half_heuslers() -> Iterator[Candidate]:
    for a, b, x in _triples(
        ("Li Na K", "Be Mg Zn Cd Ca", "N P As Sb"),
        ("Ti Zr Hf", "Ni Pd Pt", "Ge Sn Pb"),
        ("Ti Zr Hf", "Co Rh Ir", "As Sb Bi"),
        ("V Nb Ta", "Fe Ru Os", "As Sb"),
        ("Sc Y La", "Ni Pd Pt", "Sb Bi"),
    ):
        atoms = cubic(
            [a, b, x], [_CENTER, _QUARTER, _CORNER], 4 * bond_length(b, x) / 3**0.5, "fcc"
        )
        yield f"{a}{b}{x}-halfheusler", "ABX", atoms


def _intermetallics() -> Iterator[Candidate]:
    for a, b in _pairs(("Sc Y Ti Zr Hf Mg Ca Al Li", "Ru Rh Pd Ag Cu Zn Ni Ir Pt Au Cd")):
        atoms = cubic([a, b], [_CORNER, _CENTER], bond_length(a, b) * 2 / 3**0.5, "sc")
        yield f"{a}{b}-cesiumchloride", "intermetallic", atoms
    for a, b in _pairs(("Al Ti Zr Sc Mg Ca In Sn", "Ni Pd Pt Cu Ag Au Rh Ir")):
        atoms = cubic([a, b, b, b], [_CORNER, *_FACES], bond_length(a, b) * 2**0.5, "sc")
        yield f"{b}3{a}-L12", "intermetallic", atoms
