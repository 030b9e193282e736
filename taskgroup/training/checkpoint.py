"""Checkpoints of a running fit: one safetensors file, JSON in its header, nothing that executes when read."""

import json
import logging
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn, optim

from taskgroup.errors import ConfigError
from taskgroup.files import atomic_path

_log = logging.getLogger(__name__)
# Raised when names or meaning of the tensors change: files of earlier formats are then left out.
_FORMAT = 2
# Name of our JSON among the metadata of a safetensors file.
_HEADER = "taskgroup"


class Checkpoint:
    """File of a fit in progress, so that a killed fit goes on from there to the same result.

    The file is replaced atomically. It stays when the fit is done: ``discard`` it once the result is stored.

    Parameters
    ----------
    path: the file; its folder is made.
    seconds: least time between two writes; 0 writes after every epoch.
    strict: refuse a file of another job with a ConfigError. False, as a worker wants it: leave it out with a line in
        the log and train from the beginning, which is always right.
    """

    def __init__(self, path: str | Path, seconds: float = 60.0, strict: bool = True) -> None:
        self.path = Path(path)
        self.seconds = seconds
        self.strict = strict
        self._last_write = time.monotonic()

    def due(self) -> bool:
        """Return whether enough time has passed since the last write."""
        return time.monotonic() - self._last_write >= self.seconds

    def save(self, key: str, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Write tensors and JSON state of the job with this key.

        A file that cannot be written (the disk is full) is reported in the log and does not end the training.
        """
        content = {"format": _FORMAT, "key": key, "state": state}
        # safetensors writes contiguous tensors only; convolutions keep theirs channels last.
        on_host = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        try:
            with atomic_path(self.path) as temporary:
                save_file(on_host, temporary, {_HEADER: json.dumps(content)})
        except (OSError, SafetensorError) as error:
            _log.warning("%s: checkpoint cannot be written: %s", self.path, error)
        self._last_write = time.monotonic()

    def load(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return tensors and state of the job with this key, or None where there is nothing to go on from.

        A file that is damaged or of another format is left out with a line in the log. Raises ConfigError: the file is
        of another job and the checkpoint is strict.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                content = json.loads((file.metadata() or {})[_HEADER])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            self.report_unusable(f"it cannot be read ({error})")
            return None
        if content["format"] != _FORMAT:
            self.report_unusable(f"its format is {content['format']}, not {_FORMAT}")
            return None
        if content["key"] != key:
            rule = f"checkpoint must be of job {key[:12]}, found one of {content['key'][:12]}"
            if self.strict:
                raise ConfigError(f"{self.path}: {rule}; remove the file or name another one")
            self.report_unusable(rule)
            return None
        return tensors, content["state"]

    def report_unusable(self, reason: str) -> None:
        """Say in the log why training starts again though there is a file."""
        _log.warning("%s: checkpoint is not used, training starts again: %s", self.path, reason)

    def discard(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors named ``prefix/...``, without the prefix."""
    start = f"{prefix}/"
    return {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with names ``prefix/...``."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def optimizer_tensors(optimizer: optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of an optimiser as tensors named ``<parameter number>.<name>``."""
    tensors = {}
    for number, slots in optimizer.state_dict()["state"].items():
        for name, value in slots.items():
            tensors[f"{number}.{name}"] = torch.as_tensor(value)
    return tensors


def restore_optimizer(optimizer: optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Undo ``optimizer_tensors``; moments take the memory layout of their parameter, as fused kernels expect."""
    parameters: list[nn.Parameter] = []
    for group in optimizer.param_groups:
        parameters.extend(group["params"])
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, slot = name.split(".", 1)
        parameter = parameters[int(number)]
        if value.shape == parameter.shape and value.ndim:
            value = torch.empty_like(parameter).copy_(value)
        state.setdefault(int(number), {})[slot] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
