"""Charge densities and properties of Materials Project entries, as ``ingest`` takes them.

    OUT/mp-149.CHGCAR.gz  the density of the newest static PBE (or PBE+U) calculation
    OUT/entries.jsonl     what is known about each entry asked for, a line each; not asked for again
    OUT/missing.csv       entries without a density, and why
    OUT/properties.csv    the property table, units in its second line

- Properties and the list of calculations come from the REST interface through ``mp-api``, 100 entries a request.
  Densities lie in a public bucket and come over plain HTTPS, without the key: ``mp-api`` would take every failure of
  the bucket, a short overload too, for a density that does not exist.
- The key is read from ``MP_API_KEY``, sent to the interface only, and written nowhere.
- Whatever stops it, the same call goes on: a file is there whole or not at all. Densities are CC BY 4.0, to be cited
  as the Materials Project asks, https://next-gen.materialsproject.org/about/cite.
"""

import csv
import gzip
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from taskgroup.datasets.store import whole
from taskgroup.errors import InputError, MissingDependency, TaskgroupError

if TYPE_CHECKING:
    import requests
    from mp_api.client import MPRester
    from pymatgen.io.vasp.outputs import Chgcar

UNITS = {
    "density": "g/cm^3",
    "density_atomic": "Å^3/atom",
    "energy_per_atom": "eV/atom",
    "formation_energy_per_atom": "eV/atom",
    "energy_above_hull": "eV/atom",
    "is_stable": "",
    "band_gap": "eV",
    "is_metal": "",
    "efermi": "eV",
    "total_magnetization": "",
    "bulk_modulus": "GPa",
    "shear_modulus": "GPa",
    "universal_anisotropy": "",
    "homogeneous_poisson": "",
    "e_total": "",
    "n": "",
    "weighted_surface_energy": "",
    "weighted_work_function": "eV",
}
_STATIC = ("GGA Static", "GGA+U Static")
_BATCH = 100  # entries a request
_RETRIES = 8  # of a request that is refused for now (429, 5xx), waiting 2, 4, 8, ... s, or what the answer says
_BUCKET = "https://materialsproject-parsed.s3.amazonaws.com"


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
        rate: most requests a second.
        retry: ask again for entries that had no density before.
        progress: called with entries done and entries in all.

    ``MP_API_ENDPOINT`` and ``MP_OPEN_DATA_URL`` in the environment replace the addresses of the interface and of the
    bucket. Raises InputError without a key or ids, MissingDependency without ``mp-api``, TaskgroupError where the
    Materials Project does not answer.
    """
    ids = list(dict.fromkeys(ids))
    if not ids:
        raise InputError("fetch-mp: at least one id must be given, such as mp-149")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    entries, missing = _read_entries(folder), {} if retry else _read_missing(folder)
    project: _Project | None = None
    for at in range(0, len(ids), _BATCH):
        batch = ids[at : at + _BATCH]
        progress(at, len(ids))
        todo = [name for name in batch if name not in missing and not _file(folder, name).exists()]
        unknown = [name for name in batch if name not in entries]
        if todo or unknown:
            project = project or _Project(rate)
            entries |= _learn(folder, project, unknown)
            missing |= {name: "no such entry" for name in unknown if name not in entries}
            for n, _ in enumerate(
                _fetch(folder, project, [name for name in todo if name in entries], missing)
            ):
                progress(at + len(batch) - len(todo) + n + 1, len(ids))
            _write_table(folder / "missing.csv", [("id", "reason"), *missing.items()])
    progress(len(ids), len(ids))
    left_out = _write_properties(
        folder / "properties.csv", [entries[name] for name in ids if name in entries]
    )
    there = sum(_file(folder, name).exists() for name in ids)
    return FetchReport(
        folder, there, {name: missing[name] for name in ids if name in missing}, left_out
    )


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.CHGCAR.gz"


def _learn(folder: Path, project: "_Project", ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Ask for the properties of these entries, and note them down."""
    found = project.properties(ids) if ids else {}
    with (folder / "entries.jsonl").open("a") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in found.values())
    return found


