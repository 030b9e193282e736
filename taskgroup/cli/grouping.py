"""Verbs that look at labels only: `taskgroup affinity` and `taskgroup group`; nothing is trained."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from taskgroup.affinity import MEASURES, Affinity, affinity_matrix
from taskgroup.cli._console import make_console
from taskgroup.files import csv_text
from taskgroup.grouping import (
    CLUSTERERS,
    SPARSIFIERS,
    Grouping,
    Stability,
    cluster,
    resample,
    target_graph,
)
from taskgroup.grouping.cluster import SIGNS

if TYPE_CHECKING:
    import networkx as nx

    from taskgroup.datasets import TargetTable

_MATRIX_TARGETS = 10
_SHOWN_ROWS = 20
_FORMAT = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
)
_MEASURE = click.option(
    "--measure",
    default="spearman",
    show_default=True,
    help=f"Of relation between labels: {', '.join(MEASURES)}.",
)
_ID_COLUMN = click.option(
    "--id-column",
    metavar="NAME",
    help="Of a property table, the column that names the rows; found by itself if called id, ...",
)
_PLOT = click.option(
    "--plot",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Draw to a .png, .pdf, .svg, ...",
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("store")
@_MEASURE
@_ID_COLUMN
@_PLOT
@_FORMAT
def affinity(store: str, measure: str, id_column: str | None, plot: str | None, form: str) -> None:
    """Print how strongly the targets of STORE are related.

    STORE is a built-in dataset (crystals), a store folder, or a property table (CSV, Excel, Parquet, JSON).
    """
    found = affinity_matrix(_read(store, id_column), measure)
    if plot:
        from taskgroup import plot as plots

        axes = plots.hidden_axes(0.85, growth=len(found.names) / 12)
        plots.save(plots.affinity(found, ax=axes), plot)
    if form == "json":
        click.echo(found.to_json())
    elif form == "csv":
        click.echo(csv_text(found.pairs()), nl=False)
    else:
        _show_affinity(found)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("store")
@_MEASURE
@click.option(
    "--sparsifier",
    default="fdr",
    show_default=True,
    help=f"Which pairs become edges: {', '.join(SPARSIFIERS)}.",
)
@click.option(
    "--alpha",
    type=float,
    default=0.05,
    show_default=True,
    help="False discovery rate of fdr and partial.",
)
@click.option(
    "--threshold", type=float, default=0.3, show_default=True, help="Least strength of threshold."
)
@click.option(
    "--neighbours", type=int, default=3, show_default=True, help="Of each target, for knn."
)
@click.option("--beta", type=float, default=2.0, show_default=True, help="Exponent of soft.")
@click.option(
    "--method",
    default="louvain",
    show_default=True,
    help=f"How to cluster: {', '.join(CLUSTERERS)}.",
)
@click.option(
    "--sign",
    default="absolute",
    show_default=True,
    help=f"What negative edges mean: {', '.join(SIGNS)}.",
)
@click.option(
    "--resolution",
    type=float,
    default=1.0,
    show_default=True,
    help="Larger: more and smaller groups.",
)
@click.option(
    "--k",
    type=int,
    help="Number of groups (spectral, hierarchical), or size of cliques (k_clique).",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--stability",
    type=click.IntRange(min=1),
    metavar="N",
    help="Group N random parts of the materials too.",
)
@_ID_COLUMN
@_PLOT
@_FORMAT
def group(
    store: str, id_column: str | None, stability: int | None, plot: str | None, form: str,
    method: str, resolution: float, k: int | None, seed: int, sign: str, neighbours: int, **edges: Any,
) -> None:  # fmt: skip
    """Cut the target graph of STORE into groups, and print and draw both; nothing is trained.

    STORE is a built-in dataset (crystals), a store folder, or a property table (CSV, Excel, Parquet, JSON).
    """

    def graph_of(part: "TargetTable") -> "nx.Graph":
        return target_graph(part, k=neighbours, **edges)

    def grouping_of(graph: "nx.Graph") -> Grouping:
        return cluster(graph, method, resolution, k, seed, sign=sign)

    table = _read(store, id_column)
    graph = graph_of(table)
    grouping = grouping_of(graph)
    found = None
    if stability:
        with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task("resampling", total=stability)

            def draw(part: "TargetTable") -> Grouping:
                bar.advance(task)
                return grouping_of(graph_of(part))

            found = resample(table, draw, draws=stability, seed=seed)
            graph = found.on(graph)
    if plot:
        from taskgroup import plot as plots

        axes = plots.hidden_axes(0.8)
        plots.save(plots.target_graph(graph, grouping, ax=axes), plot)
    {"json": _print_group_json, "csv": _print_group_csv, "table": _show_group}[form](
        graph, grouping, found
    )


def _read(store: str, id_column: str | None) -> "TargetTable":
    """Labels of a dataset by name or folder, or of a property table."""
    from taskgroup.datasets import load_dataset

    if not Path(store).is_file():
        return load_dataset(store).targets
    from taskgroup.datasets.tables.properties import read_properties

    properties = read_properties(store, id_column=id_column)
    for note in properties.notes:
        click.echo(f"{store}: {note}", err=True)
    return properties.table


def _table(*columns: str) -> Table:
    """A plain table: the first column is text, the others are numbers."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 0, 0, 1))
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=True)
    return table


