"""One self-contained HTML file about a run: nothing is loaded from elsewhere, readable in ten years.

Tables sort and filter by a short script inside the file; without it, or on paper, they are plain tables.
"""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from taskgroup.files import write_text
from taskgroup.grouping import Grouping
from taskgroup.plot.graph import group_colours
from taskgroup.settings_text import common_and_own, differing_names, in_words, recipe_settings
from taskgroup.tracking.figure_list import run_figures
from taskgroup.tracking.figures import report_svg
from taskgroup.tracking.leaderboard import leaderboard, leaderboard_notes
from taskgroup.tracking.record import FinalRecord, TrialRecord
from taskgroup.tracking.run_folder import read_final, read_records, read_study
from taskgroup.tracking.tables import best_grouping, test_gains
from taskgroup.tracking.verdict import (
    gain_in_a_word,
    interval_in_words,
    mean_gain_in_words,
    number_in_words,
    verdict_sentence,
)
from taskgroup.urls import redact

# Rows of the leaderboard that a report shows; the command line shows all.
_MOST_ROWS = 200

# Order of the test metrics; n and the skill with its interval stand before them.
_METRICS = ("r2", "r2_natural", "mae", "rmse", "coverage_90", "auc", "accuracy", "log_loss")


def write_report(run_dir: str | Path, out: str | Path) -> Path:
    """Write the report of a run, finished or not. Raises RunError: the folder is no run."""
    path = Path(out)
    write_text(path, report_html(run_dir))
    return path


def report_html(run_dir: str | Path) -> str:
    """Return the report as HTML text."""
    study, records, final = read_study(run_dir), read_records(run_dir), read_final(run_dir)
    grouping = best_grouping(records, final)
    content: dict[str, Any] = {"study": study, "final": final, "grouping": grouping}
    content |= _choice(final, grouping)
    content |= _leaderboard(records, final)
    content |= _search(records, final)
    content["figures"] = _figures(run_dir)
    content["sections"] = _sections(content)
    content |= _page()
    return _template().render(content)


def plan_in_words(plan: Mapping[str, Any] | None) -> tuple[list[dict[str, str]], str]:
    """Return ``{group, backbone, settings}`` of each network of a plan, and the settings that all of them share."""
    if plan is None:
        return [], ""
    grouping = Grouping.from_json(json.dumps(plan["grouping"]))
    recipes = [recipe_settings(recipe) for recipe in plan["recipes"]]
    common, own = common_and_own(recipes)
    # The backbone has a column of its own.
    common.pop("model.backbone", None)
    rows = []
    for group, number in zip(grouping.groups, plan["recipe_of_group"], strict=True):
        settings = dict(own[number])
        settings.pop("model.backbone", None)
        row = {"group": str(group), "backbone": recipes[number]["model.backbone"]}
        rows.append(row | {"settings": in_words(settings)})
    return rows, in_words(common)


def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number_in_words
    environment.filters["interval"] = interval_in_words
    environment.filters["gains"] = mean_gain_in_words
    environment.filters["words"] = in_words
    environment.filters["redact"] = redact
    return environment.from_string(_source("report.html.j2"))


def _choice(final: FinalRecord | None, grouping: Grouping | None) -> dict[str, Any]:
    content: dict[str, Any] = {
        "colours": {} if grouping is None else group_colours(grouping),
        "gain_in_a_word": gain_in_a_word,
        "verdict": "",
        "networks": [],
        "shared_settings": "",
        "test_columns": [],
        "test_gains": {},
        "gain_targets": [],
    }
    if final is None:
        return content
    content["verdict"] = verdict_sentence(final)
    content["networks"], content["shared_settings"] = plan_in_words(final.plan)
    content["test_columns"] = _test_columns(final)
    content["test_gains"] = test_gains(final)
    content["gain_targets"] = _gain_targets(final, content["test_gains"])
    return content


def _gain_targets(final: FinalRecord, gains: Mapping[str, Any]) -> list[str]:
    """Return the targets in the order of the table of gains: best on test rows, then others that were compared."""
    best_first = sorted(gains, key=lambda target: -gains[target].mean)
    return list(dict.fromkeys([*best_first, *final.gains]))


def _leaderboard(records: Sequence[TrialRecord], final: FinalRecord | None) -> dict[str, Any]:
    rows = leaderboard(records, final=final)
    return {
        "rows": rows[:_MOST_ROWS],
        "n_rows": len(rows),
        "notes": leaderboard_notes(records, final),
        "setting_names": differing_names([row["settings"] for row in rows]),
    }


def _search(records: Sequence[TrialRecord], final: FinalRecord | None) -> dict[str, Any]:
    searched = [record for record in records if record.is_trial]
    return {
        "n_states": Counter(record.state for record in records),
        "failures": [record for record in records if record.state == "FAIL"],
        "n_cached": sum(record.n_cached for record in searched),
        "n_groups": sum(len(record.keys) for record in searched),
    }


def _figures(run_dir: str | Path) -> dict[str, dict[str, str]]:
    """Return ``{svg, caption, columns}`` of each figure of the run, by name."""
    figures = {}
    for figure in run_figures(run_dir):
        fields = {"svg": report_svg(figure), "caption": figure.caption}
        figures[figure.name] = fields | {"columns": figure.columns}
    return figures


def _sections(content: Mapping[str, Any]) -> dict[str, str]:
    """Return the titles of the sections that there is something for, by their place in the page."""
    final, figures = content["final"], content["figures"]
    titles = {
        "choice": ("The choice" if final else "Best so far", True),
        "gains": ("Gain from joining", bool(content["gain_targets"])),
        "test": ("Test metrics", final is not None and bool(final.test)),
        "networks": ("Networks of the choice", bool(content["networks"])),
        "learning": ("Skill against training rows", "learning_curve" in figures),
        "affinity": ("Targets and their affinity", "affinity" in figures or "transfer" in figures),
        "leaderboard": ("Leaderboard", True),
        "search": ("The search", "search" in figures),
    }
    return {place: title for place, (title, is_shown) in titles.items() if is_shown}


def _page() -> dict[str, str]:
    """Return style and script of the page, and the hash by which a browser knows that this script may run."""
    script = _source("report.js")
    # What stands between the tags is hashed, the line break behind the opening tag too.
    digest = hashlib.sha256(f"\n{script}".encode()).digest()
    script_hash = f"sha256-{base64.b64encode(digest).decode()}"
    return {"style": _source("report.css"), "script": script, "script_hash": script_hash}


def _source(name: str) -> str:
    return files("taskgroup.tracking").joinpath(name).read_text("utf-8")


def _test_columns(final: FinalRecord) -> list[str]:
    """Return the metrics that any target has."""
    measured = {name for metrics in final.test.values() for name in metrics}
    return [name for name in _METRICS if name in measured]
