"""Which pairs of targets become edges. A sparsifier is a function of all pairs and the settings.

All of them judge by strength, |weight|: an anticorrelated target is as good a helper as a correlated one.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import networkx as nx
import numpy as np
from scipy.special import stdtr

from taskgroup.errors import GroupingError
from taskgroup.grouping._pairs import Pairs, adjusted

_LEAST_EIGENVALUE = 0.05


@dataclass(frozen=True)
class SparsifierSettings:
    """What sparsifiers are told; each reads what concerns it."""

    alpha: float = 0.05
    threshold: float = 0.3
    k: int = 3
    beta: float = 2.0

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 1.0:
            raise GroupingError(f"alpha must lie between 0 and 1, but got {self.alpha}.")
        if not self.threshold >= 0.0:
            raise GroupingError(f"threshold must not be negative, but got {self.threshold}.")
        if self.k < 1:
            raise GroupingError(f"k of the sparsifier must be at least 1, but got {self.k}.")
        if not self.beta > 0.0:
            raise GroupingError(f"beta must be positive, but got {self.beta}.")


Sparsifier = Callable[[Pairs, SparsifierSettings], Pairs]


def _everything(pairs: Pairs, settings: SparsifierSettings) -> Pairs:
    return pairs


def _threshold(pairs: Pairs, settings: SparsifierSettings) -> Pairs:
    """Pairs of at least that strength."""
    return pairs.keep(pairs.strength >= settings.threshold)


def _fdr(pairs: Pairs, settings: SparsifierSettings) -> Pairs:
    """Pairs that hold at a false discovery rate of alpha."""
    if len(pairs.p) and not np.isfinite(pairs.p).any():
        raise GroupingError(
            f"The sparsifier 'fdr' needs p-values, which '{pairs.measure}' has not; choose 'threshold', 'knn' or 'mst'."
        )
    return pairs.keep(pairs.q <= settings.alpha)


def _knn(pairs: Pairs, settings: SparsifierSettings) -> Pairs:
    """Pairs that are among each other's k strongest."""
    chosen = np.zeros(len(pairs.i), dtype=int)
    taken = np.zeros(len(pairs.names), dtype=int)
    for place in pairs.strongest_first():
        for end in (pairs.i[place], pairs.j[place]):
            if taken[end] < settings.k:
                taken[end] += 1
                chosen[place] += 1
    return pairs.keep(chosen == 2)


def _soft(pairs: Pairs, settings: SparsifierSettings) -> Pairs:
    """All pairs, with weight sign(w) |w|^beta (Zhang and Horvath 2005, doi:10.2202/1544-6115.1128)."""
    return replace(pairs, weight=np.sign(pairs.weight) * pairs.strength**settings.beta)


def _maximum_spanning_tree(pairs: Pairs, settings: SparsifierSettings) -> Pairs:
    """The strongest pairs that connect all targets without a circle (Mantegna 1999, doi:10.1007/s100510050929)."""
    tree = nx.utils.UnionFind(range(len(pairs.names)))
    chosen = np.zeros(len(pairs.i), dtype=bool)
    for place in pairs.strongest_first():
        i, j = int(pairs.i[place]), int(pairs.j[place])
        chosen[place] = tree[i] != tree[j]
        tree.union(i, j)
    return pairs.keep(chosen)


def _planar(pairs: Pairs, settings: SparsifierSettings) -> Pairs:
    """A triangulated maximally filtered graph: 3T - 6 strong pairs drawn without crossings.

    Massara, Di Matteo and Aste 2016, doi:10.1093/comnet/cnw015. Starting from the four targets of the largest total
    strength, the target that gains most is put into a triangle, again and again. Up to four targets keep all pairs.
    """
    if len(pairs.names) <= 4:
        return pairs
    strength = np.abs(pairs.matrix())
    start = np.sort(np.argsort(-strength.sum(axis=0), kind="stable")[:4])
    edges = {(a, b) for a in start for b in start if a < b}
    triangles = [tuple(np.delete(start, leave)) for leave in range(4)]
    outside = [name for name in range(len(strength)) if name not in start]
    while outside:
        gains = np.stack(
            [strength[np.ix_(outside, triangle)].sum(axis=1) for triangle in triangles], axis=1
        )
        new, into = np.unravel_index(int(np.argmax(gains)), gains.shape)
        node, (a, b, c) = outside.pop(int(new)), triangles.pop(int(into))
        edges |= {(min(node, corner), max(node, corner)) for corner in (a, b, c)}
        triangles += [(a, b, node), (a, c, node), (b, c, node)]
    return pairs.keep(
        np.array([pair in edges for pair in zip(pairs.i, pairs.j, strict=True)], dtype=bool)
    )


def _partial(pairs: Pairs, settings: SparsifierSettings) -> Pairs:
    """Partial correlations that hold at a false discovery rate of alpha: relations that no third target explains.

    The matrix of correlations is drawn towards the unit matrix just as far as its inverse needs (least eigenvalue 0.05;
    with pairwise complete rows it need not even be positive). p from Student's t with n - T degrees of freedom.
    """
    if pairs.measure not in ("pearson", "spearman"):
        raise GroupingError(
            f"The sparsifier 'partial' needs pearson or spearman affinities, but got '{pairs.measure}'."
        )
    targets = len(pairs.names)
    if len(pairs.n) and pairs.n.min() <= targets:
        raise GroupingError(
            f"The sparsifier 'partial' needs more materials a pair than targets ({targets}), but got {pairs.n.min()}."
        )
    correlations = pairs.matrix() + np.eye(targets)
    least = float(np.linalg.eigvalsh(correlations)[0])
    shrink = max(0.0, (_LEAST_EIGENVALUE - least) / (1.0 - least)) if least < 1.0 else 0.0
    inverse = np.linalg.inv((1.0 - shrink) * correlations + shrink * np.eye(targets))
    scale = np.sqrt(np.diag(inverse))
    weight = np.clip(-(inverse / np.outer(scale, scale))[pairs.i, pairs.j], -1.0, 1.0)
    freedom = pairs.n - targets
    p = 2.0 * stdtr(
        freedom, -np.abs(weight) * np.sqrt(freedom / np.maximum(1.0 - weight**2, 1e-300))
    )
    return _fdr(replace(pairs, weight=weight, p=p, q=adjusted(p)), settings)


SPARSIFIERS: dict[str, Sparsifier] = {
    "fdr": _fdr,
    "threshold": _threshold,
    "knn": _knn,
    "mst": _maximum_spanning_tree,
    "planar": _planar,
    "soft": _soft,
    "partial": _partial,
    "none": _everything,
}
