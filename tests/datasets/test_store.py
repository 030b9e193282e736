import http.server
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from taskgroup.datasets import load_dataset, verify_store, write_store
from taskgroup.errors import StoreError

from .conftest import REPOSITORY, make_dataset


@pytest.mark.parametrize("channels", [1, 2])
def test_a_store_gives_back_the_dataset_that_was_written(tmp_path: Path, channels: int) -> None:
    data = make_dataset(40, channels=channels)
    write_store(tmp_path / "store", data)
    back = load_dataset(tmp_path / "store")
    verify_store(tmp_path / "store")
    assert back.hash == data.hash
    assert (back.ids, back.formulas, back.chemical_systems) == (
        data.ids,
        data.formulas,
        data.chemical_systems,
    )
    assert (back.n_channels, back.grid, back.sigma, back.kind) == (channels, 8, 0.2, "valence")
    assert back.targets.specs == data.targets.specs
    np.testing.assert_array_equal(back.targets.values, data.targets.values)
    np.testing.assert_array_equal(back.lattices, data.lattices)
    np.testing.assert_array_equal(back.densities(), data.densities())
    np.testing.assert_array_equal(back.densities([9, 2, 30]), data.densities([9, 2, 30]))
    assert len(back.densities([])) == 0
    assert back.structure(5) == data.structure(5)
    assert back.splits().id == data.splits().id
    assert back.subset([9, 2]).hash == data.subset([9, 2]).hash


def test_the_built_in_crystals_survive_a_store(tmp_path: Path) -> None:
    data = load_dataset("crystals").subset(range(0, 600, 30))
    write_store(tmp_path / "store", data)
    back = load_dataset(tmp_path / "store")
    assert back.hash == data.hash
    assert (back.grid, back.spacing) == (None, 0.2)
    np.testing.assert_array_equal(back.shapes, data.shapes)
    assert len(np.unique(back.shapes, axis=0)) > 3
    for row in range(len(data)):
        np.testing.assert_array_equal(back.densities([row]), data.densities([row]))


def test_a_part_of_large_cells_has_fewer_rows(tmp_path: Path, monkeypatch) -> None:
    data = load_dataset("crystals").subset(range(64))
    sizes = data.shapes.prod(axis=1) * 2
    monkeypatch.setattr("taskgroup.datasets.store.finish.LARGEST_PART_BYTES", 2 * sizes.max())
    write_store(tmp_path / "store", data)
    assert load_dataset(tmp_path / "store").hash == data.hash
    frame = pd.read_parquet(tmp_path / "store" / "rows.parquet")
    bytes_by_part = pd.Series(sizes).groupby(frame["part"].to_numpy()).sum()
    assert bytes_by_part.max() <= 2 * sizes.max()


def test_labels_are_columns_that_any_tool_reads(tmp_path: Path) -> None:
    data = make_dataset()
    write_store(tmp_path / "store", data)
    frame = pd.read_parquet(tmp_path / "store" / "rows.parquet").set_index("id")
    np.testing.assert_array_equal(frame["target.modulus"], data.targets.column("modulus"))


def test_writing_holds_a_part_in_memory_and_not_the_dataset(tmp_path: Path) -> None:
    small, n = make_dataset(4, grid=24), 768
    ids = tuple(f"row-{i}" for i in range(n))
    row = np.arange(n) % 4
    table = replace(small.targets, ids=ids, values=small.targets.values[row] + 0.0)
    one = small.densities([0, 1, 2, 3]).astype(np.float16)
    large = replace(
        small.subset(row[:4]),
        targets=table,
        lattices=small.lattices[row],
        shapes=small.shapes[row],
        **{
            field: tuple(getattr(small, field)[i] for i in row)
            for field in ("formulas", "chemical_systems", "species")
        },
        frac_coords=tuple(small.frac_coords[i] for i in row),
        read=lambda rows: list(one[rows % 4]),
    )
    tracemalloc.start()
    write_store(tmp_path / "store", large)
    back = load_dataset(tmp_path / "store")
    assert back.densities([n - 1]).shape == (1, 1, 24, 24, 24)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < n * one[0].nbytes / 2  # of 21 MB of densities


def half_written(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "complete": False}))


