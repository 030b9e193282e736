"""One source turned into one row of a store: read, checked, standardised."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from taskgroup.datasets.density_rows import to_float16
from taskgroup.datasets.ingest.sources import Source
from taskgroup.datasets.ingest.structure_checks import formula_note, read_checked_structure
from taskgroup.datasets.store import LARGEST_PART_BYTES, Refused, Row, StoreSettings
from taskgroup.densities import (
    CellReport,
    Density,
    read_density,
    standard_form,
    standard_promolecule,
    structure_of_line,
)
from taskgroup.errors import DensityError, TaskgroupError

_LONGEST_REASON = 500


@dataclass(frozen=True)
class Made:
    """Rows made of the first ``n_sources`` sources, what was refused, and notes by row id."""

    rows: list[Row]
    refused: list[Refused]
    notes: dict[str, str]
    n_sources: int


def make_rows(sources: Sequence[Source], settings: StoreSettings) -> Made:
    """Make the rows of these sources; a source that breaks a rule never stops the others.

    Rows of large cells are made until they take 64 MB, so that a process holds no more.
    """
    rows: list[Row] = []
    refused: list[Refused] = []
    notes: dict[str, str] = {}
    n_bytes = 0
    n_sources = 0
    for source in sources:
        if n_bytes >= LARGEST_PART_BYTES:
            break
        n_sources += 1
        try:
            row, note = _make_row(source, settings)
        except TaskgroupError as error:
            refused.append(Refused(source.id, str(source), str(error)))
        # Parsers of files from anywhere raise anything; what they say is the reason for this one file.
        except Exception as error:  # noqa: BLE001
            reason = " ".join(str(error).split())[:_LONGEST_REASON]
            reason = f"{source}: cannot be read ({type(error).__name__}: {reason})"
            refused.append(Refused(source.id, str(source), reason))
        else:
            rows.append(row)
            n_bytes += row.density.nbytes
            if note:
                notes[source.id] = note
    return Made(rows, refused, notes, n_sources)


def _make_row(source: Source, settings: StoreSettings) -> tuple[Row, str]:
    density, note = _read(source, settings)
    formula, chemical_system = _group_keys(density.species)
    if source.formula is not None:
        note = "; ".join(filter(None, (note, formula_note(source.formula, density.species))))
    row = Row(
        id=source.id,
        formula=formula,
        chemical_system=chemical_system,
        species=density.species,
        lattice=density.lattice,
        frac_coords=density.frac_coords,
        density=to_float16(density.values, f"row '{source.id}'"),
    )
    return row, note


def _read(source: Source, settings: StoreSettings) -> tuple[Density, str]:
    """Return the standardised density of one source, and what is to be noted of it."""
    if settings.kind == "promolecule":
        return _read_promolecule(source, settings)
    files = source.files[0] if len(source.files) == 1 else source.files
    is_all_electron = settings.kind == "all-electron"
    density = read_density(files, electrons=source.electrons, all_electron=is_all_electron)
    # A property depends neither on the cell nor on the origin, so what is stored must not either.
    standard, report = standard_form(
        density, settings.grid, settings.sigma, spacing=settings.spacing
    )
    _check_labels(source, report)
    return standard, report.note


def _read_promolecule(source: Source, settings: StoreSettings) -> tuple[Density, str]:
    note = ""
    if source.line is None:
        structure, note = read_checked_structure(source.files[0])
    else:
        structure = structure_of_line(source.line, str(source))
    cell, report = standard_promolecule(
        structure, settings.grid, settings.sigma, str(source), spacing=settings.spacing
    )
    _check_labels(source, report)
    return cell, "; ".join(filter(None, (note, report.note)))


def _check_labels(source: Source, report: CellReport) -> None:
    """Refuse values per cell of a supercell: nobody can tell which cell they count. Raises DensityError."""
    if source.labelled_per_cell and report.repeats > 1:
        raise DensityError(
            f"{source}: values per cell must be those of a primitive cell, found a {report}; "
            "give the primitive cell, or values per atom or per formula unit"
        )


def _group_keys(species: Sequence[str]) -> tuple[str, str]:
    """Return reduced formula and chemical system, such as ("NaCl", "Cl-Na")."""
    from pymatgen.core import Composition

    composition = Composition(Counter(species))
    # The order of the symbols asks for electronegativities, which noble gases do not have.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No Pauling electronegativity")
        return composition.reduced_formula, composition.chemical_system
