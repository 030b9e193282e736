"""All pairs of targets as flat arrays, which sparsifiers choose from."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import false_discovery_control

from taskgroup.affinity import Affinity


@dataclass(frozen=True, eq=False)
class Pairs:
    """The pairs of targets whose affinity is known, in the order of their names.

    names: T sorted names; i, j: int [pairs], places in names with i < j; weight: signed affinity; n: materials with
    both labels; p: p-values (NaN: no test); q: p adjusted to control the false discovery rate; measure: what weight is.
    """

    names: tuple[str, ...]
    i: np.ndarray
    j: np.ndarray
    weight: np.ndarray
    n: np.ndarray
    p: np.ndarray
    q: np.ndarray
    measure: str

    @classmethod
    def of(cls, affinity: Affinity) -> "Pairs":
        """Return the known pairs of a symmetric affinity."""
        affinity = affinity.select(sorted(affinity.names))
        i, j = np.triu_indices(len(affinity.names), k=1)
        known = np.isfinite(affinity.values[i, j])
        i, j = i[known], j[known]
        p = affinity.p[i, j]
        return cls(
            affinity.names,
            i,
            j,
            affinity.values[i, j],
            affinity.n[i, j],
            p,
            adjusted(p),
            affinity.measure,
        )

    @property
    def strength(self) -> np.ndarray:
        """Absolute weights."""
        return np.abs(self.weight)

    def keep(self, chosen: np.ndarray) -> "Pairs":
        """Return some of the pairs, by a mask or by places."""
        arrays = {name: getattr(self, name)[chosen] for name in ("i", "j", "weight", "n", "p", "q")}
        return replace(self, **arrays)

    def strongest_first(self) -> np.ndarray:
        """Return the places of all pairs by falling strength; equals stay in the order of names."""
        return np.argsort(-self.strength, kind="stable")

    def matrix(self) -> np.ndarray:
        """Return signed weights [T, T], 0 where unknown and on the diagonal."""
        full = np.zeros((len(self.names), len(self.names)))
        full[self.i, self.j] = full[self.j, self.i] = self.weight
        return full


def adjusted(p: np.ndarray) -> np.ndarray:
    """Return Benjamini-Hochberg adjusted p-values, doi:10.1111/j.2517-6161.1995.tb02031.x; NaN stays NaN."""
    q = np.full(len(p), np.nan)
    tested = np.isfinite(p)
    if tested.any():
        q[tested] = false_discovery_control(p[tested], method="bh")
    return q
