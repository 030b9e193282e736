"""One self-contained HTML file about a run: no scripts, no links to elsewhere, readable in ten years."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from taskgroup.affinity import Affinity
from taskgroup.files import write_text
from taskgroup.grouping import Grouping
from taskgroup.intervals import Interval
from taskgroup.settings_text import common_and_own, differing_names, in_words, recipe_settings
from taskgroup.tracking import figures
from taskgroup.tracking.leaderboard import leaderboard, leaderboard_notes
from taskgroup.tracking.learning_points import learning_figure, read_learning
from taskgroup.tracking.parity import parity_figure
from taskgroup.tracking.record import FinalRecord, TrialRecord
from taskgroup.tracking.run_folder import read_final, read_records, read_study
from taskgroup.tracking.verdict import (
    gain_in_a_word,
    interval_in_words,
    mean_gain_in_words,
    number_in_words,
    verdict_sentence,
)
from taskgroup.urls import redact

if TYPE_CHECKING:
    import networkx as nx

# Rows of the leaderboard that a report shows; the command line shows all.
_MOST_ROWS = 40

# Weaker affinities are not drawn as edges: with all of them the graph of ten targets is a tangle.
_WEAKEST_EDGE = 0.3

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
    grouping = _shown_grouping(records, final)
    content: dict[str, Any] = {"study": study, "final": final, "grouping": grouping}
    content |= _choice(final, grouping)
    content |= _leaderboard(records, final)
    content |= _search(records, final)
    content["parity"] = parity_figure(run_dir, study.targets)
    content["learning"] = learning_figure(read_learning(run_dir))
    content |= affinity_pictures(Path(run_dir), grouping)
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
    source = files("taskgroup.tracking").joinpath("report.html.j2").read_text("utf-8")
    return environment.from_string(source)


def _shown_grouping(records: Sequence[TrialRecord], final: FinalRecord | None) -> Grouping | None:
    """Return the choice, before the end the best grouping so far, None before the first trial has finished."""
    if final is not None:
        return final.grouping
    scored = [
        record for record in records if record.objective is not None and record.kind != "refit"
    ]
    if not scored:
        return None
    return max(scored, key=lambda record: record.objective).grouping


def _choice(final: FinalRecord | None, grouping: Grouping | None) -> dict[str, Any]:
    content: dict[str, Any] = {
        "colours": figures.group_colours(grouping) if grouping else {},
        "gain_in_a_word": gain_in_a_word,
        "verdict": "",
        "networks": [],
        "shared_settings": "",
        "gain_picture": "",
        "test_columns": [],
        "test_gains": {},
    }
    if final is None:
        return content
    content["verdict"] = verdict_sentence(final)
    content["networks"], content["shared_settings"] = plan_in_words(final.plan)
    if final.gains:
        content["gain_picture"] = figures.gains_figure(final.gains)
    content["test_columns"] = _test_columns(final)
    content["test_gains"] = _test_gains(final)
    return content


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
    progress = ""
    if any(record.objective is not None for record in records):
        progress = figures.progress_figure(records, final)
    return {
        "n_states": Counter(record.state for record in records),
        "failures": [record for record in records if record.state == "FAIL"],
        "n_cached": sum(record.n_cached for record in searched),
        "n_groups": sum(len(record.keys) for record in searched),
        "progress": progress,
        "curves": figures.curves_figure(records),
    }


def affinity_pictures(run_dir: Path, grouping: Grouping | None) -> dict[str, str]:
    """Return heat map and target graph of the first affinity the search used, Spearman's where it did."""
    paths = sorted(run_dir.glob("affinity/*.json"))
    paths.sort(key=lambda path: path.stem != "spearman")
    if not paths or grouping is None:
        return {"measure": "", "heat_map": "", "graph": ""}
    affinity = Affinity.from_json(paths[0].read_text(encoding="utf-8"))
    graph = _graph(affinity.names, affinity.values)
    return {
        "measure": affinity.measure,
        "heat_map": figures.heat_map_figure(affinity.names, affinity.values),
        "graph": figures.target_graph_figure(graph, grouping),
    }


def _graph(names: Sequence[str], values: NDArray[np.float64]) -> "nx.Graph":
    """Return edges between targets whose affinity, the mean of both directions, is not weak."""
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(names)
    mean = (values + values.T) / 2
    for i, j in zip(*np.triu_indices(len(names), 1), strict=True):
        if abs(mean[i, j]) >= _WEAKEST_EDGE:
            graph.add_edge(names[i], names[j], weight=float(mean[i, j]))
    return graph


def _test_columns(final: FinalRecord) -> list[str]:
    """Return the metrics that any target has."""
    measured = {name for metrics in final.test.values() for name in metrics}
    return [name for name in _METRICS if name in measured]


def _test_gains(final: FinalRecord) -> dict[str, Interval]:
    """Return test skill minus that of the target learnt alone, where the study measured it."""
    gains = {}
    for target, metrics in final.test.items():
        if "gain" in metrics:
            low, high = metrics.get("gain_low"), metrics.get("gain_high")
            gains[target] = Interval(metrics["gain"], low, high)
    return gains
