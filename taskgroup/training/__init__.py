"""Training of one group of targets as one multi-task network.

>>> from taskgroup.datasets import load_dataset
>>> from taskgroup.models import ModelConfig
>>> data = load_dataset("crystals")
>>> fold = {"by": "chemical_system", "folds": 5, "seed": 0, "test_fold": 0, "validation_fold": 1}
>>> job = GroupJob(("density", "volume"), ModelConfig(), TrainConfig(epochs=1), 0, "crystals", data.hash, fold)
>>> result = fit(data, data.splits().split(), job).result
>>> sorted(result.skills)
['density', 'volume']
"""

from taskgroup.training.balance import Balancer, balancer_names
from taskgroup.training.checkpoint import Checkpoint
from taskgroup.training.config import TrainConfig
from taskgroup.training.device_rows import pick_device, predict_rows
from taskgroup.training.fit import fit, fit_epochs, fit_halves
from taskgroup.training.hooks import Hook, HookContext
from taskgroup.training.loop import Fit
from taskgroup.training.metrics import group_metrics, interval, mean_skill, target_metrics
from taskgroup.training.result import EpochReport, GroupJob, GroupResult

__all__ = [
    "Balancer",
    "Checkpoint",
    "EpochReport",
    "Fit",
    "GroupJob",
    "GroupResult",
    "Hook",
    "HookContext",
    "TrainConfig",
    "balancer_names",
    "fit",
    "fit_epochs",
    "fit_halves",
    "group_metrics",
    "interval",
    "mean_skill",
    "pick_device",
    "predict_rows",
    "target_metrics",
]
