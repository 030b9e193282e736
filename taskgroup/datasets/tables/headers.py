"""Names and units in the headers of a property table, and which column holds the ids."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from taskgroup.datasets.units import DIMENSIONLESS, parse_unit
from taskgroup.errors import TargetError

# What databases and people call the column of ids, most telling first. Compared in lower case, '-' and ' ' as '_'.
ID_COLUMNS = (
    "id", "material_id", "materials_id", "name", "file", "filename", "mp_id", "task_id", "mpid", "jid", "jarvis_id",
    "oqmd_id", "entry_id", "icsd_id", "icsd", "cod_id", "cod", "auid", "aflow_id", "mcid", "matid", "mat_id",
    "qmof_id", "refcode", "csd_refcode", "structure_id", "crystal_id", "sample_id", "row_id", "identifier", "ident",
    "key", "uid", "uuid", "unique_id", "label", "file_name", "file_path", "path", "folder", "directory", "dir_name",
    "cif_id", "cif", "cif_file", "compound", "material", "sample", "system", "structure", "formula",
    "pretty_formula", "formula_pretty", "composition",
)  # fmt: skip

# name (unit), name [unit], name {unit}
_BRACKETED = re.compile(r"(.+?)\s*(?:\((.+)\)|\[(.+)\]|\{(.+)\})\s*")
# name / unit and name, unit; without spaces around the stroke it may also part two words
_PARTED = re.compile(r"(.+?)\s*(?:\s/\s*|,\s*|;\s*|\s+in\s+)(\S.*)")
_STROKE = re.compile(r"([^/]+)/([^/\s]+(?:/[^/\s]+)?)")
_PERCENT = re.compile(r"(.+?)\s*(%)\s*")
# a remark in brackets after a space: K (VRH)
_REMARK = re.compile(r"\s+[(\[{]([\w.\- ]+)[)\]}]")
# what pandas calls a column without a name, for instance an index that was written to a file
_NAMELESS = re.compile(
    r"(?:Unnamed:[ _]\d+(?:_level_\d+)?|level_\d+|index|#|nr\.?|no\.?)?", re.IGNORECASE
)
# Units that hardly stand alone: energy/atom is a name, energy / eV has a unit.
_COUNTED = frozenset(
    {"atom", "atoms", "site", "sites", "cell", "fu", "f.u.", "formula", "electron", "ion", "spin"}
)


@dataclass(frozen=True)
class Header:
    """Header of a column: as it stands in the file, the name of a target, and a unit ('' where there is none)."""

    text: str
    name: str
    unit: str = ""
    note: str = ""


def read_header(text: str) -> Header:
    """Read name and unit in a header.

    >>> read_header("density (g/cm3)").name, read_header("density (g/cm3)").unit
    ('density', 'g/cm3')
    >>> read_header("E_F / eV").unit, read_header("gap%").unit, read_header("K (VRH)").name
    ('eV', '%', 'K_VRH')
    """
    for pattern in (_BRACKETED, _PARTED, _PERCENT, _STROKE):
        match = pattern.fullmatch(text)
        if match is None:
            continue
        name, *units = [group for group in match.groups() if group is not None]
        is_counted = pattern is not _BRACKETED and units[0].strip() in _COUNTED
        if is_counted or not _is_unit(units[0]):
            continue
        return Header(text, read_remark(name.rstrip(" /")), parse_unit(units[0]))
    name = read_remark(text)
    note = ""
    if name != _joined(text):
        note = f"column '{text}' is called '{name}': its bracket holds no unit known here"
    return Header(text, name, "", note)


def read_remark(text: str) -> str:
    """Return a name with the remark in its bracket, if a space stands before that."""
    return _joined(_REMARK.sub(r"_\1", text.strip()))


def _joined(text: str) -> str:
    return "_".join(text.split())


def _is_unit(text: str) -> bool:
    # a bracket of a bare number, such as (1) or (2), counts columns
    if text.strip().isdigit():
        return False
    if text.strip().lower() in DIMENSIONLESS:
        return True
    try:
        parse_unit(text)
    except TargetError:
        return False
    return True


def is_nameless(header: str) -> bool:
    """Tell if a header is none: empty, or what pandas writes in place of one."""
    return _NAMELESS.fullmatch(header.strip()) is not None


def is_id_name(header: str) -> bool:
    """Tell if a header is a usual name of the column of ids."""
    return normal_name(header) in ID_COLUMNS


def normal_name(header: str) -> str:
    """Return a header as it is compared with the usual names of ids."""
    return re.sub(r"[\s\-]+", "_", header.strip().lstrip("#").strip().lower())


def usual_id_columns(headers: Sequence[str]) -> list[int]:
    """Return the numbers of the columns with a usual name of ids, most telling first."""
    ranks = []
    for number, header in enumerate(headers):
        name = normal_name(header)
        if name in ID_COLUMNS:
            ranks.append((ID_COLUMNS.index(name), number))
    return [number for _, number in sorted(ranks)]
