"""Standardised densities with a table of properties, their splits, and the stores they live in.

>>> from taskgroup.datasets import load_dataset
>>> data = load_dataset("crystals")
>>> data.targets.spec("bulk_modulus").unit, data.densities([0]).shape
('GPa', (1, 1, 32, 32, 32))
>>> split = data.splits(by="chemical_system", folds=5, seed=0).split(test_fold=0, validation_fold=1)
>>> len(split.train) + len(split.validation) + len(split.test) == len(data)
True
"""

from taskgroup.datasets.dataset import Dataset
from taskgroup.datasets.load import load_dataset
from taskgroup.datasets.splits import Split, Splits
from taskgroup.datasets.target import Target, TargetScaler, TargetTable

__all__ = ["Dataset", "Split", "Splits", "Target", "TargetScaler", "TargetTable", "load_dataset"]