def newer(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))


def altered_label(path: Path) -> None:
    frame = pd.read_parquet(path / "rows.parquet")
    frame.loc[3, "target.modulus"] = 1.5
    frame.to_parquet(path / "rows.parquet")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (half_written, "half written .* run the command that began it again"),
        (newer, "store format 99, this version reads up to 2"),
        (altered_label, "damaged, its rows have hash"),
        (lambda path: (path / "manifest.json").unlink(), "no store"),
        (lambda path: (path / "manifest.json").write_text("{"), "not JSON"),
        (lambda path: (path / "rows.parquet").unlink(), "damaged"),
        (lambda path: (path / "rows.parquet").write_bytes(b"PAR1"), "damaged"),
    ],
)
def test_a_store_that_is_not_whole_is_refused_in_one_line(
    tmp_path: Path, damage, said: str
) -> None:
    write_store(tmp_path / "store", make_dataset())
    damage(tmp_path / "store")
    with pytest.raises(StoreError, match=said) as caught:
        load_dataset(tmp_path / "store")
    assert "\n" not in str(caught.value)
    assert "store" in str(caught.value)


def with_field(**fields) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps({**manifest, **fields}))

    return damage


def bomb_of_rows(path: Path) -> None:
    """Ten million equal rows: run-length encoding makes a small file of them."""
    places = pa.array(np.zeros(10_000_000, dtype=np.int8))
    columns = {
        name: pa.DictionaryArray.from_arrays(places, pa.array(["x"]))
        for name in ("id", "formula", "digest")
    }
    pq.write_table(pa.table(columns), path / "rows.parquet")


def with_column(path: Path, name: str, value: object) -> None:
    frame = pd.read_parquet(path / "rows.parquet")
    frame[name] = [value] * len(frame)
    frame.to_parquet(path / "rows.parquet")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (with_field(grid=100_000), "grid must be a whole number from 2 to 512"),
        (with_field(grid="32"), "grid must be a whole number"),
        (with_field(part_rows=10**9), "part_rows must be a whole number"),
        (with_field(part_rows=0), "part_rows must be a whole number"),
        (with_field(n_channels=5), "n_channels must be a whole number from 1 to 2"),
        (with_field(kind="../../etc"), "kind must be one of"),
        (with_field(targets=[{"name": "../x"}]), "a name is made of"),
        (with_field(targets=[{"name": "x", "evil": 1}]), "damaged"),
        (with_field(targets=7), "damaged"),
        (with_field(sigma=1e308), "sigma must be in"),
        (with_field(spacing=0), "spacing must be above 0"),
        (with_field(spacing="x"), "spacing must be a length"),
        (with_field(complete="yes"), "complete must be true or false"),
        (with_field(format="x"), "format must be a whole number"),
        (lambda path: (path / "manifest.json").write_text("[" * 100_000), "not JSON|damaged"),
        (lambda path: (path / "manifest.json").write_text("[1]"), "must be an object"),
        (bomb_of_rows, "unpacks to"),
    ],
)
def test_a_store_of_a_stranger_is_refused_in_one_line_and_in_no_time(
    tmp_path: Path, damage, said: str
) -> None:
    write_store(tmp_path / "store", make_dataset())
    damage(tmp_path / "store")
    start = time.process_time()
    tracemalloc.start()
    with pytest.raises(StoreError, match=said) as caught:
        load_dataset(tmp_path / "store")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.process_time() - start < 2
    assert peak < 500e6
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("first_chunk", 2**60),
        ("first_chunk", -1),
        ("part", 2**60),
        ("chunks_in_part", 2**40),
        ("chunks_in_part", 0),
        ("stored_channels", 0),
        ("stored_channels", 9),
        ("shape", [8, 8, 0]),
        ("shape", [8, 8, 16]),
        ("shape", [2**40, 2**40, 2**40]),
        ("shape", [2**20, 1, 1]),
        ("shape", [8, 8]),
    ],
)
def test_places_that_make_no_sense_are_refused(tmp_path: Path, column: str, value: object) -> None:
    write_store(tmp_path / "store", make_dataset())
    with_column(tmp_path / "store", column, value)
    tracemalloc.start()
    with pytest.raises(StoreError, match="damaged"):
        verify_store(tmp_path / "store")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6