def _fetch(
    folder: Path, project: "_Project", ids: Sequence[str], missing: dict[str, str]
) -> Iterator[str]:
    """Write the density of each entry, or say in ``missing`` why there is none; yields its id when done."""
    tasks = project.static_tasks(ids) if ids else {}
    for name in ids:
        density = next(filter(None, map(project.density, tasks.get(name, ()))), None)
        if density is None:
            missing[name] = (
                "no density of its static calculations"
                if name in tasks
                else "no static calculation"
            )
        else:
            with whole(_file(folder, name)) as partial_file, gzip.open(partial_file, "wt") as file:
                file.write(_text(density))
        yield name


def _text(density: "Chgcar") -> str:
    """The density as VASP would write it; pymatgen writes to files only."""
    with tempfile.TemporaryDirectory() as place:
        density.write_file(Path(place) / "CHGCAR")
        return (Path(place) / "CHGCAR").read_text()


class _Project:
    """What we ask the Materials Project for, not faster than it likes."""

    def __init__(self, rate: float) -> None:
        self._pause, self._last = 1 / rate, 0.0
        self._rester, self._bucket = _connect()
        self._bucket_url = os.environ.get("MP_OPEN_DATA_URL", _BUCKET).rstrip("/")

    def properties(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The entries that exist among these, one flat record each."""
        documents = self._ask(
            self._rester.materials.summary.search, material_ids=list(ids), fields=list(UNITS)
        )
        return {str(document["material_id"]): _flat(document) for document in documents}

    def static_tasks(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """The static calculations of each entry that has any, newest first."""
        search = self._rester.materials.search
        tasks = {
            str(document["material_id"]): [
                str(t) for t, kind in document["calc_types"].items() if kind in _STATIC
            ]
            for document in self._ask(search, material_ids=list(ids), fields=["calc_types"])
        }
        every = [task for of_entry in tasks.values() for task in of_entry]
        dates: dict[str, str] = {}
        for at in range(0, len(every), _BATCH):
            some, fields = every[at : at + _BATCH], ["last_updated"]
            documents = self._ask(self._rester.materials.tasks.search, task_ids=some, fields=fields)
            dates |= {
                str(document["task_id"]): str(document["last_updated"]) for document in documents
            }
        ordered = {
            name: sorted(t, key=lambda task: dates.get(task, ""), reverse=True)
            for name, t in tasks.items()
        }
        return {name: of_entry for name, of_entry in ordered.items() if of_entry}

    def _ask(self, search: Callable[..., list[Any]], fields: list[str], **query: Any) -> list[Any]:
        from mp_api.client import MPRestError

        key = "task_id" if "task_ids" in query else "material_id"
        try:
            with self._pace():
                return search(**query, fields=[key, *fields], all_fields=False)
        except MPRestError as error:
            raise TaskgroupError(
                f"Materials Project: {_short(error)}; run again to go on"
            ) from error

    def density(self, task: str) -> "Chgcar | None":
        """The density of a calculation; None where it was not kept."""
        import requests
        from emmet.core.mpid import AlphaID

        url = (
            f"{self._bucket_url}/chgcars/{AlphaID(task.split('-')[-1], prefix='mp').string}.json.gz"
        )
        for attempt in range(
            _RETRIES
        ):  # the session tries again what is refused, not what breaks off half-way
            try:
                with self._pace():
                    answer = self._bucket.get(url, timeout=60)
                break
            except (requests.exceptions.ChunkedEncodingError, requests.exceptions.Timeout) as error:
                if attempt == _RETRIES - 1:
                    raise TaskgroupError(
                        f"Materials Project: {_short(error)}; run again to go on"
                    ) from error
            except requests.exceptions.RequestException as error:
                raise TaskgroupError(
                    f"Materials Project: {_short(error)}; run again to go on"
                ) from error
        if answer.status_code in (
            403,
            404,
        ):  # a bucket that may not be listed says 403 of what it lacks
            return None
        if answer.status_code != 200:
            raise TaskgroupError(
                f"Materials Project: {url} answered {answer.status_code}; run again to go on"
            )
        return _parse_density(answer.content, url)

    @contextmanager
    def _pace(self) -> Iterator[None]:
        """Around a request: it begins no sooner than a pause after the last one ended."""
        time.sleep(max(0.0, self._last + self._pause - time.monotonic()))
        try:
            yield
        finally:
            self._last = time.monotonic()


def _connect() -> "tuple[MPRester, requests.Session]":
    """The REST interface, and a session for the bucket, which never sees the key."""
    key = os.environ.get("MP_API_KEY")
    if not key:
        raise InputError(
            "fetch-mp: the environment must hold MP_API_KEY, see https://next-gen.materialsproject.org/api"
        )
    try:
        import requests
        from mp_api.client import MPRester, MPRestError
    except ImportError as error:
        raise MissingDependency(
            f"fetch-mp needs mp-api ({error}): pip install 'taskgroup[mp]'"
        ) from error

    interface, bucket = _patient_session(), _patient_session()
    interface.headers["x-api-key"] = key
    try:
        rester = MPRester(
            key,
            endpoint=os.environ.get("MP_API_ENDPOINT"),
            session=interface,
            use_document_model=False,
            mute_progress_bars=True,
        )
    except (MPRestError, requests.exceptions.RequestException) as error:
        raise TaskgroupError(f"Materials Project: {_short(error)}; run again to go on") from error
    return rester, bucket


def _patient_session() -> "requests.Session":
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    session = requests.Session()
    patience = Retry(
        _RETRIES,
        backoff_factor=1,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=("GET",),
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=patience))
    return session


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """An entry's properties, numbers only; of elastic moduli the mean of Voigt and Reuss."""
    values = {name: document.get(name) for name in UNITS}
    values |= {name: v.get("vrh") for name, v in values.items() if isinstance(v, Mapping)}
    return {"id": str(document["material_id"]), **values}


def _parse_density(content: bytes, url: str) -> "Chgcar":
    """The density in the bucket's JSON; only arrays and a structure are taken, no class that it names is made."""
    from pymatgen.core import Structure
    from pymatgen.io.vasp.inputs import Poscar
    from pymatgen.io.vasp.outputs import Chgcar

    try:
        record = json.loads(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
        density = (record[0] if isinstance(record, list) else record)["data"]
        grids = {
            name: np.array(grid["data"] if isinstance(grid, dict) else grid)
            for name, grid in density["data"].items()
        }
        return Chgcar(Poscar(Structure.from_dict(density["poscar"]["structure"])), grids)
    except (ValueError, KeyError, TypeError, EOFError, OSError) as error:
        raise TaskgroupError(
            f"Materials Project: {url} holds no density that can be read ({_short(error)})"
        ) from error


def _read_entries(folder: Path) -> dict[str, dict[str, Any]]:
    """The entries noted down so far; a last line that was cut is asked for again."""
    entries = {}
    if (folder / "entries.jsonl").exists():
        for line in (folder / "entries.jsonl").read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            entries[entry["id"]] = entry
    return entries


def _read_missing(folder: Path) -> dict[str, str]:
    if not (folder / "missing.csv").exists():
        return {}
    with (folder / "missing.csv").open(newline="") as file:
        return {row["id"]: row["reason"] for row in csv.DictReader(file)}


def _write_properties(path: Path, entries: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The property table of these entries; gives back the properties that it leaves out."""
    kept = [name for name in UNITS if len({entry[name] for entry in entries} - {None}) > 1]
    rows = [
        [entry["id"], *("" if entry[name] is None else float(entry[name]) for name in kept)]
        for entry in entries
    ]
    _write_table(path, [["id", *kept], ["", *(UNITS[name] for name in kept)], *rows])
    return tuple(name for name in UNITS if name not in kept)


def _write_table(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    with whole(path) as partial_file, partial_file.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
