"""Charge densities and properties of Materials Project entries, as ``ingest`` takes them.

    OUT/mp-149.CHGCAR.gz  the density of the newest static PBE (or PBE+U) calculation
    OUT/entries.jsonl     the properties of each entry asked for, one line each; not asked for again
    OUT/missing.csv       entries without a density, and why
    OUT/properties.csv    the property table, units in its second line

- Properties and the list of calculations come from the REST interface through ``mp-api``, 100 entries per request.
  Densities lie in a public bucket and come over plain HTTPS, without the key: ``mp-api`` would take every failure of
  the bucket, a short overload too, for a density that does not exist.
- The key is read from ``MP_API_KEY``, sent to the interface only, and written nowhere.
- Whatever stops it, the same call goes on: a file is there whole or not at all. Densities are CC BY 4.0, to be cited
  as the Materials Project asks, https://next-gen.materialsproject.org/about/cite.
"""

import csv
import gzip
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskgroup import files
from taskgroup.datasets.fetch_mp.client import BATCH, UNITS, MaterialsProject
from taskgroup.errors import InputError

if TYPE_CHECKING:
    from pymatgen.io.vasp.outputs import Chgcar

_ENTRIES, _MISSING, _PROPERTIES = "entries.jsonl", "missing.csv", "properties.csv"


@dataclass(frozen=True)
class FetchReport:
    """``n_densities`` of the entries asked for lie in ``path``, ``missing`` (id -> why) have none.

    ``left_out`` are properties without two different values, from which nothing is to be learnt.
    """

    path: Path
    n_densities: int
    missing: dict[str, str]
    left_out: tuple[str, ...]


def fetch_mp(
    ids: Sequence[str],
    out: str | Path,
    *,
    rate: float = 5.0,
    retry: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FetchReport:
    """Download the densities and properties of these entries into the folder ``out``; what is there already stays.

    Args:
        ids: such as ``mp-149``.
        rate: most requests per second.
        retry: ask again for entries that had no density before.
        progress: called with entries done and entries in all.

    ``MP_API_ENDPOINT`` and ``MP_OPEN_DATA_URL`` in the environment replace the addresses of the interface and of the
    bucket. Raises InputError without a key or ids, MissingDependency without ``mp-api``, TaskgroupError where the
    Materials Project does not answer.
    """
    unique_ids = list(dict.fromkeys(ids))
    if not unique_ids:
        raise InputError("fetch-mp: at least one id must be given, such as mp-149")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    download = _Download(folder, rate, {} if retry else _read_missing(folder))
    for start in range(0, len(unique_ids), BATCH):
        progress(start, len(unique_ids))
        batch = unique_ids[start : start + BATCH]
        for n_done in download.fetch(batch):
            progress(start + n_done, len(unique_ids))
    progress(len(unique_ids), len(unique_ids))
    entries, missing = download.entries, download.missing
    wanted_entries = [entries[entry_id] for entry_id in unique_ids if entry_id in entries]
    return FetchReport(
        path=folder,
        n_densities=sum(_density_file(folder, entry_id).exists() for entry_id in unique_ids),
        missing={entry_id: missing[entry_id] for entry_id in unique_ids if entry_id in missing},
        left_out=_write_properties(folder / _PROPERTIES, wanted_entries),
    )


class _Download:
    """State of a download: the entries and the missing densities found so far."""

    def __init__(self, folder: Path, rate: float, missing: dict[str, str]) -> None:
        self.entries = _read_entries(folder)
        self.missing = missing
        self._folder = folder
        self._rate = rate
        self._project: MaterialsProject | None = None

    def fetch(self, batch: Sequence[str]) -> Iterator[int]:
        """Fetch these entries; yields how many of them are done."""
        todo = []
        for entry_id in batch:
            has_density = _density_file(self._folder, entry_id).exists()
            if entry_id not in self.missing and not has_density:
                todo.append(entry_id)
        unknown = [entry_id for entry_id in batch if entry_id not in self.entries]
        if not todo and not unknown:
            return
        # connected only when something is to be asked: a finished folder needs no key
        if self._project is None:
            self._project = MaterialsProject(self._rate)
        self._ask_properties(self._project, unknown)
        existing = [entry_id for entry_id in todo if entry_id in self.entries]
        n_done = len(batch) - len(todo)
        for _ in self._write_densities(self._project, existing):
            n_done += 1
            yield n_done
        rows = [("id", "reason"), *self.missing.items()]
        files.write_csv(self._folder / _MISSING, rows)

    def _ask_properties(self, project: MaterialsProject, ids: Sequence[str]) -> None:
        """Ask for the properties of these entries, and note them down."""
        new_entries = project.properties(ids) if ids else {}
        for entry in new_entries.values():
            files.append_line(self._folder / _ENTRIES, json.dumps(entry).encode())
        self.entries |= new_entries
        for entry_id in ids:
            if entry_id not in self.entries:
                self.missing[entry_id] = "no such entry"

    def _write_densities(self, project: MaterialsProject, ids: Sequence[str]) -> Iterator[str]:
        """Write the density of each entry, or note why there is none; yields its id when done."""
        tasks_by_id = project.static_tasks(ids) if ids else {}
        for entry_id in ids:
            if entry_id not in tasks_by_id:
                self.missing[entry_id] = "no static calculation"
            else:
                # a generator, so that no more calculations are asked for than needed
                candidates = (project.density(task) for task in tasks_by_id[entry_id])
                density = next((chgcar for chgcar in candidates if chgcar is not None), None)
                if density is None:
                    self.missing[entry_id] = "no density of its static calculations"
                else:
                    _write_density(_density_file(self._folder, entry_id), density)
            yield entry_id


def _density_file(folder: Path, entry_id: str) -> Path:
    return folder / f"{entry_id}.CHGCAR.gz"


def _write_density(path: Path, density: "Chgcar") -> None:
    # pymatgen writes to files only
    with tempfile.TemporaryDirectory() as place:
        density.write_file(Path(place) / "CHGCAR")
        text = (Path(place) / "CHGCAR").read_text()
    with files.atomic_path(path) as temporary, gzip.open(temporary, "wt") as file:
        file.write(text)


def _read_entries(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the entries noted down so far; a last line that was cut is asked for again."""
    entries: dict[str, dict[str, Any]] = {}
    if not (folder / _ENTRIES).exists():
        return entries
    for line in (folder / _ENTRIES).read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        entries[entry["id"]] = entry
    return entries


def _read_missing(folder: Path) -> dict[str, str]:
    if not (folder / _MISSING).exists():
        return {}
    with (folder / _MISSING).open(newline="") as file:
        return {row["id"]: row["reason"] for row in csv.DictReader(file)}


def _write_properties(path: Path, entries: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Write the property table of these entries; return the properties that it leaves out."""
    columns, left_out = [], []
    for name in UNITS:
        values = {entry[name] for entry in entries} - {None}
        has_contrast = len(values) > 1
        (columns if has_contrast else left_out).append(name)
    rows: list[list[Any]] = [["id", *columns], ["", *(UNITS[name] for name in columns)]]
    for entry in entries:
        numbers = [_cell(entry[name]) for name in columns]
        rows.append([entry["id"], *numbers])
    files.write_csv(path, rows)
    return tuple(left_out)


def _cell(value: Any) -> float | str:
    return "" if value is None else float(value)
