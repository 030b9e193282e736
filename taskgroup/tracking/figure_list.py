"""The figures of a run: what is drawn, the numbers in it, and what it says."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskgroup.affinity import Affinity
from taskgroup.grouping import Grouping, target_graph
from taskgroup.tracking.learning_points import read_learning
from taskgroup.tracking.predictions import predictions_table
from taskgroup.tracking.run_folder import read_final, read_records
from taskgroup.tracking.tables import (
    best_grouping,
    gains_table,
    history_table,
    learning_table,
    read_affinity,
    read_transfer_matrix,
    training_table,
)

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd
    from matplotlib.figure import Figure

# Weaker affinities are not drawn as edges: with all of them the graph of ten targets is a tangle.
WEAKEST_EDGE = 0.3
# More targets than these need both columns.
_MOST_IN_ONE_COLUMN = 8
# Panels of a parity figure side by side, and the height of one as a share of its width.
_PANELS = 4
_PANEL_ASPECT = 0.9


@dataclass(frozen=True, eq=False)
class RunFigure:
    """One figure of a run.

    Attributes:
        name: of its files.
        caption: what is drawn, for people who see it.
        alt: what it says, for people who do not.
        data: the numbers in it.
        draw: draws it on an empty figure.
        aspect: its height as a share of its width.
        columns: ``single`` or ``double``, how wide it is in a journal.
    """

    name: str
    caption: str
    alt: str
    data: "pd.DataFrame"
    draw: Callable[["Figure"], Any]
    aspect: float
    columns: str = "single"

    def figure(self, width: float) -> "Figure":
        """Return the figure, ``width`` inches wide, in the style that is in force."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, self.aspect * width), layout="constrained")
        self.draw(figure)
        return figure


def run_figures(run_dir: str | Path) -> list[RunFigure]:
    """Return the figures of a run, those that there are numbers for. Raises RunError: the folder is no run."""
    records, final = read_records(run_dir), read_final(run_dir)
    grouping = best_grouping(records, final)
    figures = []
    if final is not None:
        figures += _gain_figures(gains_table(final), gains_table(final, "test"))
    figures += _parity_figures(predictions_table(run_dir))
    figures += _learning_figures(learning_table(read_learning(run_dir)))
    affinity = read_affinity(run_dir)
    if affinity is not None and grouping is not None:
        figures += _affinity_figures(affinity, grouping)
    transfer = read_transfer_matrix(run_dir)
    if transfer is not None and len(transfer.names):
        figures.append(_transfer_figure(transfer))
    figures += _search_figures(history_table(records, final), training_table(records))
    return figures


def affinity_graph(affinity: Affinity) -> "nx.Graph":
    """Return the graph of targets whose affinity, the mean of both directions, is not weak."""
    return target_graph(affinity, sparsifier="threshold", threshold=WEAKEST_EDGE)


def _alone(draw: Callable[..., Any], *arguments: Any) -> "Callable[[Figure], Any]":
    """Return what draws a figure of one panel."""

    def draw_panel(figure: "Figure") -> None:
        draw(*arguments, ax=figure.add_subplot())

    return draw_panel


def _columns(n_targets: int) -> str:
    return "single" if n_targets <= _MOST_IN_ONE_COLUMN else "double"


def _gain_figures(validation: "pd.DataFrame", test: "pd.DataFrame") -> list[RunFigure]:
    figures = []
    captions = {
        "gains_test": (
            test,
            "Gain from joining on test rows: skill of the chosen grouping minus that of one network per property. "
            "Lines are 95 % intervals, paired over rows.",
        ),
        "gains": (
            validation,
            "Gain from joining on validation rows, trained again: same recipe, same budget, paired by seed and fold. "
            "These rows helped to choose the grouping.",
        ),
    }
    for name, (table, caption) in captions.items():
        if len(table):
            figures.append(_gain_figure(name, table, caption))
    return figures


def _gain_figure(name: str, table: "pd.DataFrame", caption: str) -> RunFigure:
    from taskgroup.plot.gains import aspect, gains

    n_helped, n_hurt = ((table["verdict"] == word).sum() for word in ("helped", "hurt"))
    alt = (
        f"Gain of {len(table)} targets: {n_helped} helped, {n_hurt} hurt, the others within noise."
    )

    return RunFigure(name, caption, alt, table, _alone(gains, table), aspect(len(table)))


