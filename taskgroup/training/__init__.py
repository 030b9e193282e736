"""Training one group of targets as one multi-task network."""

from taskgroup.training.config import TrainConfig
from taskgroup.training.hooks import Hook, HookContext
from taskgroup.training.result import GroupJob, GroupResult

__all__ = ["GroupJob", "GroupResult", "Hook", "HookContext", "TrainConfig"]