def test_the_array_of_a_part_that_was_killed_is_written_anew(tmp_path: Path) -> None:
    store = tmp_path / "store"
    write_store(store, make_dataset())
    place = store / "density" / "000000" / "zarr.json"
    metadata = json.loads(place.read_text())
    place.write_text(json.dumps({**metadata, "shape": [2**50], "data_type": "string"}))
    (store / "parts" / "000000.json").unlink()
    half_written(store)
    write_store(store, make_dataset())
    verify_store(store)


def test_a_part_that_names_another_folder_is_no_part(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_dataset())
    part = tmp_path / "store" / "parts" / "000000.json"
    for content in ("[]", '{"rows": 5}', '{"rows": [{"id": ["x"]}], "refused": []}', "[" * 99_999):
        part.write_text(content)
        with pytest.raises(StoreError, match="damaged"):
            write_store(tmp_path / "store", make_dataset())


def shards(path: Path) -> list[Path]:
    return sorted(path.glob("density/*/c/*"))


def test_a_lost_shard_is_an_error_and_not_a_density_of_zeros(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_dataset())
    shards(tmp_path / "store")[0].unlink()
    with pytest.raises(StoreError, match="damaged"):
        load_dataset(tmp_path / "store").densities()


def test_a_cut_shard_is_an_error(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_dataset())
    shard = shards(tmp_path / "store")[0]
    shard.write_bytes(shard.read_bytes()[:-30])
    with pytest.raises(StoreError, match="damaged"):
        verify_store(tmp_path / "store")


def test_verifying_finds_a_density_that_was_swapped(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_dataset())
    first, second = shards(tmp_path / "store")[:2]
    second.write_bytes(first.read_bytes())
    assert len(load_dataset(tmp_path / "store")) == 12
    with pytest.raises(StoreError, match="the density of row 'row-001' is not the one"):
        verify_store(tmp_path / "store")


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match="exists and is no store"):
        write_store(tmp_path, make_dataset())
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_store_begun_with_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_dataset())
    with pytest.raises(StoreError, match=r"begun with sigma 0.2, now asked for 0.5"):
        write_store(tmp_path / "store", replace(make_dataset(), sigma=0.5))
    assert len(load_dataset(tmp_path / "store")) == 12


WRITE = """
    import sys, time
    sys.path.insert(0, {tests!r})
    from tests.datasets.conftest import make_dataset
    from dataclasses import replace
    from taskgroup.datasets import write_store
    data = make_dataset(64)
    def slowly(rows):
        time.sleep(0.1)
        return data.read(rows)
    write_store({store!r}, replace(data, read=slowly))
"""


def script(store: Path) -> list[str]:
    return [
        sys.executable,
        "-c",
        textwrap.dedent(WRITE.format(tests=str(REPOSITORY), store=str(store))),
    ]


def test_a_writer_killed_at_any_moment_is_gone_on_with(tmp_path: Path) -> None:
    store, data = tmp_path / "store", make_dataset(64)
    writer = subprocess.Popen(script(store), cwd=REPOSITORY)
    while len(list(store.glob("parts/*.json"))) < 3:
        assert writer.poll() is None
        time.sleep(0.01)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    with pytest.raises(StoreError, match="half written"):
        load_dataset(store)
    kept = {file: file.stat().st_mtime_ns for file in shards(store)[:3]}
    write_store(store, data)
    assert load_dataset(store).hash == data.hash
    verify_store(store)
    assert {
        file: file.stat().st_mtime_ns for file in kept
    } == kept  # what was there is not written again


def test_a_disk_that_takes_no_more_is_told_in_one_line_and_gone_on_with(tmp_path: Path) -> None:
    def no_large_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    store, data = tmp_path / "store", make_dataset(64)
    done = subprocess.run(
        script(store),
        cwd=REPOSITORY,
        preexec_fn=no_large_files,
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        f"taskgroup.errors.StoreError: {store}: cannot be written ({os.strerror(27)})"
    )
    write_store(store, data)
    assert load_dataset(store).hash == data.hash


