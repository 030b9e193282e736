"""The verbs export, predict and evaluate, as a user runs them."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from taskgroup.cli import main
from taskgroup.datasets import Dataset, Target, TargetScaler, load_dataset
from taskgroup.datasets.load import BUILT_IN
from taskgroup.export import Bundle, BundleSpec, DensityFormat, evaluate, load_bundle, save_bundle
from taskgroup.grouping import Grouping
from taskgroup.models import ModelConfig, MultiTaskNetwork
from taskgroup.tracking import StudyRecord, write_study

SILICON = """Si
1.0
0 2.7 2.7
2.7 0 2.7
2.7 2.7 0
Si
2
direct
0 0 0
0.25 0.25 0.25
"""


def make_bundle(
    specs: tuple[Target, ...], density: DensityFormat, dataset: Dataset | None = None
) -> Bundle:
    """Random networks, one target each."""
    grouping = Grouping.singles([spec.name for spec in specs])
    networks = {}
    for group in grouping.groups:
        torch.manual_seed(0)
        own = [spec for spec in specs if spec.name in group.targets]
        scaler = TargetScaler.fit(
            own, np.array([[1.0], [0.0 if own[0].kind == "classification" else 2.0]])
        )
        config = ModelConfig(
            backbone="resnet3d", width=4, stages=1, grid=4, features=8, head_width=4
        )
        networks[group] = [MultiTaskNetwork(config, own, scaler, density.n_channels).eval()]
    about = (
        {"name": dataset.name, "version": dataset.version, "hash": dataset.hash}
        if dataset
        else {"name": "none"}
    )
    seen = dataset.ids[:-8] if dataset else ()
    spec = BundleSpec("demo", grouping, specs, density, about, {"id": "s"}, seen, {"modulus": 0.1})
    return Bundle(spec, networks)


@pytest.fixture
def bundle(tmp_path) -> Path:
    """Takes structures."""
    specs = (
        Target("modulus", unit="GPa", transform="log10"),
        Target("metal", kind="classification"),
    )
    made = make_bundle(specs, DensityFormat("promolecule", 8, 0.3, 1))
    return save_bundle(tmp_path / "bundle", made.spec, made.members)


@pytest.fixture
def files(tmp_path) -> list[Path]:
    good, bad = tmp_path / "POSCAR", tmp_path / "bad.cif"
    good.write_text(SILICON)
    bad.write_text("no structure")
    return [good, bad]


@pytest.fixture(scope="module")
def crystals_bundle(tmp_path_factory) -> Path:
    dataset = load_dataset("crystals")
    specs = tuple(dataset.targets.spec(name) for name in ("density", "is_metal"))
    made = make_bundle(specs, DensityFormat.of(dataset), dataset)
    return save_bundle(tmp_path_factory.mktemp("crystals") / "bundle", made.spec, made.members)


def call(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


def test_predict_prints_json_with_value_unit_and_deviation(bundle, files, capsys) -> None:
    code, out, err = call(capsys, "predict", bundle, files[0], "--format", "json")
    assert (code, err) == (0, "")
    (row,) = json.loads(out)
    frame = load_bundle(bundle).predict([files[0]])
    assert row["id"] == str(files[0])
    assert set(row["predictions"]) == {"modulus", "metal"}
    modulus = row["predictions"]["modulus"]
    assert modulus == {
        "value": frame["modulus"].iloc[0],
        "unit": "GPa",
        "std": frame["modulus_std"].iloc[0],
    }
    assert modulus["std"] > 0


def test_predict_as_csv_has_units_in_the_header(bundle, files, capsys) -> None:
    _, out, _ = call(capsys, "predict", bundle, files[0], "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(out))
    assert list(row) == ["id", "metal", "modulus [GPa]", "metal_std", "modulus_std [GPa]"]


def test_predict_as_table_names_target_value_and_unit(bundle, files, capsys) -> None:
    code, out, _ = call(capsys, "predict", bundle, files[0])
    assert code == 0
    header, units, row = out.splitlines()[:3]
    column = header.index("modulus") + len("modulus")
    assert units[:column].endswith(" GPa")
    assert "±" in row[:column]
    assert row.startswith("POSCAR ")


@pytest.mark.parametrize("form", ["json", "csv", "table"])
def test_one_bad_file_is_told_on_stderr_and_the_others_are_predicted(
    bundle, files, capsys, form
) -> None:
    code, out, err = call(
        capsys,
        "predict",
        bundle,
        files[1],
        files[0],
        files[1].with_name("none.cif"),
        "--format",
        form,
    )
    assert code == 1
    assert [line.split(":")[0] for line in err.strip().splitlines()] == ["Error", "Error"]
    assert "bad.cif" in err
    assert "none.cif" in err
    assert "modulus" in out
    if form == "json":
        assert [row["id"] for row in json.loads(out)] == [str(files[0])]


def test_predict_on_a_folder_goes_by_the_ids_of_its_materials(bundle, tmp_path, capsys) -> None:
    calculations = tmp_path / "calcs"
    for name in ("NaCl", "KCl"):
        (calculations / name).mkdir(parents=True)
        (calculations / name / "POSCAR").write_text(SILICON)
    (calculations / "LiF.POSCAR").write_text(SILICON)
    code, out, err = call(capsys, "predict", bundle, calculations, "--json")
    assert (code, err) == (0, "")
    assert sorted(row["id"] for row in json.loads(out)) == ["KCl", "LiF", "NaCl"]
    _, out, _ = call(capsys, "predict", bundle, *calculations.glob("*Cl"), "--json")
    assert sorted(row["id"] for row in json.loads(out)) == ["KCl", "NaCl"]


def test_of_ten_files_nine_are_predicted_and_the_tenth_is_told(bundle, files, capsys) -> None:
    names = []
    for number in range(9):
        names.append(files[0].with_name(f"POSCAR_{number}"))
        names[-1].write_text(SILICON)
    code, out, err = call(capsys, "predict", bundle, *names[:4], files[1], *names[4:], "--json")
    assert code == 1
    assert [row["id"] for row in json.loads(out)] == list(map(str, names))
    (line,) = err.strip().splitlines()
    assert "bad.cif" in line


def test_a_folder_without_densities_is_one_line_and_code_2_or_1(bundle, tmp_path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    assert call(capsys, "predict", bundle, tmp_path / "empty")[0] == 2
    (tmp_path / "empty" / "notes.txt").write_text("nothing")
    code, _, err = call(capsys, "predict", bundle, tmp_path / "empty")
    assert code == 1
    assert "empty" in err


def test_predict_on_a_store_gives_every_row(crystals_bundle, capsys, monkeypatch) -> None:
    few = load_dataset("crystals").subset(range(5))
    monkeypatch.setitem(BUILT_IN, "crystals", lambda: few)
    _, out, _ = call(capsys, "predict", crystals_bundle, "crystals", "--format", "json")
    assert [row["id"] for row in json.loads(out)] == list(few.ids)


def test_evaluate_measures_unseen_rows_of_a_dataset(crystals_bundle, capsys) -> None:
    code, out, _ = call(capsys, "evaluate", crystals_bundle, "crystals", "--format", "json")
    found = json.loads(out)
    assert code == 0
    assert (found["rows"], found["seen_rows"]) == (8, 0)
    assert found == evaluate(load_bundle(crystals_bundle), load_dataset("crystals"))
    assert {"n", "skill", "low", "high", "r2", "mae", "rmse"} <= set(found["targets"]["density"])
    assert {"n", "skill", "low", "high", "auc"} <= set(found["targets"]["is_metal"])


def test_evaluate_prints_a_table_that_says_which_rows(crystals_bundle, capsys) -> None:
    _, out, _ = call(capsys, "evaluate", crystals_bundle, "crystals")
    assert any("density" in line and "g/cm^3" in line for line in out.splitlines())
    assert "8 rows of crystals, none of them seen in training" in out


def test_evaluate_all_says_how_many_rows_were_seen(crystals_bundle, capsys, monkeypatch) -> None:
    few = load_dataset("crystals")
    few = replace(few.subset(range(len(few) - 10, len(few))), name="crystals")
    monkeypatch.setitem(BUILT_IN, "crystals", lambda: few)
    _, out, _ = call(capsys, "evaluate", crystals_bundle, "crystals", "--all")
    assert "10 rows of crystals, 2 of them seen in training" in out


@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_a_folder_that_is_no_bundle_is_one_line_and_code_2(tmp_path, capsys, verb) -> None:
    code, out, err = call(capsys, verb, tmp_path, "crystals")
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert "bundle.json" in err


def test_evaluate_refuses_densities_of_another_kind(bundle, capsys) -> None:
    code, _, err = call(capsys, "evaluate", bundle, "crystals")
    assert code == 2
    assert "kind of the densities must be promolecule for this bundle" in err


def make_run(folder: Path, bundle: Path | None) -> Path:
    folder.mkdir(parents=True)
    write_study(folder, StudyRecord("demo", {}, {"name": "toy", "hash": "0"}, "s", {}, {}))
    if bundle:
        loaded = load_bundle(bundle)
        save_bundle(folder / "export", loaded.spec, loaded.members)
    return folder


def test_export_copies_the_bundle_of_a_run(bundle, tmp_path, capsys) -> None:
    run = make_run(tmp_path / "runs" / "demo", bundle)
    code, out, _ = call(capsys, "export", run, "--out", tmp_path / "mine")
    assert code == 0
    assert out.strip() == str(tmp_path / "mine")
    assert load_bundle(tmp_path / "mine").spec == load_bundle(bundle).spec


def test_export_adds_programs_and_registers(bundle, tmp_path, capsys, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(
        "taskgroup.export.formats.export_programs", lambda *a: calls.append(a[1:]) or [a[1] / "x"]
    )
    monkeypatch.setattr("taskgroup.study.publish.register_model", lambda *a: calls.append(a) or 3)
    run, mine = make_run(tmp_path / "runs" / "demo", bundle), tmp_path / "mine"
    arguments = [
        "export",
        run,
        "--out",
        mine,
        "--format",
        "pt2",
        "--format",
        "onnx",
        "--register",
        "demo",
    ]
    code, out, _ = call(capsys, *arguments)
    assert code == 0
    assert calls[:2] == [(mine / "programs", "pt2"), (mine / "programs", "onnx")]
    assert calls[2] == (run, "demo")
    assert "models:/demo/3, alias champion" in out


def test_export_of_an_unfinished_run_says_so(tmp_path, capsys) -> None:
    run = make_run(tmp_path / "runs" / "demo", None)
    code, _, err = call(capsys, "export", run, "--out", tmp_path / "mine")
    assert code == 2
    assert "taskgroup resume" in err
    assert not (tmp_path / "mine").exists()


def test_export_never_overwrites_what_is_no_bundle(bundle, tmp_path, capsys) -> None:
    run = make_run(tmp_path / "runs" / "demo", bundle)
    code, _, err = call(capsys, "export", run, "--out", tmp_path)
    assert code == 2
    assert "something else is there" in err
    assert run.exists()
