"""Rows on the device: what a view prepared, kept for the process, and labels standardised on the training rows."""

import logging
import math
import os
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taskgroup.datasets import Dataset, Split, TargetScaler, TargetTable
from taskgroup.datasets.density_rows import equal_shape_batches
from taskgroup.errors import ConfigError, TargetError, TaskgroupError
from taskgroup.models import AtomBatch, CrystalBatch, MultiTaskNetwork, PreparedRows, View
from taskgroup.models.views.rows import channels_first, channels_last
from taskgroup.training.prepared_rows import cache_folder, load_prepared, save_prepared

_log = logging.getLogger(__name__)
# Densities in memory at a time while preparing, and their grid points: several fields of each are made.
_CHUNK = 64
_CHUNK_POINTS = 64 * 32**3
# Most bytes of prepared rows that a CPU keeps in memory, over all datasets and views.
_RESIDENT_BYTES = 4 << 30
# Seconds of preparing from which on the rows are kept on disk.
_LONG = 5.0
# A study trains hundreds of small networks on the same rows in one process, so prepared rows belong to the process and
# not to a run. Keys are the hash of densities and cells, the key of the view, and the device; the last is the newest.
_cache: OrderedDict[tuple[str, str, str], "DeviceRows"] = OrderedDict()


@dataclass(frozen=True)
class DeviceRows:
    """Prepared rows of a whole dataset, and its cells ``lattice`` [rows, 3, 3] on the device.

    Rows too large for the device's memory lie in files mapped into the host's memory instead, and ``rest`` prepares
    each when it is first wanted; ``batch`` hides that.
    """

    rows: PreparedRows
    lattice: Tensor
    rest: "_UnpreparedRows | None" = None

    @property
    def elsewhere(self) -> bool:
        """Whether the rows are outside of the device's memory."""
        return self.rest is not None

    def batch(self, rows: Tensor, out: PreparedRows | None = None) -> tuple[PreparedRows, Tensor]:
        """Return prepared rows and cells of some row numbers, int64 on the device; ``out`` is from ``batch_room``."""
        if self.rest is not None:
            self.rest.prepare(rows.cpu().numpy())
        chosen = self.rows.take(rows.to(self.rows.device), out)
        return chosen.to(self.lattice.device, non_blocking=True), self.lattice[rows]

    def batch_room(self, rows: int) -> PreparedRows | None:
        """Return memory to be used for one batch after the other; None where the device's allocator keeps its memory.

        A CPU's allocator gives memory of this size back to the system, which then clears every page again at each step.
        """
        if self.lattice.device.type != "cpu":
            return None
        return self.rows.empty_rows(rows)


@dataclass(frozen=True)
class _UnpreparedRows:
    """Prepares rows on demand; ``done`` [rows] says which ones are."""

    dataset: Dataset
    view: View
    rows: PreparedRows
    lattice: Tensor
    done: NDArray[np.bool_]

    def prepare(self, numbers: NDArray[np.int64]) -> None:
        """Make sure that rows of these numbers are prepared."""
        missing = np.unique(numbers[~self.done[numbers]])
        for chunk in equal_shape_batches(self.dataset.shapes, missing, _CHUNK, _CHUNK_POINTS):
            index = torch.from_numpy(chunk)
            prepared = _prepare_rows(self.dataset, self.view, self.lattice, chunk)
            for room, tensor in zip(self.rows.tensors, prepared.tensors, strict=True):
                room[index] = tensor.to(room.device)
            self.done[chunk] = True


def _prepare_rows(
    dataset: Dataset, view: View, lattice: Tensor, numbers: NDArray[np.int64]
) -> PreparedRows:
    """Return what the view makes of some rows, on the device of ``lattice``."""
    with torch.no_grad():
        density = torch.from_numpy(dataset.densities(numbers)).to(lattice.device)
        cells = lattice[torch.from_numpy(numbers).to(lattice.device)]
        atoms = _atoms(dataset, numbers).to(lattice.device)
        return view.prepare(CrystalBatch(density, cells, atoms, dataset.sigma))


def _atoms(dataset: Dataset, numbers: NDArray[np.int64]) -> AtomBatch:
    """Return the atoms of some rows, in as many places as the row of the dataset with the most atoms needs."""
    species = [dataset.species[row] for row in numbers]
    frac_coords = [dataset.frac_coords[row] for row in numbers]
    return AtomBatch.of(species, frac_coords, dataset.most_atoms)


def prepare_rows(dataset: Dataset, view: View, device: torch.device) -> DeviceRows:
    """Return the prepared rows of a dataset, computed once per process.

    The least recently used ones are dropped when memory is needed.
    """
    inputs_hash = _inputs_hash(dataset, view)
    key = (inputs_hash, view.key, str(device))
    if key in _cache:
        _cache.move_to_end(key)
        return _cache[key]
    lattice = torch.tensor(dataset.lattices, dtype=torch.float32, device=device)
    stored = load_prepared(inputs_hash, view.key, len(dataset))
    if stored is None:
        _cache[key] = _prepare_all(dataset, view, lattice)
    else:
        _cache[key] = DeviceRows(stored.to(device), lattice)
    return _cache[key]


def _inputs_hash(dataset: Dataset, view: View) -> str:
    """Return a hash of what the view looks at, whatever the labels are."""
    if view.uses_atoms:
        return f"{dataset.inputs_hash} {dataset.atoms_hash}"
    return dataset.inputs_hash


