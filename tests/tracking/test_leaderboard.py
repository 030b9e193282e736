"""The leaderboard: order, ranks, sorting and its forms."""

import io
import json

import pytest
from rich.console import Console

from taskgroup.errors import RunError
from taskgroup.tracking import (
    FinalRecord,
    Interval,
    leaderboard,
    leaderboard_frame,
    leaderboard_notes,
    leaderboard_table,
)


def test_rows_have_the_documented_fields_and_nothing_else(records) -> None:
    expected = (
        "rank chosen kind name grouping grouping_id objective test n_networks state seconds "
        "skills gains test_skills settings verdict"
    )
    assert all(" ".join(row) == expected for row in leaderboard(records))
    json.dumps(leaderboard(records), allow_nan=False)


def test_the_best_objective_leads_and_what_did_not_finish_comes_last(records) -> None:
    rows = leaderboard(records)
    assert [row["objective"] for row in rows] == [0.65, 0.6, 0.5, 0.4, 0.75, None, None]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, None, None, None]
    assert [row["state"] for row in rows[-2:]] == ["PRUNED", "FAIL"]


def test_test_values_are_not_ranked_among_validation_values(records) -> None:
    refit = next(row for row in leaderboard(records) if row["kind"] == "refit")
    assert refit["objective"] == 0.75
    assert refit["rank"] is None


def test_the_grouping_is_in_words(records) -> None:
    assert leaderboard(records)[0]["grouping"] == "{band_gap} | {density, volume + band_gap}"


@pytest.mark.parametrize(
    ("column", "first"),
    [("density", "refit-0"), ("gain/volume", "refit-0"), ("skill/volume", "refit-0"), ("objective", "refit-0"),
     ("n_networks", "assembled-0"), ("name", "assembled-0"), ("rank", "assembled-0")],
)  # fmt: skip
def test_skills_descend_and_costs_ascend_when_sorted(records, column, first) -> None:
    rows = leaderboard(records, sort=column)
    assert rows[0]["name"] == first
    assert sorted(row["name"] for row in rows) == sorted(record.name for record in records)


def test_rows_without_a_value_come_last_however_sorted(records) -> None:
    assert {row["state"] for row in leaderboard(records, sort="density")[-2:]} == {"PRUNED", "FAIL"}


def test_sorting_keeps_ranks_and_top_cuts_after_sorting(records) -> None:
    rows = leaderboard(records, sort="seconds", top=3)
    assert len(rows) == 3
    assert rows[0]["rank"] == 1


def test_an_unknown_column_is_refused_with_the_nearest_name(records) -> None:
    with pytest.raises(RunError, match=r"no column 'objectiv'.*did you mean 'objective'"):
        leaderboard(records, sort="objectiv")


def test_the_frame_holds_the_same_numbers_as_the_rows(records) -> None:
    frame, rows = leaderboard_frame(records), leaderboard(records)
    assert list(frame["objective"].dropna()) == [
        r["objective"] for r in rows if r["objective"] is not None
    ]
    assert list(frame["gain/density"].dropna()) == [
        r["gains"]["density"] for r in rows if "density" in r["gains"]
    ]
    assert list(frame["rank"].dropna()) == [1, 2, 3, 4]


def test_a_run_without_trials_gives_an_empty_frame_and_table() -> None:
    assert len(leaderboard_frame([])) == 0
    assert leaderboard_table([]).row_count == 0


def test_the_table_shows_baselines_failures_and_losses(records) -> None:
    text = io.StringIO()
    Console(file=text, width=120).print(leaderboard_table(records))
    lines = text.getvalue().splitlines()
    assert len(lines) == 1 + len(records)
    assert any(
        "singles (baseline)" in line and "{band_gap} | {density} | {volume}" in line
        for line in lines
    )
    assert any("trial-2 (fail)" in line and "–" in line for line in lines)
    assert any("trial-4" in line and "+0.1000, 1 loses" in line for line in lines)
    assert any("refit-0 (test)" in line for line in lines)


