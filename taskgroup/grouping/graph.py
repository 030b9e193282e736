"""The target graph: targets are nodes, relations that deserve it are edges."""

from typing import TYPE_CHECKING

import networkx as nx

from taskgroup.affinity import Affinity, affinity_matrix
from taskgroup.errors import GroupingError, did_you_mean
from taskgroup.grouping._pairs import Pairs
from taskgroup.grouping._sparsifiers import SPARSIFIERS, SparsifierSettings

if TYPE_CHECKING:
    import pandas as pd

    from taskgroup.datasets import TargetTable


def target_graph(
    table: "TargetTable | pd.DataFrame | Affinity",
    measure: str = "spearman",
    sparsifier: str = "fdr",
    *,
    alpha: float = 0.05,
    threshold: float = 0.3,
    k: int = 3,
    beta: float = 2.0,
    symmetrise: str = "mean",
) -> nx.Graph:
    """Return the graph of targets whose edges a sparsifier lets stand.

    Edges carry ``weight`` (signed), ``n`` (materials with both labels), ``p`` and ``q`` (p adjusted for all pairs by
    Benjamini and Hochberg); pairs without a known affinity are no edges, targets without an edge stay as nodes. Nodes
    are in the order of their names, so nothing depends on the order of columns.

    Args:
        table: labels (a TargetTable, or a DataFrame with one column per target), or an affinity of any origin; a
            directed one is made symmetric first.
        measure: how labels are compared, see `taskgroup.affinity.MEASURES`; not used for an affinity.
        sparsifier: ``fdr`` (q <= alpha), ``threshold`` (|w| >= threshold), ``knn`` (each among the other's k
            strongest), ``mst`` (maximum spanning tree), ``planar`` (3T - 6 strong pairs), ``soft`` (all pairs,
            |w|^beta), ``partial`` (partial correlations, q <= alpha), ``none`` (all pairs).
        alpha: false discovery rate of ``fdr`` and ``partial``.
        threshold: least strength of ``threshold``.
        k: neighbours of ``knn``.
        beta: exponent of ``soft``.
        symmetrise: rule for directed affinities: ``mean``, ``min`` or ``max``.

    Raises GroupingError for an unknown measure or sparsifier, a setting out of range, or a sparsifier that the affinity
    does not suit.
    """
    if sparsifier not in SPARSIFIERS:
        raise GroupingError(
            f"Unknown sparsifier '{sparsifier}'; {did_you_mean(sparsifier, SPARSIFIERS)}"
        )
    settings = SparsifierSettings(alpha=alpha, threshold=threshold, k=k, beta=beta)
    affinity = table if isinstance(table, Affinity) else affinity_matrix(table, measure)
    pairs = SPARSIFIERS[sparsifier](Pairs.of(affinity.symmetrised(symmetrise)), settings)
    graph = nx.Graph(measure=affinity.measure, sparsifier=sparsifier)
    graph.add_nodes_from(pairs.names)
    for i, j, weight, n, p, q in zip(
        pairs.i, pairs.j, pairs.weight, pairs.n, pairs.p, pairs.q, strict=True
    ):
        if weight != 0.0:
            ends = pairs.names[i], pairs.names[j]
            graph.add_edge(*ends, weight=float(weight), n=int(n), p=float(p), q=float(q))
    return graph
