"""The affinities of a study, each computed once: from labels of training rows, or in one joint run of all targets."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from uuid import uuid4

from taskgroup.affinity import Affinity, affinity_matrix
from taskgroup.errors import TrainingFailed
from taskgroup.spec.plan import Recipe, StudyData
from taskgroup.spec.space import MEASURED_IN_TRAINING
from taskgroup.training import GroupJob

_WORKER = "from taskgroup.execution.worker import measure; measure()"


class Affinities:
    """Affinities by name, kept in ``affinity/NAME.json`` of the run folder.

    Parameters
    ----------
    data: the rows and targets of the study.
    folder: the run folder.
    recipe: of the joint run that ``gradient``, ``look_ahead`` and ``projected`` are measured in.
    seed: of that run.
    """

    def __init__(self, data: StudyData, folder: Path, recipe: Recipe, seed: int) -> None:
        self._data = data
        self._folder = folder / "affinity"
        self._recipe, self._seed = recipe, seed
        self._known: dict[str, Affinity] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str) -> Affinity:
        """The affinity of that name. Raises GroupingError (unknown name), TrainingFailed (of the joint run)."""
        with self._lock:
            if name not in self._known:
                self._known[name] = (
                    self._measured(name) if name in MEASURED_IN_TRAINING else self._of_labels(name)
                )
            return self._known[name]

    def _of_labels(self, name: str) -> Affinity:
        found = affinity_matrix(self._data.targets.rows(self._data.training_rows), measure=name)
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._folder / f"{name}.{uuid4().hex[:8]}.part"
        partial.write_text(found.to_json(), encoding="utf-8")
        partial.replace(self._folder / f"{name}.json")
        return found

    def _measured(self, name: str) -> Affinity:
        fold = self._data.split.validation_folds[0]
        job = self._data.job(self._data.targets.names, self._recipe, self._seed, fold)
        path = self._folder / f"{name}-{job.key[:12]}.json"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            _joint_run(job, name, path)
        return Affinity.from_json(path.read_text(encoding="utf-8"))


def _joint_run(job: GroupJob, measure: str, path: Path) -> None:
    """Train in a process apart, as trials do: what crashes there fails a trial, not the study."""
    request = {"job": job.to_dict(), "measure": measure, "path": str(path)}
    done = subprocess.run(
        [sys.executable, "-c", _WORKER],
        input=json.dumps(request),
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]
        raise TrainingFailed(f"affinity '{measure}': the joint run of all targets failed: {reason}")
