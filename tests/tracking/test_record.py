"""Records survive kills, odd numbers and newer versions."""

import json
import math
from dataclasses import replace

import pytest

from taskgroup.errors import RunError
from taskgroup.grouping import Group, Grouping
from taskgroup.tracking import (
    FinalRecord,
    Interval,
    append_record,
    read_final,
    read_records,
    read_study,
    write_final,
)


def test_records_read_back_equal(run, records) -> None:
    assert read_records(run) == records


def test_every_line_is_plain_json_without_nan(make_run, make_record) -> None:
    run = make_run(
        [make_record(0, "trial", 0.5, skills={"density": math.nan}, gains={"density": -math.inf})]
    )
    line = (run / "trials.jsonl").read_text()
    assert "NaN" not in line
    assert "Infinity" not in line
    assert read_records(run)[0].skills == {"density": None}
    assert json.loads(line)["grouping_id"] == read_records(run)[0].grouping.grouping_id


def test_a_torn_last_line_is_skipped_and_does_not_spoil_the_next(run, records, make_record) -> None:
    path = run / "trials.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    assert read_records(run) == records[:-1]
    append_record(run, make_record(9))
    assert read_records(run) == [*records[:-1], make_record(9, time=read_records(run)[-1].time)]


def test_a_trial_written_twice_counts_once_and_the_later_line_wins(make_run, make_record) -> None:
    run = make_run([make_record(0, objective=0.1), make_record(1), make_record(0, objective=0.7)])
    assert [(r.number, r.objective) for r in read_records(run)] == [(0, 0.7), (1, 0.5)]


def test_a_record_of_a_newer_version_with_more_fields_is_read(run, records) -> None:
    path = run / "trials.jsonl"
    lines = [
        json.dumps(json.loads(line) | {"colour": "blue"}) for line in path.read_text().splitlines()
    ]
    path.write_text("\n".join(lines) + "\n")
    assert read_records(run) == records


def test_unknown_kinds_and_states_are_refused(make_record) -> None:
    with pytest.raises(RunError, match=r"kind must be one of baseline.*'bogus'"):
        make_record(0, "bogus")
    with pytest.raises(RunError, match=r"state must be one of COMPLETE.*'DONE'"):
        make_record(0, state="DONE")


def test_a_final_record_reads_back_equal(run) -> None:
    final = FinalRecord(
        grouping=Grouping((Group(("a",)), Group(("a", "b"), ("b",)))),
        name="assembled-2",
        search_value=0.7,
        reevaluation=Interval(0.6, 0.55, 0.65, 3),
        test_value=Interval(0.58, None, None),
        gains={"b": Interval(0.02, -0.01, 0.05, 3)},
        test={"a": {"n": 10, "skill": 0.6, "auc": 0.8}, "b": {"n": 12, "skill": None}},
        seeds=(1, 2, 3),
    )
    assert read_final(run) is None
    write_final(run, final)
    assert read_final(run) == final
    gain = replace(final, test_gain=Interval(0.02, -0.01, 0.05, 1000), plan={"recipes": []})
    write_final(run, gain)
    assert read_final(run) == gain


def test_a_folder_that_is_no_run_is_refused_by_name(tmp_path) -> None:
    for read in (read_records, read_study, read_final):
        with pytest.raises(RunError, match=r"holds study\.json"):
            read(tmp_path)


def test_a_damaged_study_file_is_refused(run) -> None:
    (run / "study.json").write_text("{")
    with pytest.raises(RunError, match="must be JSON"):
        read_study(run)
