"""The leaderboard: order, ranks, sorting and its forms."""

import io
import json

import pytest
from rich.console import Console

from taskgroup.errors import RunError
from taskgroup.tracking import leaderboard, leaderboard_frame, leaderboard_table


def test_rows_have_the_documented_fields_and_nothing_else(records) -> None:
    expected = "rank kind name grouping grouping_id objective n_networks state skills gains seconds"
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
