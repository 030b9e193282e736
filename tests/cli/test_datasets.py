import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from taskgroup.cli import main
from taskgroup.datasets import Target, TargetTable, load_dataset, write_store
from taskgroup.datasets.crystals import data_folder


@dataclass
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def taskgroup(capsys: pytest.CaptureFixture) -> Callable[..., Done]:
    """Runs ``taskgroup data ...`` and gives back what it said, and its exit code."""

    def run(*arguments: str | Path) -> Done:
        with pytest.raises(SystemExit) as ended:
            main(["data", *map(str, arguments)])
        return Done(ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    """A folder of densities and a property table, as arguments of ingest."""
    shutil.copytree(str(data_folder() / "chgcar"), tmp_path / "in")
    crystals = load_dataset("crystals")
    rows = zip(crystals.ids, crystals.targets.column("bulk_modulus"), strict=True)
    (tmp_path / "t.csv").write_text(
        "id,bulk_modulus\n,GPa\n" + "".join(f"{name},{value}\n" for name, value in rows)
    )
    return [
        str(tmp_path / "in"),
        "--properties",
        str(tmp_path / "t.csv"),
        "--grid",
        "16",
        "--workers",
        "1",
    ]


def test_ingest_then_info_tell_what_is_in_the_store(
    taskgroup, inputs: list[str], tmp_path: Path
) -> None:
    (tmp_path / "in" / "Al-sc.CHGCAR.gz").write_bytes(b"broken")
    done = taskgroup("ingest", *inputs, "--out", tmp_path / "store")
    assert done.code == 0, done.err
    assert "refused: Al-sc: " in done.out
    assert "rows without a density" in done.out
    assert "densities: 8 of 8" in done.err
    store = load_dataset(tmp_path / "store")
    shown = taskgroup("info", tmp_path / "store", "--verify", "--format", "json")
    facts = json.loads(shown.out)
    assert (facts["n_rows"], facts["hash"], facts["grid"]) == (7, store.hash, 16)
    assert facts["targets"][0]["mean"] == pytest.approx(store.targets.values.mean())
    assert (facts["targets"][0]["unit"], facts["targets"][0]["missing"]) == ("GPa", 0)
    assert facts["splits"]["chemical_system"]["id"] == store.splits().id
    for_people = taskgroup("info", tmp_path / "store").out
    assert all(word in for_people for word in ("bulk_modulus", "GPa", store.hash, "7 rows"))


def test_the_report_of_ingest_is_json_when_asked(
    taskgroup, inputs: list[str], tmp_path: Path
) -> None:
    done = taskgroup("ingest", *inputs, "--out", tmp_path / "store", "--json")
    report = json.loads(done.out)
    assert (report["n_rows"], report["refused"]) == (8, [])


def test_quiet_is_quiet(taskgroup, inputs: list[str], tmp_path: Path) -> None:
    done = taskgroup("ingest", *inputs, "--out", tmp_path / "store", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_a_terminal_sees_a_progress_bar(inputs: list[str], tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "taskgroup",
        "data",
        "ingest",
        *inputs,
        "--out",
        str(tmp_path / "store"),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=theirs, env=os.environ | {"TERM": "xterm"}
    ) as process:
        os.close(theirs)
        seen = b""
        try:
            while block := os.read(ours, 4096):
                seen += block
        except OSError:  # the other end is closed
            pass
        process.wait()
    os.close(ours)
    assert process.returncode == 0
    assert b"8/8" in seen


def test_info_of_the_built_in_dataset(taskgroup) -> None:
    facts = json.loads(taskgroup("info", "crystals", "--format", "json").out)
    crystals = load_dataset("crystals")
    assert facts["n_rows"] == len(crystals)
    assert [target["name"] for target in facts["targets"]] == list(crystals.targets.names)


def test_promolecule_makes_a_store_of_structures(taskgroup, tmp_path: Path) -> None:
    lines = [
        {
            "id": f"row-{i}",
            "lattice": [[4 + i / 10, 0, 0], [0, 4, 0], [0, 0, 4]],
            "species": [symbol],
            "frac_coords": [[0, 0, 0]],
        }
        for i, symbol in enumerate(["Po", "Al", "Si"])
    ]
    (tmp_path / "s.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    (tmp_path / "t.json").write_text(json.dumps([{"id": f"row-{i}", "x": i**2} for i in range(3)]))
    out = tmp_path / "store"
    done = taskgroup(
        "promolecule",
        tmp_path / "s.jsonl",
        "--properties",
        tmp_path / "t.json",
        "--out",
        out,
        "--grid",
        16,
    )
    assert done.code == 0, done.err
    assert load_dataset(out).chemical_systems == ("Po", "Al", "Si")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"--properties": "missing.csv"}, "missing.csv: no such property table"),
        ({"--targets": "bulk_moduls"}, "did you mean 'bulk_modulus'"),
        ({"--targets": "missing.yaml"}, "missing.yaml: cannot be read"),
        ({"--id-column": "crystal"}, "no id column 'crystal'"),
        ({"--grid": "1"}, "--grid"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    taskgroup, inputs: list[str], tmp_path: Path, change: dict, said: str
) -> None:
    options = dict(zip(inputs[1::2], inputs[2::2], strict=True)) | change
    done = taskgroup(
        "ingest",
        inputs[0],
        *(x for pair in options.items() for x in pair),
        "--out",
        tmp_path / "store",
    )
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "store").exists()