def _check_atoms(dataset: Dataset) -> None:
    """Refuse rows without atoms. Raises ConfigError."""
    for row_id, symbols in zip(dataset.ids, dataset.species, strict=True):
        if not symbols:
            raise ConfigError(
                f"model.atoms: structure needs the atoms of every row, but row '{row_id}' has none; "
                "ingest it with its structure, leave it out, or use model.atoms: density"
            )


def _prepare_all(dataset: Dataset, view: View, lattice: Tensor) -> DeviceRows:
    """Prepare all rows on the device of ``lattice`` and keep them on disk if that took long.

    Rows that do not fit into the device's memory become files that are filled on demand.
    """
    if view.uses_atoms:
        _check_atoms(dataset)
    started = time.perf_counter()
    example = _prepare_rows(dataset, view, lattice, np.arange(1))
    needed = example.nbytes * len(dataset)
    fits = _make_free(needed, lattice.device)
    rows = example.empty_rows(len(dataset)) if fits else _mapped_rows(example, len(dataset))
    rest = _UnpreparedRows(dataset, view, rows, lattice, np.zeros(len(dataset), dtype=bool))
    if not fits:
        return DeviceRows(rows, lattice, rest)
    rest.prepare(np.arange(len(dataset)))
    rows = view.trimmed(rows)
    if time.perf_counter() - started > _LONG:
        save_prepared(_inputs_hash(dataset, view), view.key, rows)
    return DeviceRows(rows, lattice)


def _make_free(needed: int, device: torch.device) -> bool:
    """Drop cached rows until so many bytes are free; return False where even that is not enough."""
    while _cache and needed > _free_bytes(device):
        _cache.popitem(last=False)
    return needed <= _free_bytes(device)


def _mapped_rows(example: PreparedRows, count: int) -> PreparedRows:
    """Return memory for so many rows like the example in unnamed files beside the prepared rows on disk.

    The system keeps in memory what it has space for.

    Raises TaskgroupError: the disk has no space for them.
    """
    folder = cache_folder()
    size = example.nbytes * count / 1e9
    _log.info(
        "prepared rows of %.1f GB do not fit into memory: kept in temporary files in %s",
        size,
        folder,
    )
    shapes = [(count, *channels_last(tensor).shape[1:]) for tensor in example.tensors]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        arrays = [_mapped_array(folder, shape) for shape in shapes]
    except OSError as error:
        raise TaskgroupError(
            f"{folder}: no room for {size:.1f} GB of prepared rows ({error.strerror}); "
            f"TASKGROUP_CACHE names another folder"
        ) from error
    return example.with_tensors(tuple(channels_first(torch.from_numpy(array)) for array in arrays))


def _mapped_array(folder: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a float32 array in an unnamed file."""
    with tempfile.TemporaryFile(dir=folder) as file:
        # a full disk would end the process at the first write, so the space is reserved now
        os.posix_fallocate(file.fileno(), 0, 4 * math.prod(shape))
        return np.memmap(file, dtype=np.float32, mode="r+", shape=shape)


def _free_bytes(device: torch.device) -> int:
    """Bytes that prepared rows may still take: on a GPU half of what is free, the rest is for training."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 2
    return _RESIDENT_BYTES - sum(entry.rows.nbytes for entry in _cache.values())


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
    """Return the scaler of the training rows and all labels in its space.

    Raises TargetError: a target without a label in training, or fewer than two labelled training rows.
    """
    labelled = ~np.isnan(table.values)
    train = split.train[labelled[split.train].any(axis=1)]
    if len(train) < 2:
        raise TargetError(
            f"{', '.join(table.names)}: training needs at least 2 labelled rows, found {len(train)}"
        )
    scaler = TargetScaler.fit(table.specs, table.values[train])
    values = np.nan_to_num(scaler.encode(table.values))
    labels = Labels(
        values=torch.as_tensor(values, dtype=torch.float32, device=device),
        present=torch.as_tensor(labelled, dtype=torch.float32, device=device),
        train=torch.as_tensor(train, device=device),
        complete=bool(labelled[train].all()),
    )
    return scaler, labels


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """Return the device asked for; else TASKGROUP_DEVICE; else CUDA where there is any, else the CPU.

    Raises ConfigError: no such kind of device, or CUDA where there is none.
    """
    default = "cuda" if torch.cuda.is_available() else "cpu"
    name = device or os.environ.get("TASKGROUP_DEVICE") or default
    try:
        chosen = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device: must be like cpu, cuda or cuda:1, found '{name}'") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device: '{name}' asked for, but no CUDA device is available")
    return chosen


def predict_rows(
    network: MultiTaskNetwork, dataset: Dataset, rows: NDArray[np.int64], *, batch_size: int = 64
) -> NDArray[np.float32]:
    """Return predictions [rows, T] in units (probabilities for classes), in float32, made on the network's device."""
    device = next(network.parameters()).device
    data = prepare_rows(dataset, network.view, device)
    outputs = network_outputs(network, data, torch.as_tensor(rows, device=device), batch_size)
    with torch.no_grad():
        return network.decode(outputs).cpu().numpy().astype(np.float32)


def network_outputs(
    network: MultiTaskNetwork,
    data: DeviceRows,
    rows: Tensor,
    batch_size: int,
    forward: Callable[[PreparedRows, Tensor], Tensor] | None = None,
) -> Tensor:
    """Return standardised outputs [rows, T] in evaluation mode; the network's mode is left as it was.

    ``forward`` stands in for the network; its next call may overwrite what it gave.
    """
    forward = forward or network
    training = network.training
    network.eval()
    with torch.no_grad():
        outputs = [forward(*data.batch(part)).clone() for part in rows.split(batch_size)]
    network.train(training)
    return torch.cat(outputs)
