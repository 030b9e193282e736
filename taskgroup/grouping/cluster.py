"""From a target graph to a grouping: clusterers by name, the rule for signs, and the rule for overlaps."""

from collections.abc import Iterable

import networkx as nx
import numpy as np

from taskgroup.errors import GroupingError, did_you_mean
from taskgroup.grouping._baselines import Random, Singles, Together
from taskgroup.grouping._clusterer import Clusterer
from taskgroup.grouping._connectivity import (
    ConflictColouring,
    ConnectedComponents,
    KClique,
    LabelPropagation,
)
from taskgroup.grouping._counted import Hierarchical, Spectral
from taskgroup.grouping._modularity import GreedyModularity, Louvain
from taskgroup.grouping.grouping import Group, Grouping
from taskgroup.registry import Registry

CLUSTERERS: Registry[type[Clusterer]] = Registry(
    kind="clustering method",
    group="taskgroup.clusterers",
    builtin={
        "louvain": Louvain,
        "greedy_modularity": GreedyModularity,
        "spectral": Spectral,
        "hierarchical": Hierarchical,
        "label_propagation": LabelPropagation,
        "connected_components": ConnectedComponents,
        "k_clique": KClique,
        "colouring": ConflictColouring,
        "singles": Singles,
        "together": Together,
        "random": Random,
    },
    error=GroupingError,
)
"""Clusterers by name: those of taskgroup, then installed entry points of ``taskgroup.clusterers``."""

SIGNS = ("absolute", "positive")


def find_clusterer(name: str) -> type[Clusterer]:
    """Return the clusterer of that name; GroupingError names the nearest known one."""
    return CLUSTERERS.find(name)


def cluster(
    graph: nx.Graph,
    method: str | Clusterer = "louvain",
    resolution: float = 1.0,
    k: int | None = None,
    seed: int = 0,
    *,
    sign: str = "absolute",
) -> Grouping:
    """Cut a target graph into groups; the same graph and settings give the same grouping, in any order of nodes.

    Args:
        graph: undirected, nodes are names of targets, edges have a signed ``weight`` (1 where there is none).
        method: a name of `CLUSTERERS`, or an instance, whose own settings then hold.
        resolution: larger means more and smaller groups, where the method has such a setting.
        k: the number of groups for ``spectral`` and ``hierarchical`` (default: that of best modularity); the size of
            cliques for ``k_clique`` (default 3).
        seed: of methods with chance in them.
        sign: what a negative weight means. ``absolute``: as much as a positive one, since anticorrelated properties
            share features too (right for labels); ``positive``: no edge, since one target harms the other (right for
            gradients and measured gains).

    Where communities overlap, a target is served by the one with the strongest mean weight towards it and is a helper
    in the others. Raises GroupingError for an unknown name, a setting out of range, or a graph without targets.

    >>> graph = nx.Graph()
    >>> graph.add_weighted_edges_from([("density", "volume", -0.9), ("gap", "bandwidth", -0.7)])
    >>> print(cluster(graph, method="louvain"))
    {bandwidth, gap} | {density, volume}
    """
    clusterer = method
    if not isinstance(clusterer, Clusterer):
        clusterer = find_clusterer(method)(resolution, k, seed)
    names = tuple(sorted(graph))
    if not names:
        raise GroupingError("A target graph must have at least one target, but got none.")
    canonical = _canonical(graph, names, sign)
    return _served(canonical, names, clusterer.communities(canonical))


def _canonical(graph: nx.Graph, names: tuple[str, ...], sign: str) -> nx.Graph:
    """Return the graph with numbers for names, everything in order, and positive weights only."""
    if sign not in SIGNS:
        raise GroupingError(f"Unknown sign rule '{sign}'; {did_you_mean(sign, SIGNS)}")
    if graph.is_directed():
        raise GroupingError("A target graph must be undirected; make its affinity symmetric first.")
    number = {name: i for i, name in enumerate(names)}
    weights = {}
    for a, b, weight in graph.edges(data="weight", default=1.0):
        weights[tuple(sorted((number[a], number[b])))] = weight
    canonical = nx.Graph()
    canonical.add_nodes_from(range(len(names)))
    # Some methods depend on the order of edges, so it is fixed.
    for (i, j), weight in sorted(weights.items()):
        if not np.isfinite(weight):
            raise GroupingError(
                f"Weights must be finite, but between {names[i]} and {names[j]} got {weight}."
            )
        strength = abs(weight) if sign == "absolute" else weight
        if strength > 0.0 and i != j:
            canonical.add_edge(i, j, weight=float(strength))
    return canonical


def _served(graph: nx.Graph, names: tuple[str, ...], communities: Iterable[set[int]]) -> Grouping:
    """Return the grouping in which every target is served by the community it is tied to most.

    Targets in no community stay alone; a community that serves none is left out.
    """
    parts = sorted({tuple(sorted(part)) for part in communities if part})
    covered = {node for part in parts for node in part}
    parts += [(node,) for node in graph if node not in covered]
    serves: dict[tuple[int, ...], list[str]] = {}
    for node in graph:
        holding = [part for part in parts if node in part]
        home = max(holding, key=lambda part, node=node: _mean_weight(graph, node, part))
        serves.setdefault(home, []).append(names[node])
    groups = []
    for part, served in serves.items():
        groups.append(Group(tuple(names[i] for i in part), tuple(served)))
    return Grouping(tuple(groups))


def _mean_weight(graph: nx.Graph, node: int, part: tuple[int, ...]) -> float:
    """Return the mean weight between a node and the others of its part; 0 where it is alone."""
    weights = []
    for other in part:
        if other != node:
            weights.append(graph.get_edge_data(node, other, {"weight": 0.0})["weight"])
    return float(np.mean(weights)) if weights else 0.0
