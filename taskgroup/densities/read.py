"""From a file or an object to a Density whose electrons have been counted."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from taskgroup.densities.archives import (
    archive_of,
    entries,
    is_archive_name,
    is_archive_path,
    members,
    read_member,
)
from taskgroup.densities.density import Density
from taskgroup.densities.electrons import check_count, check_stated
from taskgroup.densities.fields import refuse_negative, refuse_other_fields
from taskgroup.densities.formats.abinit import AbinitReader
from taskgroup.densities.formats.cube import CubeReader
from taskgroup.densities.formats.gpaw import GpawReader
from taskgroup.densities.formats.mp_json import JsonReader
from taskgroup.densities.formats.objects import AseReader, PymatgenReader
from taskgroup.densities.formats.siesta import SiestaReader
from taskgroup.densities.formats.vasp import VaspReader
from taskgroup.densities.formats.vaspwave import VaspwaveReader
from taskgroup.densities.formats.xsf import XsfReader
from taskgroup.densities.reader import Member, Reader, bare_name, one_line, refuse
from taskgroup.errors import DensityError, TaskgroupError
from taskgroup.registry import Registry

#: The readers by name: those of taskgroup, and those of plug-ins (entry points ``taskgroup.readers``).
READERS: Registry[type[Reader]] = Registry(
    "density reader",
    "taskgroup.readers",
    {
        "vasp": VaspReader,
        "cube": CubeReader,
        "xsf": XsfReader,
        "abinit": AbinitReader,
        "vaspwave": VaspwaveReader,
        "siesta": SiestaReader,
        "gpaw": GpawReader,
        "json": JsonReader,
        "pymatgen": PymatgenReader,
        "ase": AseReader,
    },
    DensityError,
)

# Å. Two files of one calculation print the same lattice with five digits or more.
_SAME_LATTICE = 1e-4


def read_density(
    source: Any,
    *,
    electrons: float | None = None,
    all_electron: bool = False,
    frame: int | None = None,
) -> Density:
    """Read a density and count its electrons.

    Parameters
    ----------
    source: a path to a density file (CHGCAR, cube, ...; plain or compressed, see ``compression``), a path into an
        archive (``set.tar/mp-1/CHGCAR``), a member of one (``archives.members``), a pair of paths
        (AECCAR0, AECCAR2) to be summed, a pymatgen Chgcar or VolumetricData, or an ASE/GPAW object.
    electrons: the number of valence electrons, where the rule below does not hold (charged or doped cells,
        pseudo-hydrogens, strided cubes). It need not be whole; the integral must come within 1 %.
    all_electron: accept a file that holds core electrons, or another charge that its grid cannot carry exactly,
        without counting; the density's kind says so.
    frame: which configuration of a file with several, 0 is the first, -1 the last.

    The files do not say how many electrons there are, but valence densities sum to a whole number on their own grid
    and others do not. So the integral must be within 0.001 of a whole number (plus 2e-5 of itself, for rounding), and
    be a number that the valence electrons of these atoms can have: at least three quarters of those beside the largest
    usual cores, and without the 1s electrons beyond Be. Fields whose name, comment or sign says that they are no total
    density are refused in any case.

    Raises DensityError, one line that names file, rule, what was found and what to do.
    """
    density = _read_uncounted(source, frame)
    with np.errstate(over="ignore", invalid="ignore"):
        is_finite = np.isfinite(density.charge)
    if not is_finite:
        refuse(density.source, "must hold a finite charge, found numbers too large to be summed")
    if electrons is not None:
        check_stated(density, electrons)
    elif not all_electron:
        check_count(density)
    elif density.charge <= 0:
        refuse(density.source, f"must hold a positive charge, found {density.charge:.4f} electrons")
    refuse_negative(density)
    if all_electron:
        return replace(density, kind="all-electron")
    return density


def readers() -> tuple[Reader, ...]:
    """Return all readers: those of installed plug-ins first, then the built-in ones."""
    builtin = READERS.builtin_names
    plugins = [name for name in READERS if name not in builtin]
    return tuple(READERS[name]() for name in (*plugins, *builtin))


def reader_for(source: Any) -> Reader:
    """Return the reader that takes this source. Raises DensityError if none does."""
    candidate = _as_path(source)
    for reader in readers():
        if reader.suits(candidate):
            return reader
    if isinstance(candidate, Path) and not candidate.exists():
        refuse(candidate, "no such file")
    name = bare_name(candidate)
    if name is not None:
        # "LOCPOT: a potential" says more than that nothing reads it.
        refuse_other_fields(candidate, name)
    label = candidate if name is not None else type(source).__name__
    known = "; ".join(reader.name for reader in readers())
    refuse(label, f"no reader suits it; known: {known}")


def _read_uncounted(source: Any, frame: int | None) -> Density:
    source = _opened(source)
    reader = None
    if not _is_pair(source) or PymatgenReader().suits(source):
        reader = reader_for(source)
    if reader is None:
        return _read_pair(source)
    return _read_with(reader, source, frame)


def _read_with(reader: Reader, source: Any, frame: int | None = None) -> Density:
    """Read, and turn whatever a parser raises into a DensityError: one bad file must not stop the others."""
    try:
        if frame is None:
            return reader.read(source)
        return reader.read_frame(source, frame)
    except (TaskgroupError, KeyboardInterrupt):
        raise
    except Exception as error:
        name = source if isinstance(source, Path | Member) else type(source).__name__
        kind = type(error).__name__
        raise DensityError(
            f"{name}: must be a {reader.name}, which does not parse ({kind}: {one_line(error)})"
        ) from error


def density_members(path: Path) -> Iterator[Member]:
    """Yield those files of an archive that a reader takes, one in memory at a time. Raises DensityError."""
    takers = readers()

    def may_be_density(name: str) -> bool:
        return any(reader.may_suit(name) for reader in takers)

    for member in members(path, may_be_density):
        if any(reader.suits(member) for reader in takers):
            yield member


def density_paths(folder: Path) -> Iterator[Path | DensityError]:
    """Yield the path of each file under a folder, or in an archive, that a reader takes, in the order of their names.

    Files of archives under the folder come too, as paths into them (``set.tar/mp-1/CHGCAR``), in the order of the
    archive. An archive that cannot be read gives an error in place of what is left of it.
    """
    takers = readers()
    paths = [folder] if folder.is_file() else sorted(folder.rglob("*"))
    for path in paths:
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            if is_archive_path(path):
                yield from _paths_in_archive(path, takers)
                continue
        except DensityError as error:
            yield error
            continue
        if any(reader.suits(path) for reader in takers):
            yield path


def _paths_in_archive(archive: Path, takers: Sequence[Reader]) -> Iterator[Path]:
    for name, read in entries(archive):
        # What macOS adds to archives has the names of the files that it describes.
        if PurePosixPath(name).name.startswith("."):
            continue
        by_name = Member(str(archive), name, b"")
        is_density = any(reader.suits(by_name) for reader in takers)
        if not is_density and any(reader.may_suit(name) for reader in takers):
            member = Member(str(archive), name, read())
            is_density = any(reader.suits(member) for reader in takers)
        if is_density:
            yield Path(f"{archive}/{name}")


def _single_member(path: Path) -> Member:
    """Return the only density of an archive."""
    found = list(islice(density_members(path), 2))
    if len(found) != 1:
        names = ", ".join(member.name for member in found) or "none"
        refuse(
            path,
            f"an archive read as one density must hold one, found {names}{', ...' if len(found) > 1 else ''}; "
            f"name one of them, as in {path}/NAME, or read them one by one with density_members",
        )
    return found[0]


def _as_path(source: Any) -> Any:
    return Path(source) if isinstance(source, str | os.PathLike) else source


def _opened(source: Any) -> Any:
    """Return a path, the file that a path into an archive leads to, or another source as it is."""
    path = _as_path(source)
    if not isinstance(path, Path):
        return source
    if path.is_file():
        return _single_member(path) if is_archive_name(path.name) else path
    archive = archive_of(path)
    return path if archive is None else read_member(path, archive)


def _is_pair(source: Any) -> bool:
    return isinstance(source, tuple | list)


def _read_pair(pair: Sequence[Any]) -> Density:
    """Return the sum of two files of one calculation: AECCAR0 (core) and AECCAR2 (valence)."""
    name = " + ".join(map(str, pair))
    if len(pair) != 2:
        refuse(name, f"a sum takes two files (AECCAR0, AECCAR2), found {len(pair)}")
    first, second = (_read_with(reader_for(part), part) for part in map(_opened, pair))
    if {first.kind, second.kind} != {"all-electron"}:
        refuse(name, "a sum takes AECCAR files (core and valence), found another kind of density")
    if first.values.shape != second.values.shape:
        refuse(name, f"both must have the same grid, found {first.grid} and {second.grid}")
    same_lattice = np.allclose(first.lattice, second.lattice, atol=_SAME_LATTICE)
    if first.species != second.species or not same_lattice:
        refuse(name, "both must describe the same crystal")
    return replace(first, values=first.values + second.values, source=name)
