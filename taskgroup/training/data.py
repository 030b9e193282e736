"""Rows on the device: fields of a view prepared once, labels standardised on the training rows.

A study trains hundreds of small networks on the same rows, so prepared fields are kept for the process, keyed by
dataset hash, view and device.
"""

import os
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taskgroup.datasets import Dataset, Split, TargetScaler, TargetTable
from taskgroup.errors import ConfigError, TargetError

_CHUNK = 64  # densities in memory at a time while preparing
_CACHE_BYTES = 4 << 30
_cache: OrderedDict[tuple[str, str, str], "Fields"] = OrderedDict()


@dataclass(frozen=True)
class Fields:
    """What a view makes of every row of a dataset, on one device: fields [rows, C', n, n, n], lattice [rows, 3, 3]."""

    fields: Tensor
    lattice: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        return self.fields.nbytes + self.lattice.nbytes


def prepare_fields(dataset: Dataset, view: nn.Module, device: torch.device) -> Fields:
    """The fields of all rows, computed once a process; the least recently used are dropped beyond 4 GiB."""
    key = (dataset.hash, view.key, str(device))
    if key in _cache:
        _cache.move_to_end(key)
        return _cache[key]
    lattice = torch.tensor(dataset.lattices, dtype=torch.float32)
    fields: Tensor | None = None
    with torch.no_grad():
        for rows in np.array_split(np.arange(len(dataset)), -(-len(dataset) // _CHUNK)):
            density = torch.from_numpy(dataset.densities(rows)).to(device)
            part = view.prepare(density, lattice[rows].to(device))
            if fields is None:
                fields = part.new_empty((len(dataset), *part.shape[1:]))
            fields[torch.from_numpy(rows)] = part
    _cache[key] = Fields(fields, lattice.to(device))
    while len(_cache) > 1 and sum(entry.nbytes for entry in _cache.values()) > _CACHE_BYTES:
        _cache.popitem(last=False)
    return _cache[key]


@dataclass(frozen=True)
class Labels:
    """Standardised labels of every row: ``values`` [rows, T] (0 where missing) and ``present`` [rows, T] (1 or 0).

    ``train`` are the training rows with any label of the group, on the device; ``complete`` says that none of their
    labels is missing.
    """

    values: Tensor
    present: Tensor
    train: Tensor
    complete: bool


def encode_labels(table: TargetTable, split: Split, device: torch.device) -> tuple[TargetScaler, Labels]:
    """The scaler of the training rows and all labels in its space.

    Raises TargetError: a target without a label in training, or fewer than two labelled training rows.
    """
    there = ~np.isnan(table.values)
    train = split.train[there[split.train].any(axis=1)]
    if len(train) < 2:
        raise TargetError(f"{', '.join(table.names)}: training needs at least 2 labelled rows, found {len(train)}")
    scaler = TargetScaler.fit(table.specs, table.values[train])
    values = np.nan_to_num(scaler.encode(table.values))
    labels = Labels(
        values=torch.as_tensor(values, dtype=torch.float32, device=device),
        present=torch.as_tensor(there, dtype=torch.float32, device=device),
        train=torch.as_tensor(train, device=device),
        complete=bool(there[train].all()),
    )
    return scaler, labels


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for; else TASKGROUP_DEVICE; else CUDA where there is any, else the CPU."""
    name = device or os.environ.get("TASKGROUP_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device: must be like cpu, cuda or cuda:1, found '{name}'") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device: '{name}' asked for, but no CUDA device is available")
    return chosen


def predict_rows(
    network: nn.Module, dataset: Dataset, rows: NDArray[np.int64], *, batch_size: int = 64
) -> NDArray[np.float32]:
    """Predictions of a MultiTaskNetwork [rows, T] in units (probabilities for classes), in float32, on its device."""
    device = next(network.parameters()).device
    data = prepare_fields(dataset, network.view, device)
    outputs = network_outputs(network, data, torch.as_tensor(rows, device=device), batch_size)
    with torch.no_grad():
        return network.decode(outputs).cpu().numpy().astype(np.float32)


def network_outputs(network: nn.Module, data: Fields, rows: Tensor, batch_size: int) -> Tensor:
    """Standardised outputs [rows, T] in evaluation mode; the network's mode is left as it was."""
    training = network.training
    network.eval()
    with torch.no_grad():
        parts = [network(data.fields[part], data.lattice[part]).float() for part in rows.split(batch_size)]
    network.train(training)
    return torch.cat(parts)
