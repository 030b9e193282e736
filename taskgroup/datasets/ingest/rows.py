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
    find_vacuum,
    read_density,
    standard_form,
    standard_promolecule,
    structure_of_line,
)
from taskgroup.densities.atom_match import misplaced_atoms_note
from taskgroup.errors import TaskgroupError

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
    density, n_cells, note = _read(source, settings)
    formula, chemical_system = _group_keys(density.species)
    vacuum = find_vacuum(density.values[0], density.lattice)
    notes = [note, str(vacuum) if vacuum else ""]
    if source.formula is not None:
        notes.append(formula_note(source.formula, density.species))
    row = Row(
        id=source.id,
        formula=formula,
        chemical_system=chemical_system,
        species=density.species,
        lattice=density.lattice,
        frac_coords=density.frac_coords,
        density=to_float16(density.values, f"row '{source.id}'"),
        cells=n_cells,
    )
    return row, "; ".join(filter(None, notes))


def _read(source: Source, settings: StoreSettings) -> tuple[Density, int, str]:
    """Return the standardised density of one source, the primitive cells in its file, and what is to be noted."""
    if settings.kind == "promolecule":
        return _read_promolecule(source, settings)
    files = source.files[0] if len(source.files) == 1 else source.files
    is_all_electron = settings.kind == "all-electron"
    density = read_density(
        files, electrons=source.electrons, all_electron=is_all_electron, frame=source.frame
    )
    # A property depends neither on the cell nor on the origin, so what is stored must not either.
    standard, report = standard_form(
        density, settings.grid, settings.sigma, spacing=settings.spacing
    )
    return standard, report.repeats, _note(source, report, misplaced_atoms_note(standard))


def _read_promolecule(source: Source, settings: StoreSettings) -> tuple[Density, int, str]:
    note = ""
    if source.line is None:
        structure, note = read_checked_structure(source.files[0])
    else:
        structure = structure_of_line(source.line, str(source))
    cell, report = standard_promolecule(
        structure, settings.grid, settings.sigma, str(source), spacing=settings.spacing
    )
    return cell, report.repeats, _note(source, report, note)


def _note(source: Source, report: CellReport, *others: str) -> str:
    """Return what is to be noted of a row: of its file, of its cell, and of labels that count another cell."""
    notes = [*others, report.note]
    if source.labelled_per_cell and report.repeats > 1:
        notes.append(f"values per cell are those of the file's cell: divided by {report.repeats}")
    return "; ".join(filter(None, notes))


def _group_keys(species: Sequence[str]) -> tuple[str, str]:
    """Return reduced formula and chemical system, such as ("NaCl", "Cl-Na")."""
    from pymatgen.core import Composition

    composition = Composition(Counter(species))
    # The order of the symbols asks for electronegativities, which noble gases do not have.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No Pauling electronegativity")
        return composition.reduced_formula, composition.chemical_system
