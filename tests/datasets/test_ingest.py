import csv
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from taskgroup.datasets import Dataset, ingest, load_dataset, promolecules, verify_store
from taskgroup.datasets.crystals import data_folder
from taskgroup.densities import read_density, standard_promolecule
from taskgroup.errors import InputError, StoreError, TargetError

GRID = 16


@pytest.fixture(scope="module")
def crystals() -> Dataset:
    return load_dataset("crystals")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The CHGCAR files that come with the package."""
    shutil.copytree(str(data_folder() / "chgcar"), tmp_path / "chgcar")
    return tmp_path / "chgcar"


def write_table(path: Path, ids, columns: dict[str, list]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *columns])
        writer.writerows(zip(ids, *columns.values(), strict=True))
    return path


@pytest.fixture
def table(crystals: Dataset, tmp_path: Path) -> Path:
    names = ("bulk_modulus", "volume")
    return write_table(
        tmp_path / "table.csv",
        crystals.ids,
        {name: crystals.targets.column(name).tolist() for name in names},
    )


def names_in(folder: Path) -> set[str]:
    return {path.name.split(".")[0] for path in folder.iterdir()}


def test_a_folder_of_chgcars_becomes_the_densities_of_the_crystals(
    crystals: Dataset, folder: Path, table: Path, tmp_path: Path
) -> None:
    report = ingest(folder, table, tmp_path / "store")
    store = load_dataset(tmp_path / "store")
    verify_store(tmp_path / "store")
    assert set(store.ids) == names_in(folder)
    assert report.n_rows == len(store)
    assert set(report.without_density) == set(crystals.ids) - set(store.ids)
    assert (report.refused, report.without_row) == ((), ())
    rows = [crystals.ids.index(row) for row in store.ids]
    for place, row in enumerate(rows):
        # steps of float16, twice: packaged densities were made of rounded ones
        np.testing.assert_allclose(
            store.densities([place]), crystals.densities([row]), rtol=4e-3, atol=1e-3
        )
    np.testing.assert_array_equal(
        store.targets.column("volume"), crystals.targets.column("volume")[rows]
    )
    assert store.chemical_systems == tuple(crystals.chemical_systems[row] for row in rows)
    assert store.formulas == tuple(crystals.formulas[row] for row in rows)


def test_the_charge_is_conserved_to_float16(
    crystals: Dataset, folder: Path, table: Path, tmp_path: Path
) -> None:
    ingest(folder, table, tmp_path / "store")
    store = load_dataset(tmp_path / "store")
    means = [store.densities([row]).mean(dtype=float) for row in range(len(store))]
    electrons = means * np.abs(np.linalg.det(store.lattices))
    np.testing.assert_allclose(electrons, np.round(electrons), rtol=3e-4)
    assert np.round(electrons).min() >= 3


def test_two_processes_make_the_store_that_one_makes(
    folder: Path, table: Path, tmp_path: Path
) -> None:
    ingest(folder, table, tmp_path / "one", grid=GRID)
    seen = []
    ingest(
        folder,
        table,
        tmp_path / "two",
        grid=GRID,
        workers=2,
        progress=lambda *state: seen.append(state),
    )
    assert load_dataset(tmp_path / "two").hash == load_dataset(tmp_path / "one").hash
    n = len(names_in(folder))
    assert seen[0] == (0, n)
    assert seen[-1] == (n, n)
    assert seen == sorted(seen)


def test_what_is_refused_is_told_kept_out_and_tried_again_only_when_asked(
    folder: Path, table: Path, tmp_path: Path
) -> None:
    victim = sorted(folder.iterdir())[0]
    name, whole = victim.name.split(".")[0], victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    report = ingest(folder, table, tmp_path / "store", grid=GRID)
    assert [entry.id for entry in report.refused] == [name]
    assert name not in load_dataset(tmp_path / "store").ids
    with (tmp_path / "store" / "refused.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [name]
    assert str(victim) in rows[0]["source"]
    assert len(rows[0]["reason"]) > 20

    victim.write_bytes(whole)
    assert len(ingest(folder, table, tmp_path / "store", grid=GRID).refused) == 1
    report = ingest(folder, table, tmp_path / "store", grid=GRID, retry=True)
    assert report.refused == ()
    ingest(folder, table, tmp_path / "at-once", grid=GRID)
    assert load_dataset(tmp_path / "store").hash == load_dataset(tmp_path / "at-once").hash


def test_files_that_come_later_join_the_store(folder: Path, table: Path, tmp_path: Path) -> None:
    late = sorted(folder.iterdir())[:3]
    (tmp_path / "later").mkdir()
    for path in late:
        path.rename(tmp_path / "later" / path.name)
    assert ingest(folder, table, tmp_path / "store", grid=GRID).n_rows == len(names_in(folder))
    for path in late:
        (tmp_path / "later" / path.name).rename(path)
    report = ingest(folder, table, tmp_path / "store", grid=GRID)
    assert report.n_rows == len(names_in(folder))
    ingest(folder, table, tmp_path / "at-once", grid=GRID)
    assert load_dataset(tmp_path / "store").hash == load_dataset(tmp_path / "at-once").hash


def test_other_labels_need_no_density_to_be_read_again(
    crystals: Dataset, folder: Path, table: Path, tmp_path: Path
) -> None:
    ingest(folder, table, tmp_path / "store", grid=GRID)
    for path in folder.iterdir():
        path.write_text("gone")
    other = write_table(
        tmp_path / "other.csv",
        crystals.ids,
        {"fermi": crystals.targets.column("fermi_energy").tolist()},
    )
    ingest(folder, other, tmp_path / "store", grid=GRID)
    assert load_dataset(tmp_path / "store").targets.names == ("fermi",)


def test_an_ingest_that_was_killed_is_gone_on_with(
    folder: Path, table: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    command = [
        sys.executable,
        "-m",
        "taskgroup",
        "data",
        "ingest",
        str(folder),
        "--properties",
        str(table),
    ]
    command += ["--out", str(store), "--grid", str(GRID), "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(store.glob("parts/*.json")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(StoreError, match="half written"):
        load_dataset(store)
    ingest(folder, table, store, grid=GRID)
    ingest(folder, table, tmp_path / "at-once", grid=GRID)
    assert load_dataset(store).hash == load_dataset(tmp_path / "at-once").hash


def test_ids_are_found_in_file_names_and_folder_names(folder: Path, tmp_path: Path) -> None:
    files = sorted(folder.iterdir())
    places = [
        "a.CHGCAR.gz",
        "b_CHGCAR.gz",
        "c/CHGCAR.gz",
        "deep/d/CHGCAR.gz",
        "CHGCAR.e.gz",
        "nobody.CHGCAR.gz",
    ]
    for file, place in zip(files, places, strict=False):
        (tmp_path / "in" / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tmp_path / "in" / place)
    (tmp_path / "in" / "README").write_text("not a density")
    table = write_table(tmp_path / "t.csv", "abcdef", {"x": [1, 2, 3, 4, 5, 7]})
    report = ingest(tmp_path / "in", table, tmp_path / "store", grid=GRID)
    assert load_dataset(tmp_path / "store").ids == tuple("abcde")
    assert report.without_row == ("nobody",)
    assert report.without_density == ("f",)


def test_two_files_with_the_same_claim_to_a_row_are_refused(
    folder: Path, table: Path, tmp_path: Path
) -> None:
    victim = sorted(folder.iterdir())[0]
    name = victim.name.split(".")[0]
    shutil.copy(victim, folder / f"{name}_CHGCAR.gz")
    report = ingest(folder, table, tmp_path / "store", grid=GRID)
    assert [entry.id for entry in report.refused] == [name]
    assert f"row '{name}': one file is needed, found 2" in report.refused[0].reason
    assert set(load_dataset(tmp_path / "store").ids) == names_in(folder) - {name, f"{name}_CHGCAR"}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"x": [1, 2, 3], "y": ["", "", ""]}, "'y': every one of its 3 labels is missing"),
        ({"x": [1, 2, 3], "y": [5, 5, ""]}, "'y': constant, all 2 labels are 5"),
        ({"x": [1, 2, 4], "y": [1, 2, 4]}, "'y': equal to target 'x'"),
        ({"x": [1, 2, 4], "y": [3, 5, 9]}, "'y': an exact linear function of target 'x'"),
    ],
)
def test_targets_that_cannot_be_learnt_stop_an_ingest_before_a_density_is_read(
    folder: Path, tmp_path: Path, columns: dict, said: str
) -> None:
    table = write_table(tmp_path / "t.csv", sorted(names_in(folder))[:3], columns)
    with pytest.raises(TargetError, match=said):
        ingest(folder, table, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_target_constant_only_among_the_rows_at_hand_is_a_note(
    crystals: Dataset, folder: Path, tmp_path: Path
) -> None:
    for path in folder.iterdir():
        if crystals.targets.column("is_metal")[crystals.ids.index(path.name.split(".")[0])] == 0:
            path.unlink()
    columns = {
        name: crystals.targets.column(name).astype(int).tolist() for name in ("is_metal", "volume")
    }
    report = ingest(
        folder,
        write_table(tmp_path / "t.csv", crystals.ids, columns),
        tmp_path / "store",
        grid=GRID,
    )
    assert any("'is_metal': constant" in note for note in report.notes)


def test_a_folder_where_nothing_belongs_to_a_row_is_refused_with_examples(
    folder: Path, tmp_path: Path
) -> None:
    table = write_table(tmp_path / "t.csv", ["mp-1", "mp-2"], {"x": [1, 2]})
    with pytest.raises(
        InputError, match=r"nothing there belongs to a row .*found Ag.*rows mp-1, mp-2"
    ):
        ingest(folder, table, tmp_path / "store")


def test_a_folder_of_bad_files_only_is_refused_with_the_first_reason(
    folder: Path, table: Path, tmp_path: Path
) -> None:
    for path in folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(StoreError, match="were refused, the first because"):
        ingest(folder, table, tmp_path / "store")


def test_spin_and_no_spin_share_a_store_of_two_channels(shared: Path, tmp_path: Path) -> None:
    for name in ("Li_spin", "Li_nospin", "NaCl"):
        (tmp_path / "in" / name).mkdir(parents=True)
        shutil.copy(
            shared / "densities" / f"{name}_CHGCAR.gz", tmp_path / "in" / name / "CHGCAR.gz"
        )
    table = write_table(tmp_path / "t.csv", ["NaCl", "Li_spin", "Li_nospin"], {"x": [1, 2, 5]})
    ingest(tmp_path / "in", table, tmp_path / "store", grid=GRID)
    store = load_dataset(tmp_path / "store")
    assert (len(store), store.n_channels) == (3, 2)
    assert [bool(density[1].any()) for density in store.densities()] == [False, True, False]


def test_all_electron_files_are_summed_when_asked_and_refused_otherwise(
    shared: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for path in (shared / "densities").glob("YPO4_AECCAR*.gz"):
        shutil.copy(path, tmp_path / "in")
    for path in (shared / "densities").glob("YMgPO4_AECCAR*.gz"):
        shutil.copy(path, tmp_path / "in")
    table = write_table(tmp_path / "t.csv", ["YPO4", "YMgPO4"], {"x": [1, 2]})
    with pytest.raises(StoreError, match="core electrons"):
        ingest(tmp_path / "in", table, tmp_path / "no", grid=GRID)
    ingest(tmp_path / "in", table, tmp_path / "yes", grid=GRID, all_electron=True)
    store = load_dataset(tmp_path / "yes")
    assert store.kind == "all-electron"
    electrons = store.densities().astype(float).mean(axis=(1, 2, 3, 4)) * np.abs(
        np.linalg.det(store.lattices)
    )
    pairs = [[tmp_path / "in" / f"{name}_AECCAR{part}.gz" for part in (0, 2)] for name in store.ids]
    expected = [read_density(pair, all_electron=True).charge for pair in pairs]
    np.testing.assert_allclose(electrons, expected, rtol=1e-3)


def test_promolecules_of_the_materials_project_rows_are_those_of_each_structure(
    shared: Path, tmp_path: Path
) -> None:
    with gzip.open(shared / "mp" / "structures.jsonl.gz", "rt") as file:
        lines = [next(file) for _ in range(12)]
    (tmp_path / "some.jsonl").write_text("".join(lines))
    report = promolecules(
        tmp_path / "some.jsonl",
        shared / "mp" / "properties.csv",
        tmp_path / "store",
        targets=["K_VRH", "density", "is_stable"],
        grid=GRID,
    )
    store = load_dataset(tmp_path / "store")
    assert report.n_rows == len(store) == 12
    assert store.kind == "promolecule"
    assert store.targets.spec("is_stable").kind == "classification"
    for line in lines:
        record = json.loads(line)
        row = store.ids.index(record["material_id"])
        crystal = (record["lattice"], record["species"], record["frac_coords"])
        expected, _ = standard_promolecule(crystal, n=GRID)
        # steps of float16, whose values reach hundreds of electrons per Å^3
        np.testing.assert_allclose(store.densities([row])[0], expected.values, rtol=1e-3, atol=1e-6)


def test_promolecules_read_a_folder_of_structure_files(crystals: Dataset, tmp_path: Path) -> None:
    names = ["Al-sc", "ZnSe-cesiumchloride", "Zr-sc"]
    (tmp_path / "in").mkdir()
    for name, place in zip(
        names, ("Al-sc.cif", "POSCAR.ZnSe-cesiumchloride", "Zr-sc.vasp"), strict=True
    ):
        form = "cif" if place.endswith("cif") else "poscar"
        crystals.structure(crystals.ids.index(name)).to(str(tmp_path / "in" / place), fmt=form)
    (tmp_path / "in" / "broken.vasp").write_text("no crystal")
    table = write_table(tmp_path / "t.csv", [*names, "broken"], {"x": [1, 2, 4, 8]})
    report = promolecules(tmp_path / "in", table, tmp_path / "store", grid=GRID)
    assert [entry.id for entry in report.refused] == ["broken"]
    store = load_dataset(tmp_path / "store")
    assert store.ids == tuple(names)
    electrons = store.densities().astype(float).mean(axis=(1, 2, 3, 4)) * np.abs(
        np.linalg.det(store.lattices)
    )
    np.testing.assert_allclose(electrons, [13, 30 + 34, 40], rtol=1e-3)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_may_not_be_written_is_told_in_one_line(
    folder: Path, table: Path, tmp_path: Path
) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(StoreError, match="cannot be written"):
        ingest(folder, table, tmp_path / "closed" / "store")


def shard_command(folder: Path, table: Path, out: Path, shard: str) -> list[str]:
    command = [
        sys.executable,
        "-m",
        "taskgroup",
        "data",
        "ingest",
        str(folder),
        "--properties",
        str(table),
    ]
    return [
        *command,
        "--out",
        str(out),
        "--grid",
        "8",
        "--workers",
        "1",
        "--shard",
        shard,
        "--json",
    ]


def test_machines_that_build_at_once_make_the_store_that_one_makes(
    folder: Path, table: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    machines = [
        subprocess.Popen(shard_command(folder, table, store, f"{k}/3"), stdout=subprocess.PIPE)
        for k in (1, 2, 3)
    ]
    reports = [json.loads(machine.communicate()[0]) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0, 0]
    assert min(report["waiting"] for report in reports) == 0  # whoever came last completed it
    ingest(folder, table, tmp_path / "alone", grid=8)
    assert load_dataset(store).hash == load_dataset(tmp_path / "alone").hash
    verify_store(store)


def test_folders_filled_apart_become_one_store(folder: Path, table: Path, tmp_path: Path) -> None:
    n = len(names_in(folder))
    reports = [ingest(folder, table, tmp_path / f"{k}", grid=8, shard=(k, 2)) for k in (1, 2)]
    assert [report.waiting for report in reports] == [n // 2, n // 2]
    assert [report.n_rows for report in reports] == [n // 2, n // 2]
    with pytest.raises(StoreError, match="half written"):
        load_dataset(tmp_path / "1")
    shutil.copytree(tmp_path / "2" / "parts", tmp_path / "1" / "parts", dirs_exist_ok=True)
    shutil.copytree(tmp_path / "2" / "density", tmp_path / "1" / "density", dirs_exist_ok=True)
    for path in folder.iterdir():
        path.write_text("gone")
    report = ingest(folder, table, tmp_path / "1", grid=8)
    assert (report.waiting, report.n_rows) == (0, n)
    verify_store(tmp_path / "1")


def test_a_share_that_is_none_is_refused(folder: Path, table: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found 3 of 2"):
        ingest(folder, table, tmp_path / "store", shard=(3, 2))


def test_a_line_that_is_no_crystal_is_refused_and_the_others_come_in(tmp_path: Path) -> None:
    good = {"lattice": (4 * np.eye(3)).tolist(), "species": ["Po"], "frac_coords": [[0, 0, 0]]}
    lines = [{"id": "a", **good}, {"id": "b", **good, "species": ["Xx"]}, {"id": "c", **good}]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, lines)))
    table = write_table(tmp_path / "t.csv", "abc", {"x": [1, 2, 5]})
    report = promolecules(tmp_path / "s.jsonl", table, tmp_path / "store", grid=8)
    assert [entry.id for entry in report.refused] == ["b"]
    assert "structure 'b'" in report.refused[0].source
    assert load_dataset(tmp_path / "store").ids == ("a", "c")


def test_densities_that_do_not_fit_into_their_part_come_in_another_round(
    folder: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `ingest` is also the name of a function
    rows = sys.modules["taskgroup.datasets.ingest.rows"]
    monkeypatch.setattr(rows, "LARGEST_PART_BYTES", 1)
    monkeypatch.setattr("taskgroup.datasets.store.writing._FEWEST_PARTS", 1)
    done: list[int] = []
    report = ingest(
        folder,
        table,
        tmp_path / "store",
        grid=GRID,
        workers=1,
        progress=lambda n, total: done.append(n),
    )
    n = len(names_in(folder))
    assert report.n_rows == n
    assert done == list(range(n + 1))
    verify_store(tmp_path / "store")
    assert len(list((tmp_path / "store" / "parts").iterdir())) == n
