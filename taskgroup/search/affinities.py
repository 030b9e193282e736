"""The affinities of a study, each computed once: from labels of training rows, or in one joint run of all targets."""

import threading
from pathlib import Path

from taskgroup.affinity import Affinity, affinity_matrix
from taskgroup.execution.measure import measured_affinity
from taskgroup.files import write_text
from taskgroup.spec.plan import Recipe, StudyData
from taskgroup.spec.space import MEASURED_IN_TRAINING


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
        write_text(self._folder / f"{name}.json", found.to_json())
        return found

    def _measured(self, name: str) -> Affinity:
        fold = self._data.split.validation_folds[0]
        job = self._data.job(self._data.targets.names, self._recipe, self._seed, fold)
        path = self._folder / f"{name}-{job.key[:12]}.json"
        if not path.exists():
            log = self._folder.parent / "log" / f"affinity-{name}.log"
            affinity = measured_affinity(job, name, log)
            write_text(path, affinity.to_json())
        return Affinity.from_json(path.read_text(encoding="utf-8"))
