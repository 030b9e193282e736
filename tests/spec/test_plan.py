from pathlib import Path

import numpy as np
import pytest

from taskgroup.datasets import Dataset, TargetTable, write_store
from taskgroup.errors import ConfigError
from taskgroup.spec.plan import StudyData
from tests.conftest import small_dataset


def test_a_study_whose_validation_rows_tell_nothing_is_refused(make_config, tmp_path: Path):
    whole = small_dataset()
    values = whole.targets.values.copy()
    values[whole.splits(by="formula", folds=5, seed=0).split(0, 1).validation[1:]] = np.nan
    table = TargetTable(whole.targets.specs, whole.ids, values)
    parts = whole.densities(np.arange(len(whole))), whole.lattices, whole.formulas, whole.formulas
    write_store(tmp_path / "data", Dataset.from_arrays("small", whole.ids, table, *parts))
    here = f"dataset={tmp_path / 'data'}"
    with pytest.raises(
        ConfigError, match="found at most 1 labelled rows of any target in fold 1 of 5"
    ):
        StudyData(make_config(here))
    StudyData(make_config(here, "split.validation_folds=[1, 2]"))  # fold 2 can tell
