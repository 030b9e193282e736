"""From a file or an object to a Density whose electrons have been counted."""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np

from taskgroup.densities._cube import CubeReader
from taskgroup.densities._objects import AseReader, PymatgenReader
from taskgroup.densities._vasp import VaspReader
from taskgroup.densities.density import Density
from taskgroup.densities.reader import Reader, refuse

_COUNT_TOLERANCE = 1e-3  # electrons, by which a sum over the grid may miss a whole number
_COUNT_ROUNDING = 2e-5  # of the charge: the five digits of CHG and cube files
_GIVEN_TOLERANCE = 1e-2  # of the charge, where the caller says how many electrons there are


def read_density(
    source: Any, *, electrons: float | None = None, all_electron: bool = False
) -> Density:
    """Read a density and count its electrons.

    ``source``: a path to a CHGCAR, CHG, AECCAR or cube file (plain, .gz, .xz, .bz2), a pair of paths (AECCAR0,
    AECCAR2) to be summed, a pymatgen Chgcar or VolumetricData, or an ASE/GPAW object.

    The files do not say how many electrons there are, but valence densities sum to a whole number on their own grid
    and others do not. So the integral must be within 0.001 of a whole number (plus 2e-5 of itself, for rounding),
    at least one an atom and at most the sum of the atomic numbers. ``electrons`` states the number instead (it need
    not be whole; the integral must come within 1 %). ``all_electron=True`` accepts a file that holds core
    electrons, or another charge that its grid cannot carry exactly, without counting; the density's kind says so.

    Raises DensityError, one line naming file, rule and what was found.
    """
    density = _read_pair(source) if _is_pair(source) else reader_for(source).read(_as_path(source))
    if electrons is not None:
        if abs(density.charge - electrons) > _GIVEN_TOLERANCE * abs(electrons):
            refuse(
                density.source,
                f"must hold {electrons:g} electrons within 1 %, found {density.charge:.4f}",
            )
    elif not all_electron:
        _count(density)
    elif density.charge <= 0:
        refuse(density.source, f"must hold a positive charge, found {density.charge:.4f} electrons")
    return replace(density, kind="all-electron") if all_electron else density


def _count(density: Density) -> None:
    """The rule for valence densities, see ``read_density``."""
    from pymatgen.core import Element

    charge, fewest = density.charge, len(density.species)
    most = sum(Element(symbol).Z for symbol in density.species)
    off = abs(charge - round(charge))
    if density.kind == "all-electron":
        rule = "holds core electrons, whose charge a grid cannot carry exactly"
    elif off > _COUNT_TOLERANCE + _COUNT_ROUNDING * abs(charge):
        rule = "must hold a whole number of electrons"
    elif not fewest - 0.5 <= charge <= most + 0.5:
        rule = f"must hold {fewest} to {most} electrons (one an atom, the sum of atomic numbers)"
    else:
        return
    hint = "say electrons=... if that is known to be right, or all_electron=True for a file with core electrons"
    refuse(density.source, f"{rule}, found {charge:.4f} (atomic numbers sum to {most}); {hint}")


def readers() -> tuple[Reader, ...]:
    """All readers: those of installed plug-ins first (entry points ``taskgroup.readers``), then the built-in ones."""
    return (*_plugins(), VaspReader(), CubeReader(), PymatgenReader(), AseReader())


@cache
def _plugins() -> tuple[Reader, ...]:
    found = sorted(entry_points(group="taskgroup.readers"), key=lambda entry: entry.name)
    return tuple(entry.load()() for entry in found)


def reader_for(source: Any) -> Reader:
    """The reader that takes this source. Raises DensityError where none does."""
    candidate = _as_path(source)
    for reader in readers():
        if reader.suits(candidate):
            return reader
    if isinstance(candidate, Path) and not candidate.exists():
        refuse(candidate, "no such file")
    known = "; ".join(reader.name for reader in readers())
    refuse(
        candidate if isinstance(candidate, Path) else type(source).__name__,
        f"no reader suits it; known: {known}",
    )


def _as_path(source: Any) -> Any:
    return Path(source) if isinstance(source, str | os.PathLike) else source


def _is_pair(source: Any) -> bool:
    return isinstance(source, tuple | list)


def _read_pair(pair: Sequence[Any]) -> Density:
    """The sum of two files of one calculation: AECCAR0 (core) and AECCAR2 (valence)."""
    name = " + ".join(map(str, pair))
    if len(pair) != 2:
        refuse(name, f"a sum takes two files (AECCAR0, AECCAR2), found {len(pair)}")
    first, second = (reader_for(part).read(_as_path(part)) for part in pair)
    if {first.kind, second.kind} != {"all-electron"}:
        refuse(name, "a sum takes AECCAR files (core and valence), found another kind of density")
    if first.values.shape != second.values.shape:
        refuse(name, f"both must have the same grid, found {first.grid} and {second.grid}")
    if first.species != second.species or not np.allclose(first.lattice, second.lattice, atol=1e-4):
        refuse(name, "both must describe the same crystal")
    return replace(first, values=first.values + second.values, source=name)