def _parity_figures(predictions: "pd.DataFrame") -> list[RunFigure]:
    from taskgroup.plot.parity import parity_grid

    targets = [name for name in predictions.attrs["targets"] if predictions[name].notna().any()]
    if not targets:
        return []
    n_rows = -(-len(targets) // _PANELS)
    alt = f"Predicted against true values on {len(predictions)} test rows: {', '.join(targets)}."
    caption = (
        "Predicted against true values of the test rows, with one standard deviation; for classes the predicted "
        "probabilities. R² is in the space a target is learnt in."
    )
    draw = partial(parity_grid, predictions, targets, columns=_PANELS)
    aspect = n_rows * _PANEL_ASPECT / min(_PANELS, len(targets))
    data = predictions.reset_index()
    return [RunFigure("parity", caption, alt, data, draw, aspect, "double")]


def _learning_figures(table: "pd.DataFrame") -> list[RunFigure]:
    from taskgroup.plot.history import learning_curve

    if not len(table):
        return []
    mean = table[table["target"] == "mean"]
    first, last = mean.iloc[0], mean.iloc[-1]
    alt = (
        f"Mean test skill rises from {first['skill']:.3f} with {first['rows']:.0f} training rows "
        f"to {last['skill']:.3f} with {last['rows']:.0f}."
    )
    caption = (
        "Test skill of the chosen grouping, trained on a part of the rows; the band is the 95 % interval of the mean "
        "over test rows."
    )

    return [RunFigure("learning_curve", caption, alt, table, _alone(learning_curve, table), 0.65)]


def _affinity_figures(affinity: Affinity, grouping: Grouping) -> list[RunFigure]:
    from taskgroup.plot.graph import target_graph as plot_graph
    from taskgroup.plot.heat_map import affinity as plot_affinity

    graph = affinity_graph(affinity)
    measure = affinity.measure.replace("_", " ")
    columns = _columns(len(affinity.names))

    return [
        RunFigure(
            "target_graph",
            f"Targets by group (colours; grey: alone). Lines are affinities ({measure}) of {WEAKEST_EDGE:g} and more, "
            "dashed where negative.",
            f"{len(graph)} targets, {len(graph.edges)} strong affinities; groups: {grouping}.",
            _edge_table(graph),
            _alone(plot_graph, graph, grouping),
            0.85,
            columns,
        ),
        RunFigure(
            "affinity",
            f"Affinity ({measure}); groups are framed, numbers in brackets may be chance (p > 0.05).",
            f"Matrix of {measure} of {len(affinity.names)} targets.",
            affinity.pairs(),
            _alone(plot_affinity, affinity, grouping),
            0.85,
            columns,
        ),
    ]


def _transfer_figure(transfer: Affinity) -> RunFigure:
    from taskgroup.plot.heat_map import transfer_matrix

    caption = (
        "Measured transfer: what a target (column) gained in validation skill from learning with another (row), of the "
        "pair where it was trained, else the mean over the groups that held both. Grey: never trained together."
    )
    alt = f"Matrix of measured gains between {len(transfer.names)} targets."
    columns = _columns(len(transfer.names))
    return RunFigure(
        "transfer", caption, alt, transfer.pairs(), _alone(transfer_matrix, transfer), 0.85, columns
    )


def _search_figures(history: "pd.DataFrame", curves: "pd.DataFrame") -> list[RunFigure]:
    from taskgroup.plot.history import search, training_curves

    if not history["objective"].notna().any():
        return []
    best = history["objective"].max()

    alt = f"Mean skill of {len(history)} trials and assemblies; the best reaches {best:.3f}."
    caption = "Mean validation skill of each trial, and the best so far."
    figures = [RunFigure("search", caption, alt, history, _alone(search, history), 0.5)]
    if not len(curves):
        return figures

    caption = "Learning curves of the baselines (dashed) and the best trials."
    alt = f"Mean validation skill by epoch of {curves['name'].nunique()} trials."
    figures.append(
        RunFigure("training_curves", caption, alt, curves, _alone(training_curves, curves), 0.5)
    )
    return figures


def _edge_table(graph: "nx.Graph") -> "pd.DataFrame":
    import networkx as nx

    return nx.to_pandas_edgelist(graph, source="target_a", target="target_b")
