"""Standardised densities with a table of properties, their splits, and the stores they live in.

>>> from taskgroup.datasets import load_dataset
>>> data = load_dataset("crystals")
>>> data.targets.spec("bulk_modulus").unit, data.densities([0]).shape
('GPa', (1, 1, 15, 15, 15))
>>> split = data.splits(by="chemical_system", folds=5, seed=0).split(test_fold=0, validation_fold=1)
>>> len(split.train) + len(split.validation) + len(split.test) == len(data)
True

``ingest(folder, table, out)`` makes a store of one's own densities, ``promolecules`` one of structures alone, and
``load_dataset(out)`` opens it.
"""

from taskgroup.datasets.dataset import Dataset
from taskgroup.datasets.empty_space import vacuum_notes
from taskgroup.datasets.ingest import IngestReport, check, ingest, promolecules
from taskgroup.datasets.load import load_dataset
from taskgroup.datasets.quality import quality_notes
from taskgroup.datasets.scaler import TargetScaler
from taskgroup.datasets.splits import Split, Splits, make_splits
from taskgroup.datasets.store import open_store, verify_store, write_store
from taskgroup.datasets.summary import describe
from taskgroup.datasets.tables import (
    Properties,
    as_target_table,
    read_properties,
)
from taskgroup.datasets.target import Target, TargetTable
from taskgroup.datasets.units import parse_unit

__all__ = [
    "Dataset",
    "IngestReport",
    "Properties",
    "Split",
    "Splits",
    "Target",
    "TargetScaler",
    "TargetTable",
    "as_target_table",
    "check",
    "describe",
    "ingest",
    "load_dataset",
    "make_splits",
    "open_store",
    "parse_unit",
    "promolecules",
    "quality_notes",
    "read_properties",
    "vacuum_notes",
    "verify_store",
    "write_store",
]
