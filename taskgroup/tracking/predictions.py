"""Predictions of the exported bundle for the test rows of a run, beside the truth."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from taskgroup.files import write_frame
from taskgroup.tracking.run_folder import read_study

if TYPE_CHECKING:
    import pandas as pd

TEST_PREDICTIONS = "test_predictions.csv"

# Fields of a Target that a run has stored.
_TARGET_FIELDS = ("kind", "unit", "transform")


def write_predictions(
    run_dir: str | Path,
    targets: Mapping[str, NDArray[np.float64]],
    predicted: "pd.DataFrame",
) -> Path:
    """Write ``test_predictions.csv``: id, then of each target its true value (as its name), ``_predicted``, ``_std``.

    ``targets`` are true values [rows], NaN where missing; ``predicted`` is what ``taskgroup.export.predict`` gives.
    """
    import pandas as pd

    columns = {}
    for name, truth in targets.items():
        columns[name] = truth
        columns[f"{name}_predicted"] = predicted[name]
        columns[f"{name}_std"] = predicted[f"{name}_std"]
    path = Path(run_dir) / TEST_PREDICTIONS
    write_frame(path, pd.DataFrame(columns, index=predicted.index), index=True)
    return path


def predictions_table(run_dir: str | Path) -> "pd.DataFrame":
    """Return truth, ``_predicted`` and ``_std`` of each target on the test rows, by id; empty before the end.

    ``.attrs["targets"]`` says what the targets mean, ``.attrs["units"]`` their units.
    """
    import pandas as pd

    path = Path(run_dir) / TEST_PREDICTIONS
    frame = pd.DataFrame(index=pd.Index([], name="id"))
    if path.exists():
        frame = pd.read_csv(path, index_col="id", dtype={"id": str})
    targets = {}
    for name, fields in read_study(run_dir).targets.items():
        if name in frame:
            targets[name] = {field: fields[field] for field in _TARGET_FIELDS}
    frame.attrs["targets"] = targets
    frame.attrs["units"] = {name: fields["unit"] for name, fields in targets.items()}
    return frame
