"""Rows on the device: fields of a view prepared once, labels standardised on the training rows.

A study trains hundreds of small networks on the same rows, so prepared fields are kept for the process, keyed by the
hash of densities and cells, view and device.
"""

import logging
import math
import os
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taskgroup.datasets import Dataset, Split, TargetScaler, TargetTable
from taskgroup.errors import ConfigError, TargetError, TaskgroupError
from taskgroup.training.prepared_rows import cache_folder, load_prepared, save_prepared

_log = logging.getLogger(__name__)
_CHUNK = 64  # densities in memory at a time while preparing
_RESIDENT_BYTES = (
    4 << 30
)  # most bytes of fields that a CPU keeps in memory, over all datasets and views
_LONG = 5.0  # seconds of preparing from which on the rows are kept on disk
_cache: OrderedDict[tuple[str, str, str], "Fields"] = OrderedDict()


@dataclass(frozen=True)
class Fields:
    """What a view makes of every row of a dataset: fields [rows, C', n, n, n] and lattice [rows, 3, 3] on the device.

    Grids lie channels last, as convolutions and the augmentation's gather of whole points want them.
    Fields too large for the device's memory are a file mapped into the host's memory instead, and ``rest`` prepares its
    rows when they are first wanted; ``batch`` hides that.
    """

    fields: Tensor
    lattice: Tensor
    rest: "_Rest | None" = None

    @property
    def elsewhere(self) -> bool:
        """The fields are not in the device's memory."""
        return self.rest is not None

    def batch(self, rows: Tensor, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Fields and lattice of some rows, int64 on the device, on the device; ``out`` is from ``batch_room``."""
        if self.rest is not None:
            self.rest.prepare(rows.cpu().numpy())
        points = self.fields.movedim(1, -1)
        chosen = torch.index_select(
            points, 0, rows.to(points.device), out=None if out is None else out[: len(rows)]
        )
        return chosen.movedim(-1, 1).to(self.lattice.device, non_blocking=True), self.lattice[rows]

    def batch_room(self, rows: int) -> Tensor | None:
        """Room to be used for one batch after the other; None where the device has an allocator that does so.

        A CPU's gives memory of this size back to the system, which then clears every page again at each step.
        """
        if self.lattice.device.type != "cpu":
            return None
        return self.fields.new_empty(rows, *self.fields.movedim(1, -1).shape[1:])


@dataclass(frozen=True)
class _Rest:
    """Prepares rows of ``fields`` that are not ``done``: [rows] bool."""

    dataset: Dataset
    view: nn.Module
    fields: Tensor
    lattice: Tensor
    done: NDArray[np.bool_]

    def prepare(self, rows: NDArray[np.int64]) -> None:
        """Make sure that these are done."""
        todo = np.unique(rows[~self.done[rows]])
        for start in range(0, len(todo), _CHUNK):
            chunk = todo[start : start + _CHUNK]
            self.fields[torch.from_numpy(chunk)] = self._of(chunk).to(self.fields.device)
            self.done[chunk] = True

    def _of(self, rows: NDArray[np.int64]) -> Tensor:
        return _fields_of(self.dataset, self.view, self.lattice, rows)


def _fields_of(
    dataset: Dataset, view: nn.Module, lattice: Tensor, rows: NDArray[np.int64]
) -> Tensor:
    """What the view makes of some rows, on the device of ``lattice``."""
    with torch.no_grad():
        density = torch.from_numpy(dataset.densities(rows)).to(lattice.device)
        return view.prepare(density, lattice[torch.from_numpy(rows).to(lattice.device)])


def prepare_fields(dataset: Dataset, view: nn.Module, device: torch.device) -> Fields:
    """The fields of all rows, computed once a process; the least recently used are dropped when room is needed."""
    key = (dataset.inputs_hash, view.key, str(device))
    if key in _cache:
        _cache.move_to_end(key)
        return _cache[key]
    lattice = torch.tensor(dataset.lattices, dtype=torch.float32, device=device)
    kept = load_prepared(dataset.inputs_hash, view.key, len(dataset))
    _cache[key] = (
        _prepared(dataset, view, lattice) if kept is None else Fields(kept.to(device), lattice)
    )
    return _cache[key]


def _prepared(dataset: Dataset, view: nn.Module, lattice: Tensor) -> Fields:
    """All rows on the device of ``lattice``, kept on disk where they took long; or a file filled on demand."""
    started = time.perf_counter()
    shape = _fields_of(dataset, view, lattice, np.arange(1)).movedim(1, -1).shape[1:]
    room = _room((len(dataset), *shape), lattice.device)
    fields = (_mapped((len(dataset), *shape)) if room is None else room).movedim(-1, 1)
    rest = _Rest(dataset, view, fields, lattice, np.zeros(len(dataset), dtype=bool))
    if room is None:
        return Fields(fields, lattice, rest)
    rest.prepare(np.arange(len(dataset)))
    fields = view.trimmed(fields)
    if time.perf_counter() - started > _LONG:
        save_prepared(dataset.inputs_hash, view.key, fields)
    return Fields(fields, lattice)


def _room(shape: tuple[int, ...], device: torch.device) -> Tensor | None:
    """An empty float32 tensor on the device; None where it does not fit."""
    needed = 4 * math.prod(shape)
    while _cache and needed > _free_bytes(device):
        _cache.popitem(last=False)
    return (
        torch.empty(shape, dtype=torch.float32, device=device)
        if needed <= _free_bytes(device)
        else None
    )


def _mapped(shape: tuple[int, ...]) -> Tensor:
    """A float32 tensor in an unnamed file among prepared rows, where the system keeps in memory what it has room for.

    Raises TaskgroupError: the disk has no room for it. (Were it not reserved, a full disk would end the process.)
    """
    needed, folder = 4 * math.prod(shape), cache_folder()
    _log.info(
        "fields of %.1f GB do not fit into memory: kept in a temporary file in %s",
        needed / 1e9,
        folder,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, needed)
            return torch.from_numpy(np.memmap(file, dtype=np.float32, mode="r+", shape=shape))
    except OSError as error:
        raise TaskgroupError(
            f"{folder}: no room for {needed / 1e9:.1f} GB of fields ({error.strerror}); TASKGROUP_CACHE names another"
        ) from error


def _free_bytes(device: torch.device) -> int:
    """Bytes that fields may still take: on a GPU half of what is free, the rest is for training."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 2
    return _RESIDENT_BYTES - sum(entry.fields.nbytes for entry in _cache.values())


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


def encode_labels(
    table: TargetTable, split: Split, device: torch.device
) -> tuple[TargetScaler, Labels]:
    """The scaler of the training rows and all labels in its space.

    Raises TargetError: a target without a label in training, or fewer than two labelled training rows.
    """
    there = ~np.isnan(table.values)
    train = split.train[there[split.train].any(axis=1)]
    if len(train) < 2:
        raise TargetError(
            f"{', '.join(table.names)}: training needs at least 2 labelled rows, found {len(train)}"
        )
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
    name = (
        device
        or os.environ.get("TASKGROUP_DEVICE")
        or ("cuda" if torch.cuda.is_available() else "cpu")
    )
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


def network_outputs(
    network: nn.Module,
    data: Fields,
    rows: Tensor,
    batch_size: int,
    forward: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Standardised outputs [rows, T] in evaluation mode; the network's mode is left as it was.

    ``forward`` stands in for the network; its next call may overwrite what it gave.
    """
    forward = forward or network
    training = network.training
    network.eval()
    with torch.no_grad():
        found = [forward(*data.batch(part)).clone() for part in rows.split(batch_size)]
    network.train(training)
    return torch.cat(found)