def test_a_process_that_only_opens_a_store_ends_well(tmp_path: Path) -> None:
    """Arrow's reading threads outlived it and aborted every third one."""
    write_store(tmp_path / "store", make_dataset(8))
    code = f"from taskgroup.datasets import load_dataset; load_dataset({str(tmp_path / 'store')!r})"
    for _ in range(2):
        processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(6)]
        assert [process.wait() for process in processes] == [0] * 6


def test_zarr_reads_what_we_read(tmp_path: Path) -> None:
    data = make_dataset(40, channels=2)
    write_store(tmp_path / "store", data)
    store = load_dataset(tmp_path / "store")
    group = zarr.open_group(tmp_path / "store", mode="r")["density"]
    frame = pd.read_parquet(tmp_path / "store" / "rows.parquet")
    for row in (0, 7, 39):
        place = frame.iloc[row]
        values = group[f"{place['part']:06d}"][place["first_chunk"] * 4096 :]
        n1, n2, n3 = place["shape"]
        total = values[: n1 * n2 * n3].reshape(n1, n2, n3)
        np.testing.assert_array_equal(store.densities([row])[0, 0], total)


@pytest.mark.parametrize("position", [-20, -30, 40])
def test_damage_inside_a_shard_is_found(tmp_path: Path, position: int) -> None:
    write_store(tmp_path / "store", make_dataset(40))
    shard = shards(tmp_path / "store")[0]
    content = bytearray(shard.read_bytes())
    content[position] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        verify_store(tmp_path / "store")


def test_the_atoms_of_rows_are_made_when_looked_at(tmp_path: Path) -> None:
    data = make_dataset(6)
    write_store(tmp_path / "store", data)
    store = load_dataset(tmp_path / "store")
    assert len(store.species) == len(store.frac_coords) == 6
    assert store.species[4] == ("Na", "Cl")
    np.testing.assert_array_equal(store.frac_coords[4], data.frac_coords[4])
    few = store.subset([5, 2])
    assert few.structure(1) == data.structure(2)


def test_a_store_in_an_object_store_is_the_same_dataset(tmp_path: Path) -> None:
    data = make_dataset(40, channels=2)
    write_store(tmp_path / "store", data)
    files = fsspec.filesystem("memory")
    files.put(str(tmp_path / "store"), "/bucket/store", recursive=True)
    try:
        store = load_dataset("memory://bucket/store")
        assert store.hash == data.hash
        np.testing.assert_array_equal(store.densities([9, 2, 30]), data.densities([9, 2, 30]))
        verify_store("memory://bucket/store")
        with pytest.raises(StoreError, match=r"memory://bucket/nothing: no store"):
            load_dataset("memory://bucket/nothing")
        files.rm("/bucket/store/density/000000/c", recursive=True)
        with pytest.raises(StoreError, match="damaged"):
            load_dataset("memory://bucket/store").densities([0])
    finally:
        files.rm("/bucket", recursive=True)


class _Ranges(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and counts the bytes of densities that it gives out."""

    served = 0

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return self.send_error(404)
        content, wanted = (
            path.read_bytes(),
            self.headers.get("Range", "bytes=0-").removeprefix("bytes="),
        )
        first, last = wanted.split("-")
        part = (
            content[-int(last) :]
            if not first
            else content[int(first) : int(last) + 1 if last else None]
        )
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header(
            "Content-Range", f"bytes {len(content) - len(part)}-{len(content) - 1}/{len(content)}"
        )
        self.end_headers()
        self.wfile.write(part)
        type(self).served += len(part) if "/c/" in self.path else 0

    def log_message(self, *args: object) -> None:
        pass


def test_over_http_only_the_densities_asked_for_are_sent(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="fsspec reads https:// through aiohttp")
    data = make_dataset(64, grid=16)
    write_store(tmp_path / "store", data)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(_Ranges, directory=str(tmp_path))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        store = load_dataset(f"http://127.0.0.1:{server.server_port}/store")
        np.testing.assert_array_equal(store.densities([60, 3]), data.densities([60, 3]))
    finally:
        server.shutdown()
        server.server_close()
    whole = sum(path.stat().st_size for path in shards(tmp_path / "store"))
    assert 0 < _Ranges.served < whole / 10
