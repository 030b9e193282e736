"""Notes on rows whose cells hold vacuum: slabs, wires, molecules in a box."""

from collections.abc import Iterator

import numpy as np

from taskgroup.datasets.dataset import Dataset
from taskgroup.densities import find_vacuum

# Rows looked at: a millisecond each.
_MOST_LOOKED_AT = 2000
# ids in a note
_SHOWN = 5


def vacuum_notes(dataset: Dataset) -> list[str]:
    """Return a note for each form of empty cells (a slab, a wire, a molecule in a box) among the rows.

    Of a large dataset 2,000 rows drawn at random are looked at.
    """
    rows = np.arange(len(dataset))
    if len(rows) > _MOST_LOOKED_AT:
        rows = np.random.default_rng(0).choice(rows, _MOST_LOOKED_AT, replace=False)
    return list(_notes(dataset, np.sort(rows)))


def _notes(dataset: Dataset, rows: np.ndarray) -> Iterator[str]:
    rows_by_form: dict[str, list[int]] = {}
    for batch, densities in dataset.density_batches(rows):
        for row, density in zip(batch.tolist(), densities, strict=True):
            vacuum = find_vacuum(density[0], dataset.lattices[row])
            if vacuum:
                rows_by_form.setdefault(vacuum.form, []).append(row)
    sample = "" if len(rows) == len(dataset) else f" among {len(rows)} rows drawn at random"
    for form, found in sorted(rows_by_form.items()):
        found.sort()
        ids = ", ".join(dataset.ids[row] for row in found[:_SHOWN])
        more = ", ..." if len(found) > _SHOWN else ""
        yield f"rows that are {form} in vacuum{sample}: {len(found)} ({ids}{more})"