def test_a_store_that_is_not_there_or_half_written_is_exit_code_2(
    taskgroup, inputs: list[str], tmp_path: Path
) -> None:
    assert "did you mean 'crystals'" in taskgroup("info", "crystal").err
    store = tmp_path / "store"
    assert taskgroup("ingest", *inputs, "--out", store, "-q").code == 0
    manifest = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps({**manifest, "complete": False}))
    done = taskgroup("info", store)
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert "half written" in done.err


def test_control_c_stops_cleanly_says_how_to_go_on_and_loses_nothing(
    taskgroup, inputs: list[str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    command = [
        sys.executable,
        "-m",
        "taskgroup",
        "data",
        "ingest",
        *inputs,
        "--out",
        str(store),
        "--workers",
        "2",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not list(store.glob("parts/*.json")):
        assert process.poll() is None
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: parent and children
    said = process.communicate()[1]
    assert process.returncode == 130
    assert "run the same command to go on" in said
    assert "Traceback" not in said
    assert taskgroup("ingest", *inputs, "--out", store).code == 0
    assert len(load_dataset(store)) == 8


@pytest.mark.parametrize("shard", ["3", "a/b", "3/2", "0/2"])
def test_a_shard_that_is_none_is_refused(
    taskgroup, inputs: list[str], tmp_path: Path, shard: str
) -> None:
    done = taskgroup("ingest", *inputs, "--out", tmp_path / "store", "--shard", shard)
    assert done.code == 2
    assert "shard" in done.err


def test_a_share_says_how_much_is_left_to_other_machines(
    taskgroup, inputs: list[str], tmp_path: Path
) -> None:
    done = taskgroup("ingest", *inputs, "--out", tmp_path / "store", "--shard", "1/2")
    assert "4 rows, not complete: 4 are left to other machines" in done.out
    done = taskgroup("ingest", *inputs, "--out", tmp_path / "store", "--shard", "2/2")
    assert done.out.endswith("8 rows\n")


@pytest.mark.parametrize("spelling", [["--json"], ["--format", "json"]])
def test_every_data_verb_takes_both_spellings_of_json(
    taskgroup, inputs: list[str], tmp_path: Path, spelling: list[str]
) -> None:
    checked = taskgroup("check", *inputs, "-q", *spelling)
    made = taskgroup("ingest", *inputs, "--out", tmp_path / "store", *spelling)
    shown = taskgroup("info", tmp_path / "store", *spelling)
    rows = [json.loads(done.out)["n_rows"] for done in (checked, made, shown)]
    assert rows == [8, 8, 8]
    assert isinstance(json.loads(shown.out)["notes"], list)


def test_check_prints_what_would_come_in_and_writes_nothing(
    taskgroup, inputs: list[str], tmp_path: Path
) -> None:
    (tmp_path / "in" / "Al-sc.CHGCAR.gz").write_bytes(b"broken")
    before = sorted(tmp_path.rglob("*"))
    done = taskgroup("check", *inputs)
    assert done.code == 0
    assert "refused: Al-sc: " in done.out
    assert "7 rows would come in; nothing was written" in done.out
    assert sorted(tmp_path.rglob("*")) == before


def test_several_tables_and_a_pattern_for_folders(
    taskgroup, inputs: list[str], tmp_path: Path
) -> None:
    for path in list((tmp_path / "in").iterdir()):
        place = tmp_path / "in" / path.name.split(".")[0] / "static"
        place.mkdir(parents=True)
        path.rename(place / "CHGCAR.gz")
    crystals = load_dataset("crystals")
    (tmp_path / "more.csv").write_text(
        "formula id;gap (eV)\n".replace("formula id", "id")
        + "".join(f"{name};{number % 7},5\n" for number, name in enumerate(crystals.ids))
    )
    arguments = [*inputs, "--properties", tmp_path / "more.csv", "--match", "{id}/static"]
    done = taskgroup("ingest", *arguments, "--out", tmp_path / "store", "-q")
    assert done.code == 0, done.err
    assert load_dataset(tmp_path / "store").targets.names == ("bulk_modulus", "gap")
    guessed = taskgroup("check", *inputs)
    assert "files are matched as '{id}/static'" in guessed.out


def test_control_characters_of_a_table_do_not_reach_the_terminal(
    taskgroup, inputs: list[str], tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text("id,x,\x1b[31mred\na,1,2\nb,2,3\n")
    done = taskgroup("check", *inputs)
    assert "\x1b" not in done.out + done.err


def test_init_tells_what_is_odd_about_the_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    crystals = load_dataset("crystals").subset(range(20))
    values = crystals.targets.select(["band_gap"]).values.copy()
    values[3] = -9999
    table = TargetTable((Target("gap", unit="eV"),), crystals.ids, values)
    write_store(tmp_path / "store", replace(crystals, targets=table))
    with pytest.raises(SystemExit):
        main(["init", str(tmp_path / "store"), "--out", str(tmp_path / "study.yaml")])
    said = capsys.readouterr()
    assert "labels are -9999" in said.err
    assert "Wrote" in said.out