@pytest.fixture
def final(records) -> FinalRecord:
    """The third best by validation was chosen."""
    test = {target: {"n": 9, "skill": 0.45} for target in ("band_gap", "density", "volume")}
    return FinalRecord(
        records[4].grouping, "trial-4", 0.5, Interval(0.52, 0.5, 0.54, 3), Interval(0.45, 0.4, 0.5), {}, test,
    )  # fmt: skip


def test_the_choice_is_marked_with_its_test_values_and_nothing_else_is(records, final) -> None:
    rows = leaderboard(records, final=final)
    assert [row["name"] for row in rows if row["chosen"]] == ["trial-4"]
    assert [(row["name"], row["test"]) for row in rows if row["test"] is not None] == [
        ("trial-4", 0.45)
    ]
    frame = leaderboard_frame(records, final=final).set_index("name")
    assert frame.loc["trial-4", "test/density"] == 0.45
    assert frame["test/density"].notna().sum() == 1
    assert not any(row["chosen"] for row in leaderboard(records))


def test_the_notes_say_why_the_choice_is_not_first_and_what_is_left_out(records, final) -> None:
    why, helpers, missing = leaderboard_notes(
        [*records, records[1].__class__(**(vars(records[1]) | {"number": 7}))], final
    )
    assert why.startswith("trial-4 is the choice, although 3 validation values are higher")
    assert "new seeds" in why
    assert missing.startswith("2 trials are left out")
    assert helpers.startswith("{a + b} is a network that predicts a")
    assert leaderboard_notes([r for r in records if r.kind == "trial" and r.number == 0]) == []


def test_assembled_groupings_have_gains_against_the_singles(records) -> None:
    row = next(row for row in leaderboard(records) if row["kind"] == "assembled")
    assert row["gains"] == pytest.approx(dict.fromkeys(row["skills"], 0.25))
    without_singles = [record for record in records if record.kind != "baseline"]
    assert all(
        not row["gains"] for row in leaderboard(without_singles) if row["kind"] == "assembled"
    )


def test_hyper_parameters_are_columns_and_those_that_differ_are_shown(records, make_record) -> None:
    other = make_record(
        9, objective=0.55, settings={"hp/training.lr": 0.01, "grouping/method": "x"}
    )
    frame = leaderboard_frame([*records, other])
    assert set(frame["hp/training.lr"].dropna()) == {0.001, 0.01}
    assert "grouping/method" not in frame
    text = io.StringIO()
    Console(file=text, width=140).print(leaderboard_table([*records, other]))
    assert "settings" in text.getvalue()
    assert "lr 0.01" in text.getvalue()
    rows = leaderboard([*records, other], sort="hp/training.lr")
    assert rows[-1]["name"] == "trial-9"


def test_the_networks_of_an_assembled_grouping_are_counted_by_backbone(make_record) -> None:
    recipes = [
        {"model": {"backbone": "peaks", "width": 8}, "training": {"lr": 0.1}},
        {"model": {"backbone": {"name": "mine", "heads": 2}, "width": 8}, "training": {"lr": 0.2}},
    ]
    grouping = json.loads(make_record(0).grouping.to_json())
    plan = {"grouping": grouping, "recipes": recipes, "recipe_of_group": [0, 1]}
    (row,) = leaderboard([make_record(0, "assembled", 0.5, settings={}, plan=plan)])
    assert row["settings"]["hp/model.backbone"] == "1 peaks, 1 mine"
    assert row["settings"]["hp/model.width"] == 8
    assert "hp/training.lr" not in row["settings"]


def test_the_table_marks_the_choice_and_shows_its_test_value(records, final) -> None:
    text = io.StringIO()
    Console(file=text, width=120).print(leaderboard_table(records, final=final))
    (line,) = [line for line in text.getvalue().splitlines() if "0.4500" in line]
    assert "trial-4 (chosen)" in line
