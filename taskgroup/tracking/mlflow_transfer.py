"""What the transfer report of a study says, as metrics in MLflow."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from taskgroup.affinity import Affinity
from taskgroup.files import read_json


def transfer_metrics(run_dir: Path, slug_by_target: Mapping[str, str]) -> dict[str, float | None]:
    """Return ``transfer/<helper>/to/<target>`` and ``transferability/<measure>``; empty before they were measured.

    The first is the measured gain of a target from one helper, the second the rank correlation of a measure with all
    of them.
    """
    metrics: dict[str, float | None] = {}
    folder = run_dir / "transfer"
    if (folder / "transfer.json").exists():
        for row in read_json(folder / "transfer.json")["measures"]:
            # The bars of a magnitude, which MLflow takes in no name.
            measure = row["measure"].strip("|")
            metrics[f"transferability/{measure}"] = row["correlation"]
    # Runs of older versions have no table of pairs.
    if (folder / "pairwise.json").exists():
        text = (folder / "pairwise.json").read_text(encoding="utf-8")
        metrics |= _pair_metrics(Affinity.from_json(text), slug_by_target)
    return metrics


def _pair_metrics(pairwise: Affinity, slug_by_target: Mapping[str, str]) -> dict[str, float]:
    metrics = {}
    for (i, j), gain in np.ndenumerate(pairwise.values):
        if i != j and np.isfinite(gain):
            helper = slug_by_target[pairwise.names[i]]
            target = slug_by_target[pairwise.names[j]]
            metrics[f"transfer/{helper}/to/{target}"] = float(gain)
    return metrics
