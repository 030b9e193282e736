"""The verbs init, schema, doctor and plugins, and what all verbs have in common."""

import json

import click
import pytest

from taskgroup.cli import cli, main


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
    for name in ("sets.csv", "table.csv", "calcs"):
        (tmp_path / name).touch()
    for name, command in commands.items():
        example = command.epilog.splitlines()[-1].strip()
        words = example.split(">")[0].split()
        assert words[:2] == ["taskgroup", name]
        command.make_context(name, words[2:]).close()


def test_every_verb_that_prints_takes_json(commands) -> None:
    printing = ("run", "resume", "leaderboard", "transfer", "learning-curve", "report", "export",
                "predict", "evaluate", "solve", "affinity", "group", "doctor", "plugins")  # fmt: skip
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


def test_init_writes_a_study_that_names_the_dataset_and_never_overwrites(
    tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(capsys, "init", "my study.yaml", "--dataset", "mine")
    assert code == 0
    assert "taskgroup run my study.yaml" in out
    text = (tmp_path / "my study.yaml").read_text()
    assert "name: my_study\n" in text
    assert "dataset: mine\n" in text
    assert "\ntargets:" not in text
    assert call(capsys, "init", "my study.yaml")[0] == 2


def test_schema_is_json(capsys) -> None:
    assert "properties" in json.loads(call(capsys, "schema")[1])
