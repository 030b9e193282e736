"""Checkpoints of a running fit: one safetensors file, JSON in its header, nothing that executes when read."""

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn, optim

from taskgroup.errors import ConfigError

_log = logging.getLogger(__name__)
_FORMAT = 2


class Checkpoint:
    """Where and how often a fit is written down, so that a killed one goes on from there to the same result.

    The file is replaced atomically. It stays when the fit is done: remove it (``discard``) once the result is stored.

    Parameters
    ----------
    path: the file; its folder is made.
    seconds: least time between two writes; 0 writes after every epoch.
    """

    def __init__(self, path: str | Path, seconds: float = 60.0) -> None:
        self.path = Path(path)
        self.seconds = seconds
        self._written = time.monotonic()

    def due(self) -> bool:
        """Whether enough time has passed since the last write."""
        return time.monotonic() - self._written >= self.seconds

    def save(self, key: str, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Write tensors and JSON state of the job with this key."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".part")
        header = {"taskgroup": json.dumps({"format": _FORMAT, "key": key, "state": state})}
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            partial,
            header,
        )
        os.replace(partial, self.path)
        self._written = time.monotonic()

    def load(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and state of the job with this key; None where there is no usable file (a damaged one is reported).

        Raises ConfigError: the file belongs to another job.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                header = json.loads((file.metadata() or {})["taskgroup"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            _log.warning(
                "%s: checkpoint cannot be read, training starts again (%s)", self.path, error
            )
            return None
        if header["format"] != _FORMAT:
            _log.warning(
                "%s: checkpoint of format %s, training starts again", self.path, header["format"]
            )
            return None
        if header["key"] != key:
            raise ConfigError(
                f"{self.path}: checkpoint must be of job {key[:12]}, found one of {header['key'][:12]}"
            )
        return tensors, header["state"]

    def discard(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors named ``prefix/...``, without the prefix."""
    return {
        name.removeprefix(f"{prefix}/"): t
        for name, t in tensors.items()
        if name.startswith(f"{prefix}/")
    }


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with names ``prefix/...``."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def optimizer_tensors(optimizer: optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser as tensors named ``<parameter number>.<name>``."""
    state = optimizer.state_dict()["state"]
    return {
        f"{i}.{name}": torch.as_tensor(value)
        for i, slots in state.items()
        for name, value in slots.items()
    }


def restore_optimizer(optimizer: optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Undo ``optimizer_tensors``; moments take the memory layout of their parameter, as fused kernels expect."""
    parameters: list[nn.Parameter] = [
        p for group in optimizer.param_groups for p in group["params"]
    ]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, slot = name.split(".", 1)
        like = parameters[int(number)]
        if value.shape == like.shape and value.ndim:
            value = torch.empty_like(like).copy_(value)
        state.setdefault(int(number), {})[slot] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
