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
    recipe: recipe of the joint run in which ``gradient``, ``look_ahead`` and ``projected`` are measured.
    seed: seed of that run.
    """

    def __init__(self, data: StudyData, folder: Path, recipe: Recipe, seed: int) -> None:
        self._data = data
        self._folder = folder / "affinity"
        self._recipe = recipe
        self._seed = seed
        self._computed: dict[str, Affinity] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str) -> Affinity:
        """Return the affinity of a name. Raises GroupingError (unknown name), TrainingFailed (of the joint run)."""
        # Under the lock, since two threads must not start the same joint run.
        with self._lock:
            if name not in self._computed:
                self._computed[name] = self._compute(name)
            return self._computed[name]

    def _compute(self, name: str) -> Affinity:
        if name in MEASURED_IN_TRAINING:
            return self._measured_in_training(name)
        labels = self._data.targets.rows(self._data.training_rows)
        affinity = affinity_matrix(labels, measure=name)
        write_text(self._folder / f"{name}.json", affinity.to_json())
        return affinity

    def _measured_in_training(self, name: str) -> Affinity:
        fold = self._data.split.validation_folds[0]
        job = self._data.job(self._data.targets.names, self._recipe, self._seed, fold)
        # The key of the job in the name: another recipe or seed is another measurement.
        path = self._folder / f"{name}-{job.key[:12]}.json"
        if not path.exists():
            log = self._folder.parent / "log" / f"affinity-{name}.log"
            affinity = measured_affinity(job, name, log)
            write_text(path, affinity.to_json())
        return Affinity.from_json(path.read_text(encoding="utf-8"))