def _significant(p: float) -> str:
    return "" if np.isnan(p) else f"{p:.1e}" if p < 0.001 else f"{p:.3f}"


# -- affinity --------------------------------------------------------------------------------------------------------


def _show_affinity(found: Affinity) -> None:
    """The matrix where it fits a terminal, else the strongest pairs."""
    console = make_console()
    names = found.names
    if len(names) <= _MATRIX_TARGETS:
        click.echo(f"{found.measure}; in brackets p > 0.05\n")
        table = _table("", *map(str, range(1, len(names) + 1)))
        for i, name in enumerate(names):
            cells = [
                _cell(found.values[i, j], found.p[i, j]) if i != j else ""
                for j in range(len(names))
            ]
            table.add_row(f"{i + 1:>2} {name}", *cells)
        console.print(table)
        return
    at = [(i, j) for i in range(len(names)) for j in range(i) if np.isfinite(found.values[i, j])]
    at.sort(key=lambda pair: -abs(found.values[pair]))
    table = _table("pair", found.measure, "n", "p")
    for i, j in at[:_SHOWN_ROWS]:
        table.add_row(
            f"{names[j]} – {names[i]}",
            f"{found.values[i, j]:+.3f}",
            str(found.n[i, j]),
            _significant(found.p[i, j]),
        )
    console.print(table)
    _more(console, len(at), "pairs")


def _cell(value: float, p: float) -> str:
    if np.isnan(value):
        return "-"
    text = f"{value:.2f}".replace("0.", ".", 1)
    return f"({text})" if p > 0.05 else f"{text} "


def _more(console: Console, total: int, what: str) -> None:
    if total > _SHOWN_ROWS:
        console.print(
            f"... and {total - _SHOWN_ROWS} more {what}; --format csv or json has them all"
        )


# -- group -----------------------------------------------------------------------------------------------------------


def _edges(graph: "nx.Graph") -> list[dict[str, Any]]:
    """All edges, strongest first; NaN (no test) as None."""
    edges = sorted(graph.edges(data=True), key=lambda edge: (-abs(edge[2]["weight"]), edge[:2]))
    clean = [
        (a, b, {key: None if value != value else value for key, value in data.items()})
        for a, b, data in edges
    ]
    return [{"targets": [a, b], **data} for a, b, data in clean]


def _print_group_json(graph: "nx.Graph", grouping: Grouping, found: Stability | None) -> None:
    body: dict[str, Any] = {
        "grouping": str(grouping),
        "grouping_id": grouping.grouping_id,
        **json.loads(grouping.to_json()),
        "measure": graph.graph["measure"],
        "sparsifier": graph.graph["sparsifier"],
        "edges": _edges(graph),
    }
    if found:
        body["stability"] = [found.of_group(group) for group in grouping.groups]
        body["consensus"] = str(found.consensus())
    click.echo(json.dumps(body, ensure_ascii=False))


def _print_group_csv(graph: "nx.Graph", grouping: Grouping, found: Stability | None) -> None:
    frame = grouping.frame()
    if found:
        of_group = [found.of_group(group) for group in grouping.groups]
        frame["stability"] = [of_group[number - 1] for number in frame["group"]]
    click.echo(csv_text(frame), nl=False)


def _show_group(graph: "nx.Graph", grouping: Grouping, found: Stability | None) -> None:
    console = make_console()
    edges = _edges(graph)
    table = _table("edge", graph.graph["measure"], "n", "q", *(["together"] if found else []))
    for edge in edges[:_SHOWN_ROWS]:
        cells = [
            f"{edge['weight']:+.3f}",
            str(edge["n"]),
            "" if edge["q"] is None else _significant(edge["q"]),
        ]
        table.add_row(
            " – ".join(edge["targets"]), *cells, *([f"{edge['stability']:.0%}"] if found else [])
        )
    if edges:
        console.print(table)
        _more(console, len(edges), "edges")
        click.echo()
    click.echo(
        f"{len(graph)} targets, {len(edges)} edges, {len(grouping)} groups (id {grouping.grouping_id}):"
    )
    click.echo(str(grouping))
    if found:
        click.echo(f"\nin {len(found.groupings)} random parts of the materials")
        for group in grouping.groups:
            click.echo(f"{found.of_group(group):>6.0%}  {group}")
        agreed = found.consensus()
        click.echo(
            "their consensus is the same grouping"
            if agreed == grouping
            else f"their consensus: {agreed}"
        )
