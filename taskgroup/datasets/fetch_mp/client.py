"""Requests to the Materials Project: its REST interface through ``mp-api``, and its public bucket of densities."""

import gzip
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

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
# entries per request; mp-api splits longer lists itself, but then a failure loses all of them
BATCH = 100

_STATIC = ("GGA Static", "GGA+U Static")
# Tries of a request that is refused for now (429, 5xx), after 2, 4, 8, ... s, or what the answer says.
_RETRIES = 8
_BUCKET = "https://materialsproject-parsed.s3.amazonaws.com"
_GZIP_MAGIC = b"\x1f\x8b"


class MaterialsProject:
    """Requests to the Materials Project, at most ``rate`` per second."""

    def __init__(self, rate: float) -> None:
        self._pause = 1 / rate
        self._last = 0.0
        self._rester, self._bucket = _connect()
        self._bucket_url = os.environ.get("MP_OPEN_DATA_URL", _BUCKET).rstrip("/")

    def properties(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the entries that exist among these, one flat record each."""
        search = self._rester.materials.summary.search
        documents = self._ask(search, material_ids=list(ids), fields=list(UNITS))
        return {str(document["material_id"]): _flat(document) for document in documents}

    def static_tasks(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Return the static calculations of each entry that has any, newest first."""
        search = self._rester.materials.search
        tasks_by_id: dict[str, list[str]] = {}
        for document in self._ask(search, material_ids=list(ids), fields=["calc_types"]):
            types = document["calc_types"]
            tasks = [str(task) for task, kind in types.items() if kind in _STATIC]
            if tasks:
                tasks_by_id[str(document["material_id"])] = tasks
        all_tasks = [task for tasks in tasks_by_id.values() for task in tasks]
        dates = self._dates(all_tasks)
        for tasks in tasks_by_id.values():
            tasks.sort(key=lambda task: dates.get(task, ""), reverse=True)
        return tasks_by_id

    def _dates(self, tasks: Sequence[str]) -> dict[str, str]:
        """Return when each calculation was last updated."""
        search = self._rester.materials.tasks.search
        dates: dict[str, str] = {}
        for start in range(0, len(tasks), BATCH):
            batch = tasks[start : start + BATCH]
            for document in self._ask(search, task_ids=batch, fields=["last_updated"]):
                dates[str(document["task_id"])] = str(document["last_updated"])
        return dates

    def _ask(self, search: Callable[..., list[Any]], fields: list[str], **query: Any) -> list[Any]:
        from mp_api.client import MPRestError

        key = "task_id" if "task_ids" in query else "material_id"
        try:
            with self._pace():
                return search(**query, fields=[key, *fields], all_fields=False)
        except MPRestError as error:
            raise _failure(error) from error

    def density(self, task: str) -> "Chgcar | None":
        """Return the density of a calculation; None where it was not kept."""
        from emmet.core.mpid import AlphaID

        number = task.split("-")[-1]
        name = AlphaID(number, prefix="mp").string
        url = f"{self._bucket_url}/chgcars/{name}.json.gz"
        answer = self._download(url)
        # a bucket that may not be listed says 403 of what it lacks
        if answer.status_code in (403, 404):
            return None
        if answer.status_code != 200:
            raise TaskgroupError(
                f"Materials Project: {url} answered {answer.status_code}; run again to go on"
            )
        return _parse_density(answer.content, url)

    def _download(self, url: str) -> "requests.Response":
        """Get a file of the bucket. Its session tries again what is refused; what breaks off half-way is tried here."""
        import requests

        breaks_off = (requests.exceptions.ChunkedEncodingError, requests.exceptions.Timeout)
        for attempt in range(1, _RETRIES + 1):
            try:
                with self._pace():
                    return self._bucket.get(url, timeout=60)
            except requests.exceptions.RequestException as error:
                if not isinstance(error, breaks_off) or attempt == _RETRIES:
                    raise _failure(error) from error
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def _pace(self) -> Iterator[None]:
        """Hold a request back, so that it begins no sooner than a pause after the last one ended."""
        time.sleep(max(0.0, self._last + self._pause - time.monotonic()))
        try:
            yield
        finally:
            self._last = time.monotonic()


def _connect() -> "tuple[MPRester, requests.Session]":
    """Return the REST interface, and a session for the bucket, which never sees the key."""
    key = os.environ.get("MP_API_KEY")
    if not key:
        raise InputError(
            "fetch-mp: the environment must hold MP_API_KEY, "
            "see https://next-gen.materialsproject.org/api"
        )
    try:
        import requests
        from mp_api.client import MPRester, MPRestError
    except ImportError as error:
        raise MissingDependency(
            f"fetch-mp needs mp-api ({error}): pip install 'taskgroup-materials[mp]'"
        ) from error

    interface = _patient_session()
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
        raise _failure(error) from error
    return rester, _patient_session()


def _patient_session() -> "requests.Session":
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    patience = Retry(
        _RETRIES,
        backoff_factor=1,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=("GET",),
    )
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=patience))
    return session


def _failure(error: Exception) -> TaskgroupError:
    return TaskgroupError(f"Materials Project: {_short(error)}; run again to go on")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry's properties, numbers only; of elastic moduli the mean of Voigt and Reuss."""
    record: dict[str, Any] = {"id": str(document["material_id"])}
    for name in UNITS:
        value = document.get(name)
        if isinstance(value, Mapping):
            value = value.get("vrh")
        record[name] = value
    return record


def _parse_density(content: bytes, url: str) -> "Chgcar":
    """Read the density in the bucket's JSON; only arrays and a structure are taken, no class that it names is made."""
    from pymatgen.core import Structure
    from pymatgen.io.vasp.inputs import Poscar
    from pymatgen.io.vasp.outputs import Chgcar

    try:
        if content.startswith(_GZIP_MAGIC):
            content = gzip.decompress(content)
        record = json.loads(content)
        if isinstance(record, list):
            record = record[0]
        density = record["data"]
        arrays = {}
        for name, grid in density["data"].items():
            values = grid["data"] if isinstance(grid, dict) else grid
            arrays[name] = np.array(values)
        structure = Structure.from_dict(density["poscar"]["structure"])
        return Chgcar(Poscar(structure), arrays)
    except (ValueError, KeyError, TypeError, EOFError, OSError) as error:
        raise TaskgroupError(
            f"Materials Project: {url} holds no density that can be read ({_short(error)})"
        ) from error
