"""Sets of targets that may be worth learning together, out of their affinity."""

from collections.abc import Iterator

import numpy as np

from taskgroup.affinity import Affinity
from taskgroup.grouping import Grouping, cluster, target_graph

# From few large groups to many small ones; a method without such a setting gives the same groups each time.
_RESOLUTIONS = (1.0, 0.7, 1.4, 0.4, 2.0)
# Edges that are kept: false discovery rate, then all pairs.
_SPARSIFIERS = ("fdr", "none")


def candidate_sets(affinity: Affinity, method: str, count: int, seed: int) -> list[tuple[str, ...]]:
    """Return at most ``count`` sets of two and more targets, the likeliest first; each in the order of its names.

    All targets come first, then the groups of clusterings of the target graph, then the most related pairs.
    """
    sets = [tuple(sorted(affinity.names))]
    for grouping in _clusterings(affinity, method, seed):
        sets += [group.targets for group in grouping.groups if len(group) > 1]
    sets += _related_pairs(affinity)
    return list(dict.fromkeys(sets))[:count]


def _clusterings(affinity: Affinity, method: str, seed: int) -> Iterator[Grouping]:
    for sparsifier in _SPARSIFIERS:
        graph = target_graph(affinity, sparsifier=sparsifier)
        for resolution in _RESOLUTIONS:
            yield cluster(graph, method, resolution, seed=seed)


def _related_pairs(affinity: Affinity) -> list[tuple[str, ...]]:
    """Return all pairs, the strongest affinity first; those without one last."""
    strengths = np.abs(affinity.symmetrised().values)
    first, second = np.triu_indices(len(affinity.names), 1)
    order = np.argsort(-np.nan_to_num(strengths[first, second], nan=-1.0), kind="stable")
    names = affinity.names
    return [tuple(sorted((names[first[i]], names[second[i]]))) for i in order]
