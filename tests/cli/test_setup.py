"""The verbs init, schema, doctor and plugins, and what all verbs have in common."""

import json

import click
import numpy as np
import pytest

from taskgroup.cli import cli, main
from taskgroup.datasets import Dataset, Target, TargetTable
from taskgroup.datasets.store.finish import write_store
from taskgroup.spec import load_study


def call(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


@pytest.fixture(scope="module")
def commands() -> dict[str, click.Command]:
    context = click.Context(cli)
    return {name: cli.get_command(context, name) for name in cli.list_commands(context)}


def test_every_verb_has_an_example_that_its_parser_accepts(commands, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "calcs" / "NaCl").mkdir(parents=True)
    for name in ("sets.csv", "table.csv", "calcs/NaCl/CHGCAR"):
        (tmp_path / name).touch()
    for name, command in commands.items():
        example = command.epilog.splitlines()[-1].strip()
        words = example.split(">")[0].split()
        assert words[:2] == ["taskgroup", name]
        command.make_context(name, words[2:]).close()


def test_every_verb_that_prints_takes_json(commands) -> None:
    printing = ("run", "resume", "leaderboard", "transfer", "learning-curve", "report", "export",
                "predict", "evaluate", "solve", "affinity", "group", "doctor", "plugins", "init", "schema",
                "completion", "worker", "failures", "sync")  # fmt: skip
    without = []
    for name in printing:
        options = {option for parameter in commands[name].params for option in parameter.opts}
        if "--json" not in options:
            without.append(name)
    assert without == []


def test_json_is_short_for_the_format_in_commands_of_groups_too(capsys) -> None:
    code, out, _ = call(capsys, "data", "info", "crystals", "--json")
    assert code == 0
    assert json.loads(out) == json.loads(
        call(capsys, "data", "info", "crystals", "--format", "json")[1]
    )


def test_doctor_prints_the_machine_as_text_and_as_json(capsys) -> None:
    code, out, _ = call(capsys, "doctor")
    assert code == 0
    assert out.startswith("taskgroup ")
    _, out, _ = call(capsys, "doctor", "--format", "json")
    assert {"taskgroup", "python", "torch", "device"} <= json.loads(out).keys()


def test_doctor_recognises_the_other_project_of_the_same_import_name(
    tmp_path, capsys, monkeypatch
) -> None:
    assert "clash" not in call(capsys, "doctor")[1]
    metadata = tmp_path / "taskgroup-0.2.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: taskgroup\nVersion: 0.2.2\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "taskgroup 0.2.2 is another project" in call(capsys, "doctor")[1]


def test_plugins_lists_every_kind_and_where_it_comes_from(capsys) -> None:
    code, out, _ = call(capsys, "plugins", "--json")
    assert code == 0
    rows = json.loads(out)
    kinds = {row["kind"] for row in rows}
    assert kinds == {
        "density reader",
        "measure",
        "clustering method",
        "backbone",
        "balancer",
        "executor",
    }
    msa = next(row for row in rows if row["name"] == "msa3dcnn")
    assert (msa["kind"], msa["distribution"]) == ("backbone", "taskgroup")
    assert "msa3dcnn" in call(capsys, "plugins")[1]


@pytest.fixture(scope="module")
def small_store(tmp_path_factory):
    """A store of eight rows: labels over decades, some missing, a class, a column without any."""
    targets = (
        Target("modulus", unit="GPa"),
        Target("gap", unit="eV"),
        Target("metal", kind="classification"),
        Target("nothing"),
    )
    nan = np.nan
    values = np.array([[10.0**k, k / 3 if k % 2 else nan, k % 2, nan] for k in range(8)])
    table = TargetTable(targets, [f"row{k}" for k in range(8)], values)
    dataset = Dataset.from_arrays(
        "small",
        table.ids,
        table,
        np.ones((8, 1, 8, 8, 8)),
        np.stack([np.eye(3) * 4] * 8),
        [f"X{k}" for k in range(8)],
        [f"X{k}" for k in range(8)],
        species=[["Si"]] * 8,
        frac_coords=[[[0, 0, 0]]] * 8,
    )
    folder = tmp_path_factory.mktemp("stores") / "small"
    write_store(folder, dataset)
    return folder


def test_init_looks_at_the_data_and_writes_a_study_that_runs_as_it_is(
    small_store, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, "init", small_store, "--out", "my study.yaml")
    assert code == 0
    assert "taskgroup run 'my study.yaml'" in out
    assert "take transform log10" in err
    study = load_study("my study.yaml")
    assert study.name == "my_study"
    assert study.targets == ("modulus", "gap", "metal", "nothing")
    text = (tmp_path / "my study.yaml").read_text()
    assert "8 of 8 rows, 1 to 1e+07 GPa" in text
    assert "4 of 8 rows, 0.333 to 2.33 eV" in text
    assert "yes or no, 50% yes" in text
    assert "no label, delete this line" in text
    assert "take transform log10" in text
    assert call(capsys, "init", small_store, "--out", "my study.yaml")[0] == 2


def test_every_line_of_the_study_that_init_writes_is_commented(
    tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(capsys, "init", "--json")
    assert code == 0
    assert json.loads(out)["study"] == "study.yaml"
    previous = ""
    for line in (tmp_path / "study.yaml").read_text().splitlines():
        is_commented = "# " in line or previous.lstrip().startswith("#")
        assert is_commented or not line, line
        previous = line
    assert load_study("study.yaml").dataset == "crystals"


def test_init_of_a_store_that_is_not_there_is_one_line(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, "init", "nowhere")
    assert code == 2
    assert len(err.splitlines()) == 1


def test_schema_is_json_and_describes_the_settings_of_each_backbone(capsys) -> None:
    schema = json.loads(call(capsys, "schema")[1])
    assert "properties" in schema
    own = schema["$defs"]["backbone_msa3dcnn"]["properties"]
    assert "dilations" in own
    assert own["dilations"]["description"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell, capsys) -> None:
    code, out, _ = call(capsys, "completion", shell)
    assert code == 0
    assert f"_TASKGROUP_COMPLETE={shell}_complete" in out


def test_exit_codes_are_documented_in_the_help(capsys) -> None:
    _, out, _ = call(capsys, "--help")
    assert "2 bad input" in out
