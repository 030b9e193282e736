"""JSON documents that hold a density: the Materials Project's, and a pymatgen Chgcar saved with monty or ``as_dict``.

A document is {"task_id": ..., "data": CHGCAR} or the CHGCAR itself, which is
{"@class": "Chgcar", "poscar": {"structure": ...}, "data": {"total": ..., "diff": ...}}. Only pymatgen's structure is
made from the document, never a class that it names.
"""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from taskgroup.densities.density import Density
from taskgroup.densities.fields import refuse_other_fields
from taskgroup.densities.formats.objects import stacked_blocks
from taskgroup.densities.promolecule import crystal_parts
from taskgroup.densities.reader import MarkedReader, Member, bare_name, one_line, read_bytes, refuse

_DENSITY_CLASSES = ("Chgcar", "VolumetricData")
# Layers such as {"data": ...} or {"chgcar": ...} around the density.
_MOST_LAYERS = 3


class JsonReader(MarkedReader):
    """JSON documents of the Materials Project and of pymatgen's Chgcar, and the same as dictionaries."""

    name: ClassVar[str] = "JSON of a pymatgen Chgcar (Materials Project)"
    suffix: ClassVar[str] = ".json"
    # JSON files are of all kinds: those that hold a density say so at their beginning.
    mark: ClassVar[bytes] = b'"Chgcar"'
    start_bytes: ClassVar[int] = 65536

    def suits(self, source: Any) -> bool:
        if isinstance(source, dict):
            return _chgcar_of(source) is not None
        return super().suits(source)

    def read(self, source: Path | Member | dict[str, Any]) -> Density:
        if isinstance(source, dict):
            document: Any = source
            name = f"document {source.get('task_id', source.get('fs_id', ''))}".strip()
        else:
            refuse_other_fields(source, bare_name(source) or "")
            document = _parse(read_bytes(source), source)
            name = str(source)
        chgcar = _chgcar_of(document)
        if chgcar is None:
            refuse(name, "must hold a pymatgen Chgcar with poscar and data, found another document")
        return _density(chgcar, name)


def _parse(content: bytes, source: Any) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        refuse(source, f"must be a JSON document ({one_line(error)})")


def _chgcar_of(document: Any) -> dict[str, Any] | None:
    """Return the part of a document that has a structure and blocks of values, or None."""
    for _ in range(_MOST_LAYERS):
        if isinstance(document, list) and len(document) == 1:
            document = document[0]
        if not isinstance(document, dict):
            return None
        if _is_chgcar(document):
            return document
        inner = [value for value in document.values() if _may_hold_chgcar(value)]
        document = inner[0] if len(inner) == 1 else None
    return None


def _is_chgcar(document: dict[str, Any]) -> bool:
    blocks = document.get("data")
    return "poscar" in document and isinstance(blocks, dict) and "total" in blocks


def _may_hold_chgcar(value: Any) -> bool:
    return isinstance(value, dict) and "data" in value


def _density(chgcar: dict[str, Any], name: str) -> Density:
    from pymatgen.core import Structure

    kind = chgcar.get("@class", "Chgcar")
    if kind not in _DENSITY_CLASSES:
        refuse(name, f"must hold a charge density, found a {kind}")
    try:
        structure = Structure.from_dict(chgcar["poscar"]["structure"])
        blocks = {key: _block(value) for key, value in chgcar["data"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        refuse(name, f"must hold a structure and blocks of numbers ({one_line(error)})")
    lattice, species, frac_coords = crystal_parts(structure, name)
    values = stacked_blocks(blocks, name) / structure.volume
    return Density(values, lattice, species, frac_coords, "valence", name)


def _block(value: Any) -> np.ndarray:
    """Return an array of nested lists, or of monty's {"@class": "array", "data": ...}."""
    if isinstance(value, dict):
        value = value["data"]
    return np.asarray(value, dtype=np.float64)
