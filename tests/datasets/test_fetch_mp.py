"""Against a local stand-in for the Materials Project: the REST interface as mp-api calls it, and the public bucket."""

import csv
import gzip
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from monty.json import jsanitize
from pymatgen.io.vasp.inputs import Poscar
from pymatgen.io.vasp.outputs import Chgcar

from taskgroup.datasets import ingest, load_dataset
from taskgroup.datasets.fetch_mp import fetch_mp
from taskgroup.densities import promolecule, read_density, standardise
from taskgroup.errors import InputError, MissingDependency, TaskgroupError

pytest.importorskip("mp_api", reason="mp-api is not installed")
KEY = "k" * 32
IDS = [f"mp-{n}" for n in (1, 2, 3, 4)]


def make_chgcar(number: int) -> Chgcar:
    crystal = promolecule((3.0 * np.eye(3) + number / 10, ["Al"], [[0, 0, 0]]), n=12)
    # aluminium's three valence electrons; a promolecule has the core's too
    total = crystal.values[0] * crystal.volume * (3 / 13)
    return Chgcar(Poscar(crystal.structure), {"total": total})


class StandIn(http.server.ThreadingHTTPServer):
    """Entries mp-1 to mp-4; mp-3 has no static calculation, and the newest one of mp-2 kept no density."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: Counter[str] = Counter()
        self.keys: dict[str, set[str | None]] = {"rest": set(), "bucket": set()}
        self.times: list[float] = []
        self.trouble: dict[str, list[tuple[int, dict[str, str]]]] = {}
        self.objects = {
            f"/chgcars/mp-{task}.json.gz": gzip.compress(
                json.dumps({"data": jsanitize(make_chgcar(n).as_dict())}).encode()
            )
            for n, task in ((1, 101), (2, 102), (4, 104))
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: StandIn

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        place, query = (
            parts.path.rstrip("/"),
            {name: value[0] for name, value in parse_qs(parts.query).items()},
        )
        self.server.asked[place] += 1
        self.server.times.append(time.monotonic())
        if place != "/heartbeat":
            kind = "bucket" if place.startswith("/chgcars") else "rest"
            self.server.keys[kind].add(self.headers.get("x-api-key"))
        if self.server.trouble.get(place):
            status, headers = self.server.trouble[place].pop(0)
            return self._answer(status, b"{}", headers)
        if place in self.server.objects:
            return self._answer(200, self.server.objects[place])
        answers = {
            "/heartbeat": lambda: {
                "version": "99.0.0",
                "db_version": "2026.1.1",
                "access_controlled_batch_ids": [],
            },
            "/materials/summary": lambda: _documents(
                summary(n) for n in _numbers(query["material_ids"])
            ),
            "/materials/core": lambda: _documents(core(n) for n in _numbers(query["material_ids"])),
            "/materials/tasks": lambda: _documents(
                task(name) for name in query["task_ids"].split(",")
            ),
        }
        if place not in answers:
            return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        return self._answer(200, json.dumps(answers[place]()).encode())

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def _numbers(ids: str) -> list[int]:
    return [int(name.split("-")[1]) for name in ids.split(",") if name in IDS]


def _documents(documents: Iterator[dict]) -> dict:
    found = list(documents)
    return {"data": found, "meta": {"total_doc": len(found)}}


def summary(n: int) -> dict:
    moduli = (
        {"bulk_modulus": {"voigt": 70.0, "reuss": 60.0, "vrh": 65.0 + n * n}}
        if n != 4
        else {"bulk_modulus": None}
    )
    return {
        "material_id": f"mp-{n}",
        "density": 2.0 + n,
        "band_gap": 0.5 * (n % 3) ** 2,
        "is_stable": True,
        **moduli,
    }


def core(n: int) -> dict:
    calculations = {"mp-90": "GGA Structure Optimization"}
    if n != 3:
        calculations |= {f"mp-{100 + n}": "GGA Static", f"mp-{200 + n}": "GGA+U Static"}
    return {"material_id": f"mp-{n}", "calc_types": calculations}


def task(name: str) -> dict:
    """Of mp-2 the calculation without a density is the newer one; of the others it is the older."""
    return {
        "task_id": name,
        "last_updated": f"20{20 if name[3] == '1' else 25 if name == 'mp-202' else 10}-01-01",
    }


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    server = StandIn()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MP_API_KEY", KEY)
    monkeypatch.setenv("MP_API_ENDPOINT", server.url)
    monkeypatch.setenv("MP_OPEN_DATA_URL", server.url)
    yield server
    server.shutdown()
    server.server_close()


def test_what_is_fetched_goes_straight_into_a_store(project: StandIn, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = fetch_mp(
        [*IDS, "mp-9"], tmp_path / "mp", rate=1e3, progress=lambda *state: seen.append(state)
    )
    assert report.n_densities == 3
    assert report.missing == {"mp-3": "no static calculation", "mp-9": "no such entry"}
    assert "is_stable" in report.left_out  # equal in all entries: ingest would refuse the table
    assert (seen[0], seen[-1]) == ((0, 5), (5, 5))
    assert seen == sorted(seen)
    with (tmp_path / "mp" / "properties.csv").open() as file:
        table = list(csv.DictReader(file))
    assert table[0]["bulk_modulus"] == "GPa"
    assert [row["bulk_modulus"] for row in table[1:]] == ["66.0", "69.0", "74.0", ""]

    ingest(tmp_path / "mp", tmp_path / "mp" / "properties.csv", tmp_path / "store", grid=12)
    store = load_dataset(tmp_path / "store")
    assert store.ids == ("mp-1", "mp-2", "mp-4")
    assert (store.targets.spec("density").unit, store.targets.column("density").tolist()) == (
        "g/cm^3",
        [3, 4, 6],
    )
    for row, number in enumerate((1, 2, 4)):
        expected = standardise(read_density(make_chgcar(number)), 12).values
        np.testing.assert_allclose(store.densities([row])[0], expected, rtol=2e-3, atol=2e-3)


def test_the_key_goes_to_the_interface_and_nowhere_else(
    project: StandIn, tmp_path: Path, caplog
) -> None:
    project.trouble["/chgcars/mp-104.json.gz"] = [(400, {})]
    with pytest.raises(TaskgroupError, match="answered 400; run again") as caught:
        fetch_mp(IDS, tmp_path, rate=1e3)
    assert project.keys == {"rest": {KEY}, "bucket": {None}}
    assert KEY not in str(caught.value) + caplog.text
    assert not [
        path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()
    ]


def test_what_is_on_disk_is_not_fetched_again(project: StandIn, tmp_path: Path) -> None:
    fetch_mp(IDS[:2], tmp_path, rate=1e3)
    fetch_mp(IDS, tmp_path, rate=1e3)
    assert project.asked["/chgcars/mp-101.json.gz"] == project.asked["/chgcars/mp-104.json.gz"] == 1
    before = dict(project.asked)
    assert fetch_mp(IDS, tmp_path, rate=1e3).n_densities == 3
    assert dict(project.asked) == before  # nothing at all
    project.objects["/chgcars/mp-203.json.gz"] = b""
    fetch_mp(IDS, tmp_path, rate=1e3, retry=True)
    assert project.asked["/chgcars/mp-101.json.gz"] == 1
    assert project.asked["/materials/core"] == before["/materials/core"] + 1


def test_a_fetch_that_was_killed_leaves_whole_files_and_is_gone_on_with(
    project: StandIn, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "taskgroup",
        "data",
        "fetch-mp",
        str(tmp_path),
        "--ids",
        ",".join(IDS),
    ]
    process = subprocess.Popen([*command, "--rate", "1"], stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("*.CHGCAR.gz")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    with (tmp_path / "entries.jsonl").open("a") as file:
        file.write('{"id": "mp-')  # as if it had been cut
    assert len(list(tmp_path.glob("*.CHGCAR.gz"))) < 3
    assert fetch_mp(IDS, tmp_path, rate=1e3).n_densities == 3
    for path in tmp_path.glob("*.CHGCAR.gz"):
        Chgcar.from_file(path)
    assert max(n for place, n in project.asked.items() if place.startswith("/chgcars")) <= 2


def test_refusals_for_now_are_waited_for(project: StandIn, tmp_path: Path) -> None:
    project.trouble = {
        "/materials/summary": [(429, {"Retry-After": "1"})],
        "/chgcars/mp-101.json.gz": [
            (503, {}),
            (200, {"Content-Length": "500"}),
        ],  # overloaded, then broken off
    }
    started = time.monotonic()
    report = fetch_mp(["mp-1"], tmp_path, rate=1e3)
    assert time.monotonic() - started >= 1
    assert report.n_densities == 1
    assert project.asked["/chgcars/mp-101.json.gz"] == 3


def test_requests_keep_to_the_rate(project: StandIn, tmp_path: Path) -> None:
    fetch_mp(["mp-1"], tmp_path, rate=5)
    asked = project.times[-4:]  # summary, core, tasks, density
    assert min(np.diff(asked)) > 0.15


def test_a_density_that_makes_no_sense_is_an_error_that_names_it(
    project: StandIn, tmp_path: Path
) -> None:
    project.objects["/chgcars/mp-101.json.gz"] = b'{"data": {"@module": "os", "@class": "system"}}'
    with pytest.raises(TaskgroupError, match=r"mp-101\.json\.gz holds no density"):
        fetch_mp(["mp-1"], tmp_path, rate=1e3)


def test_without_key_ids_or_client_it_says_what_to_do(
    project: StandIn, tmp_path: Path, monkeypatch
) -> None:
    with pytest.raises(InputError, match="at least one id"):
        fetch_mp([], tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "mp_api.client", None)
        with pytest.raises(
            MissingDependency, match=r"pip install 'taskgroup-materials-materials\[mp\]'"
        ):
            fetch_mp(IDS, tmp_path)
    monkeypatch.delenv("MP_API_KEY")
    with pytest.raises(InputError, match="MP_API_KEY"):
        fetch_mp(IDS, tmp_path)


def test_ids_come_from_a_list_or_from_any_table(project: StandIn, tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("material_id,formula\nmp-1,Al\nmp-4,Al\nmp-1,Al\n")
    command = [
        sys.executable,
        "-m",
        "taskgroup",
        "data",
        "fetch-mp",
        str(tmp_path / "mp"),
        "--json",
        "--rate",
        "1000",
    ]
    done = subprocess.run(
        [*command, "--ids", str(tmp_path / "ids.csv")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert json.loads(done.stdout)["n_densities"] == 2
    assert KEY not in done.stdout + done.stderr
    done = subprocess.run(
        [*command, "--ids", "silicon"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "silicon" in done.stderr
