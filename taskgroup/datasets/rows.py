"""Single rows of a dataset: for people (``data[0]``) and for training loops of one's own (``data.torch()``)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from taskgroup.datasets.dataset import Dataset


@dataclass(frozen=True, eq=False)
class Row:
    """One crystal of a dataset.

    Attributes:
        id: of the row.
        labels: value of each target in its unit; None where it is missing.
        lattice: float64 [3, 3], rows are vectors, Å.
    """

    id: str
    labels: dict[str, float | None]
    lattice: NDArray[np.float64]
    _dataset: "Dataset"
    _number: int

    @cached_property
    def density(self) -> NDArray[np.float32]:
        """Density [C, n1, n2, n3], e/Å^3; read when first asked for."""
        return self._dataset.densities([self._number])[0]

    @cached_property
    def structure(self) -> "Structure":
        """The crystal as a pymatgen Structure."""
        return self._dataset.structure(self._number)

    def __repr__(self) -> str:
        labels = [f"{name}={value:.4g}" for name, value in self.labels.items() if value is not None]
        return f"Row({self.id}: {', '.join(labels)})"


def row_of(dataset: "Dataset", number: int) -> Row:
    """Return one row by its number; negative ones count from the end. Raises IndexError: there is none."""
    n_rows = len(dataset)
    if not -n_rows <= number < n_rows:
        raise IndexError(f"dataset '{dataset.name}': has {n_rows} rows, asked for row {number}")
    number %= n_rows
    labels = {}
    for name, value in zip(dataset.targets.names, dataset.targets.values[number], strict=True):
        labels[name] = None if np.isnan(value) else float(value)
    return Row(dataset.ids[number], labels, dataset.lattices[number], dataset, number)


class TorchRows:
    """A dataset as PyTorch takes it (``torch.utils.data.Dataset``): for ``DataLoader`` and networks of one's own.

    An item is ``{"id", "density", "lattice", "labels"}``: float32 tensors [C, n1, n2, n3] (e/Å^3), [3, 3] (Å) and [T]
    (in the targets' units, NaN where missing). Grids may differ in shape from row to row; then ``DataLoader`` needs
    ``collate_fn=rows.collate``.
    """

    def __init__(self, dataset: "Dataset") -> None:
        self.dataset = dataset

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets, in the order of the labels."""
        return self.dataset.targets.names

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self.__getitems__([row_of(self.dataset, number)._number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Return several rows; ``DataLoader`` asks for a batch by this, so that it is read at once."""
        import torch

        rows = np.asarray(numbers, dtype=np.int64)
        densities = self.dataset.read(rows)
        lattices = torch.from_numpy(self.dataset.lattices[rows].astype(np.float32))
        labels = torch.from_numpy(self.dataset.targets.values[rows].astype(np.float32))
        items = []
        for place, row in enumerate(rows):
            density = torch.from_numpy(densities[place].astype(np.float32))
            item = {"id": self.dataset.ids[row], "density": density}
            items.append(item | {"lattice": lattices[place], "labels": labels[place]})
        return items

    @staticmethod
    def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return items as one batch; densities of several shapes stay a list."""
        import torch

        batch: dict[str, Any] = {"id": [item["id"] for item in items]}
        for name in ("lattice", "labels"):
            batch[name] = torch.stack([item[name] for item in items])
        densities = [item["density"] for item in items]
        has_one_shape = len({density.shape for density in densities}) == 1
        batch["density"] = torch.stack(densities) if has_one_shape else densities
        return batch
