"""The report is one file that needs nothing else, whatever state the run is in."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from taskgroup.affinity import Affinity
from taskgroup.errors import RunError
from taskgroup.tracking import FinalRecord, Interval, read_study, write_final, write_study
from taskgroup.tracking.report import report_html, write_report
from taskgroup.tracking.verdict import gain_in_a_word

AFFINITY = Affinity(
    ("band_gap", "density", "volume"),
    [[1.0, -0.5, np.nan], [-0.5, 1.0, 0.8], [np.nan, 0.8, 1.0]],
    measure="spearman",
)


class Page(HTMLParser):
    """Collects rows of tables, links, scripts and pictures; complains about tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows, self.open, self.counts, self.links = [], [], {}, []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.links += [
            v for k, v in attributes if k in ("href", "src", "xlink:href") and not v.startswith("#")
        ]
        if tag not in ("meta", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append("")

    def handle_startendtag(self, tag, attributes):
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "tr" in self.open and data.strip():
            self.rows[-1] += f" {' '.join(data.split())}"


@pytest.fixture
def finished(run, records):
    gains = {"density": Interval(0.1, 0.05, 0.15, 3), "volume": Interval(0.01, -0.1, 0.12, 3)}
    metrics = {"n": 12, "skill": 0.5, "low": 0.3, "high": 0.7, "r2": 0.5, "mae": 2.0, "gain": 0.07,
               "gain_low": -0.01, "gain_high": 0.2}  # fmt: skip
    final = FinalRecord(
        records[5].grouping, "assembled-2", 0.65, Interval(0.6, 0.5, 0.7, 3), Interval(0.55, 0.4, 0.7), gains,
        {"density": metrics, "band_gap": {"n": 9, "skill": 0.8, "low": None, "high": None, "auc": 0.9}},
    )  # fmt: skip
    write_final(run, final)
    study = read_study(run)
    write_study(run, type(study)(**(vars(study) | {"state": "finished"})))
    (run / "affinity").mkdir()
    (run / "affinity" / "spearman.json").write_text(AFFINITY.to_json())
    return run


def test_the_report_refers_to_nothing_outside_itself(finished) -> None:
    text = report_html(finished)
    page = Page(text)
    assert page.links == []
    assert not re.search(r"https?:|//cdn|@import|url\((?!#)", text)
    # Only the script that belongs to the page may run, and nothing may be loaded.
    assert page.counts["script"] == 1
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
        in text
    )


def test_the_report_holds_leaderboard_gains_tests_and_pictures(finished, records) -> None:
    page = Page(report_html(finished))
    rows = "\n".join(page.rows)
    assert all(record.name in rows for record in records)
    assert "volume alone +0.010 [-0.100, +0.120] within seed noise" in rows
    assert "density +0.070 [-0.010, +0.200] +0.100 [+0.050, +0.150] helped" in rows
    assert "density GPa 12 0.500 [0.300, 0.700]" in rows
    # Gains on test and validation rows, graph, heat map, search, curves.
    assert page.counts["svg"] == 6


def test_every_figure_has_a_text_for_those_who_do_not_see_it(finished) -> None:
    labels = re.findall(r'<svg role="img" aria-label="([^"]+)"', report_html(finished))
    assert len(labels) == 6
    assert "Gain of 1 targets: 0 helped, 0 hurt, the others within noise." in labels
    assert any("groups: {band_gap} | {density, volume + band_gap}" in label for label in labels)


def test_the_page_follows_dark_mode_small_screens_and_paper(finished) -> None:
    text = report_html(finished)
    for query in ("(prefers-color-scheme: dark)", "(max-width: 700px)", "print"):
        assert f"@media {query}" in text
    figures = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    # What is drawn in black or in the grey of the grid takes the colour of the page.
    assert "var(--ink)" in figures
    assert "#1f2933" not in figures


def test_an_unfinished_run_and_an_empty_run_have_reports_too(run, make_run) -> None:
    assert "Best so far" in report_html(run)
    assert "No trial has finished yet" in report_html(make_run([], "empty"))


def test_the_same_run_gives_the_same_report(finished) -> None:
    assert report_html(finished) == report_html(finished)


def test_names_from_outside_cannot_break_the_page(make_run, make_record) -> None:
    reason = "<script>alert(1)</script>"
    run = make_run(
        [make_record(0, objective=None, state="FAIL", fail_kind="error", fail_reason=reason)]
    )
    page = Page(report_html(run))
    assert page.counts["script"] == 1
    assert "alert" not in re.search(r"<script>(.*)</script>", report_html(run), re.DOTALL)[1]


def test_the_file_is_written_where_asked(finished, tmp_path) -> None:
    out = write_report(finished, tmp_path / "deep" / "page.html")
    assert out.read_text() == report_html(finished)
    assert list(out.parent.iterdir()) == [out]


def test_a_folder_that_is_no_run_has_no_report(tmp_path) -> None:
    with pytest.raises(RunError, match=r"holds study\.json"):
        report_html(tmp_path)


def test_a_gain_whose_interval_holds_zero_is_called_noise() -> None:
    bounds = [(-0.1, 0.1), (0.01, 0.1), (-0.1, -0.01), (0.0, 0.1), (None, None)]
    words = [
        gain_in_a_word(Interval(float(np.mean([low or 0, high or 0])), low, high))
        for low, high in bounds
    ]
    assert words == [
        "within seed noise",
        "helped",
        "hurt",
        "within seed noise",
        "within seed noise",
    ]
