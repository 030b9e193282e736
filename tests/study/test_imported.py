"""Results of others become runs with a leaderboard and a report."""

import json

import optuna
import pytest
from click.testing import CliRunner

from taskgroup.cli import cli
from taskgroup.errors import GroupingError, RunError
from taskgroup.study.imported import import_optuna, import_sets
from taskgroup.tracking import leaderboard, read_records, read_study
from taskgroup.tracking.report import report_html
from taskgroup.tracking.tables import read_transfer_matrix

TABLE = """tasks,cost,gap,modulus,volume
gap,1,0.4,,
modulus,1,,0.6,
volume,1,,,0.2
modulus volume,1,,0.5,0.22
gap modulus volume,1,0.44,0.54,0.18
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "sets.csv"
    path.write_text(TABLE)
    return path


@pytest.fixture(autouse=True)
def quiet_optuna():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_a_table_of_losses_becomes_relative_gains_over_the_task_alone(table, tmp_path):
    imported = import_sets(table, "sets", folder=tmp_path / "run")
    records = {record.name: record for record in read_records(imported.folder)}
    assert set(records) == {"singles", "together", "assembled-1", "assembled-2", "assembled-3"}
    assert records["singles"].objective == pytest.approx(0)
    expected = {"gap": 1 - 0.44 / 0.4, "modulus": 1 - 0.54 / 0.6, "volume": 1 - 0.18 / 0.2}
    assert records["together"].skills == pytest.approx(expected)
    # The three best networks: gap alone, volume from all, modulus from the pair.
    assert str(records["assembled-3"].grouping) == (
        "{gap} | {modulus + volume} | {volume + gap, modulus}"
    )
    assert leaderboard(read_records(imported.folder))[0]["name"] == "assembled-3"
    assert read_study(imported.folder).state == "imported"


def test_an_imported_table_has_a_report_and_who_helped_whom(table, tmp_path):
    imported = import_sets(table, "sets", lower_is_better=False, folder=tmp_path / "run")
    page = report_html(imported.folder)
    assert "imported" in page
    assert "Measured transfer" in page
    transfer = read_transfer_matrix(imported.folder)
    assert transfer.value("volume", "modulus") == pytest.approx(0.5 - 0.6)


def test_tables_without_single_tasks_and_runs_that_exist_are_refused(table, tmp_path):
    table.write_text("tasks,gap,volume\ngap volume,0.3,0.2\n")
    with pytest.raises(GroupingError, match="a row of 'gap' alone"):
        import_sets(table, "sets", folder=tmp_path / "run")
    table.write_text(TABLE)
    import_sets(table, "sets", folder=tmp_path / "run")
    with pytest.raises(RunError, match="a run of this name exists"):
        import_sets(table, "sets", folder=tmp_path / "run")


def test_trials_of_a_plain_optuna_study_are_on_the_leaderboard(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(storage=storage, study_name="mine", direction="minimize")

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("lr", 1e-3, 1e-2)
        together = trial.suggest_categorical("group_gap", [0, 1]) == 0
        trial.suggest_categorical("group_volume", [0])
        trial.set_user_attr("skills", {"gap": 0.5, "volume": 0.7})
        if trial.number == 2:
            raise optuna.TrialPruned
        return 0.3 if together else 0.4

    study.enqueue_trial({"group_gap": 0, "lr": 0.002})
    study.enqueue_trial({"group_gap": 1})
    study.optimize(objective, n_trials=3)
    imported = import_optuna(str(tmp_path / "study.db"), None, "mine", folder=tmp_path / "run")
    rows = leaderboard(read_records(imported.folder))
    assert [row["name"] for row in rows] == ["trial-0", "trial-1", "trial-2"]
    assert [row["grouping"] for row in rows[:2]] == ["{gap, volume}", "{gap} | {volume}"]
    assert rows[0]["objective"] == -0.3
    assert rows[0]["settings"]["hp/lr"] == 0.002
    assert rows[0]["skills"] == {"gap": 0.5, "volume": 0.7}
    assert rows[2]["state"] == "PRUNED"
    assert "mine" in report_html(imported.folder)


def test_a_study_that_does_not_say_its_groupings_is_refused_with_what_to_do(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    optuna.create_study(storage=storage, study_name="a").optimize(lambda trial: 1.0, n_trials=1)
    with pytest.raises(RunError, match="set its user attribute 'grouping'"):
        import_optuna(storage, "a", "mine", folder=tmp_path / "run")
    with pytest.raises(RunError, match="no study 'b'; choose from: a"):
        import_optuna(storage, "b", "mine", folder=tmp_path / "run")
    with pytest.raises(RunError, match="no such Optuna storage"):
        import_optuna(str(tmp_path / "no.db"), None, "mine")


def test_the_command_imports_and_says_how_to_go_on(table, tmp_path):
    out = str(tmp_path / "run")
    shown = CliRunner().invoke(
        cli, ["import", str(table), "--name", "sets", "--out", out, "--json"]
    )
    content = json.loads(shown.output)
    assert content["records"] == 5
    board = CliRunner().invoke(cli, ["leaderboard", out])
    assert "assembled-3" in board.output
