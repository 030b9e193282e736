"""Standardisation of labels, fitted on training rows only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taskgroup.datasets.target import Target
from taskgroup.errors import TargetError


@dataclass(frozen=True, eq=False)
class TargetScaler:
    """Conversion between natural values and what a network learns: transformed, mean 0 and variance 1.

    ``mean`` and ``std`` are arrays [T] in the space of each target's transform; 0 and 1 for classification, which
    passes through as 0/1.
    """

    specs: tuple[Target, ...]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @classmethod
    def fit(cls, specs: Sequence[Target], values: ArrayLike) -> "TargetScaler":
        """Fit on training rows: ``values`` [rows, T] in natural units, NaN missing.

        A target with one distinct label gets std 1. Raises TargetError for a target without a label there.
        """
        table = np.asarray(values, dtype=np.float64)
        mean, std = np.zeros(len(specs)), np.ones(len(specs))
        for number, spec in enumerate(specs):
            column = table[:, number]
            labels = column[~np.isnan(column)]
            if labels.size == 0:
                raise TargetError(
                    f"target '{spec.name}': no label among the {len(table)} training rows"
                )
            if spec.kind == "classification":
                continue
            learnt = spec.forward(labels)
            mean[number] = learnt.mean()
            if np.ptp(labels) > 0:
                std[number] = learnt.std()
        return cls(tuple(specs), mean, std)

    def encode(self, values: ArrayLike) -> NDArray[np.float64]:
        """Standardise natural values [rows, T]."""
        table = np.asarray(values, dtype=np.float64)
        learnt = self._transform(table, Target.forward)
        return (learnt - self.mean) / self.std

    def decode(self, z: ArrayLike) -> NDArray[np.float64]:
        """Return the natural values [rows, T] of standardised ones."""
        learnt = np.asarray(z, dtype=np.float64) * self.std + self.mean
        return self._transform(learnt, Target.inverse)

    def _transform(
        self,
        table: NDArray[np.float64],
        transform: Callable[[Target, ArrayLike], NDArray[np.float64]],
    ) -> NDArray[np.float64]:
        columns = [transform(spec, table[..., i]) for i, spec in enumerate(self.specs)]
        return np.stack(columns, axis=-1)

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary for JSON; ``from_dict`` reads it back bit for bit."""
        return {
            "targets": [spec.to_dict() for spec in self.specs],
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "TargetScaler":
        """Read what ``to_dict`` gave."""
        specs = tuple(Target(**fields) for fields in data["targets"])
        mean = np.array(data["mean"], dtype=np.float64)
        std = np.array(data["std"], dtype=np.float64)
        return cls(specs, mean, std)
