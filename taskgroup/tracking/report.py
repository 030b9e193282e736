"""One self-contained HTML file about a run: no scripts, no links to elsewhere, readable in ten years."""

import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from taskgroup.affinity import Affinity
from taskgroup.tracking import figures
from taskgroup.tracking.leaderboard import gain_in_words, leaderboard
from taskgroup.tracking.learning_points import learning_figure, read_learning
from taskgroup.tracking.parity import parity_figure
from taskgroup.tracking.record import FinalRecord, Interval, read_final, read_records, read_study

_ROWS = 40  # of the leaderboard that a report shows


def write_report(run_dir: str | Path, out: str | Path) -> Path:
    """Write the report of a run, finished or not. Raises RunError where the folder is no run."""
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(report_html(run_dir), encoding="utf-8")
    os.replace(draft, path)
    return path


def report_html(run_dir: str | Path) -> str:
    """The report as HTML text."""
    from jinja2 import Environment, StrictUndefined

    study, records, final = read_study(run_dir), read_records(run_dir), read_final(run_dir)
    rows = leaderboard(records)
    grouping = final.grouping if final else _best_grouping(records)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": _number, "interval": _interval, "gains": gain_in_words}
    template = environment.from_string(
        files("taskgroup.tracking").joinpath("report.html.j2").read_text("utf-8")
    )
    return template.render(
        study=study,
        final=final,
        grouping=grouping,
        colours=figures.group_colours(grouping) if grouping else {},
        rows=rows[:_ROWS],
        n_rows=len(rows),
        n_states={
            state: sum(r.state == state for r in records)
            for state in ("COMPLETE", "PRUNED", "FAIL")
        },
        failures=[record for record in records if record.state == "FAIL"],
        n_cached=sum(record.n_cached for record in records if record.kind in ("baseline", "trial")),
        n_groups=sum(
            len(record.keys) for record in records if record.kind in ("baseline", "trial")
        ),
        verdict=figures.verdict,
        progress=figures.progress_figure(records, final)
        if any(r.objective is not None for r in records)
        else "",
        curves=figures.curves_figure(records),
        gain_picture=figures.gains_figure(final.gains) if final and final.gains else "",
        test_columns=_test_columns(final),
        test_gains=_test_gains(final),
        parity=parity_figure(run_dir, study.targets),
        learning=learning_figure(read_learning(run_dir)),
        **_affinity_pictures(Path(run_dir), grouping),
    )


def _best_grouping(records: list) -> Any:
    scored = [
        record for record in records if record.objective is not None and record.kind != "refit"
    ]
    return max(scored, key=lambda record: record.objective).grouping if scored else None


def _affinity_pictures(run: Path, grouping: Any) -> dict[str, str]:
    """Heat map and target graph of the first affinity the search used, Spearman's where it did."""
    files = sorted(
        run.glob("affinity/*.json"), key=lambda path: (path.stem != "spearman", path.stem)
    )
    if not files or grouping is None:
        return {"measure": "", "heat_map": "", "graph": ""}
    affinity = Affinity.from_json(files[0].read_text(encoding="utf-8"))
    return {
        "measure": affinity.measure,
        "heat_map": figures.heat_map_figure(affinity.names, affinity.values),
        "graph": figures.target_graph_figure(_graph(affinity.names, affinity.values), grouping),
    }


def _graph(names: Sequence[str], values: np.ndarray, weakest: float = 0.3) -> Any:
    """Edges between targets whose affinity, the mean of both directions, is at least ``weakest``."""
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(names)
    mean = (values + values.T) / 2
    for i, j in zip(*np.triu_indices(len(names), 1), strict=True):
        if abs(mean[i, j]) >= weakest:
            graph.add_edge(names[i], names[j], weight=float(mean[i, j]))
    return graph


def _test_columns(final: FinalRecord | None) -> list[str]:
    """The metrics that any target has, beside n and the skill with its interval."""
    metrics = {name for values in (final.test.values() if final else ()) for name in values}
    order = ["r2", "r2_natural", "mae", "rmse", "coverage_90", "auc", "accuracy", "log_loss"]
    return [name for name in order if name in metrics]


def _test_gains(final: FinalRecord | None) -> dict[str, Interval]:
    """Test skill minus that of the target learnt alone, where the study measured it."""
    measured = {target: m for target, m in (final.test.items() if final else ()) if "gain" in m}
    return {
        target: Interval(m["gain"], m.get("gain_low"), m.get("gain_high"))
        for target, m in measured.items()
    }


def _number(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else f"{value:{form}}"


def _interval(value: Interval, form: str = ".3f") -> str:
    if value.low is None or value.high is None:
        return _number(value.mean, form)
    return f"{_number(value.mean, form)} [{_number(value.low, form)}, {_number(value.high, form)}]"
