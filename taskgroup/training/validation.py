"""Validation after each epoch: the best epoch with its weights, and cross-fitted outputs of each row."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taskgroup.datasets import Target
from taskgroup.models import MultiTaskNetwork, PreparedRows
from taskgroup.training.checkpoint import prefixed, under
from taskgroup.training.cuda_graph import CudaGraphCallable
from taskgroup.training.device_rows import DeviceRows, network_outputs
from taskgroup.training.metrics import output_skills
from taskgroup.training.result import Skills

N_PARTS = 5

# Without gradients a batch takes little memory: small training batches need not make validation slow.
_LEAST_BATCH_SIZE = 64


class Validation:
    """Validates a network after each epoch and keeps its best weights.

    Parameters
    ----------
    network: the network to validate, with averaged weights where these are on.
    data: of all rows, on the device.
    rows: int64, the validation rows.
    best: compares the epochs.
    batch_size: of the training.
    pool: memory of CUDA graphs.
    """

    def __init__(
        self,
        network: MultiTaskNetwork,
        data: DeviceRows,
        rows: NDArray[np.int64],
        best: "BestEpochs",
        batch_size: int,
        pool: tuple[int, int] | None,
    ) -> None:
        device = network.mean.device
        self.network = network
        self.best = best
        self.best_weights: dict[str, Tensor] = {}
        self._data = data
        self.rows = rows
        self._rows = torch.as_tensor(rows, device=device)
        self._batch_size = max(_LEAST_BATCH_SIZE, batch_size)
        self._recorded_forward = CudaGraphCallable(self._forward, device, pool=pool)

    def outputs(self) -> Tensor:
        """Return standardised outputs [rows, T] on the device; a GPU is only told to compute them."""
        return network_outputs(
            self.network, self._data, self._rows, self._batch_size, self._replayed_forward
        )

    def _forward(self, *tensors: Tensor) -> Tensor:
        """Return outputs for the flat tensors of prepared rows, and their cells as the last one."""
        *row_tensors, lattice = tensors
        return self.network(self._data.rows.with_tensors(row_tensors), lattice)

    def _replayed_forward(self, rows: PreparedRows, lattice: Tensor) -> Tensor:
        return self._recorded_forward(*rows.tensors, lattice)

    def update(self, epoch: int, outputs: Tensor) -> Skills:
        """Compare an epoch by its outputs, keep its weights if it is the best; return the skill of each target."""
        skills = self.best.update(epoch, outputs.cpu().numpy())
        if self.best.best == epoch:
            self._keep_weights()
        return skills

    def _keep_weights(self) -> None:
        state = self.network.state_dict()
        if not self.best_weights:
            self.best_weights = {name: tensor.clone() for name, tensor in state.items()}
            return
        # Kernels for lists of tensors take one type at a time; torch has no public name for them.
        floats = [name for name, tensor in state.items() if tensor.is_floating_point()]
        integers = [name for name, tensor in state.items() if not tensor.is_floating_point()]
        for names in (floats, integers):
            kept = [self.best_weights[name] for name in names]
            torch._foreach_copy_(kept, [state[name] for name in names])

    @torch.no_grad()
    def final_outputs(self, network: MultiTaskNetwork) -> Tensor:
        """Return cross-fitted outputs [rows, T]; ``network`` holds the best weights.

        Rows whose cross-fitted epoch is the best one are computed again with the network as it will be exported.
        """
        device = self._rows.device
        best_outputs = network_outputs(network, self._data, self._rows, self._batch_size)
        cross_fitted_outputs = torch.as_tensor(self.best.outputs, device=device)
        is_other_epoch = self.best.cross_fitted != self.best.best
        is_other_row = torch.as_tensor(is_other_epoch, device=device)[:, None]
        return torch.where(is_other_row, cross_fitted_outputs, best_outputs)

    def forget_recordings(self) -> None:
        """Free the memory of CUDA graphs."""
        self._recorded_forward.forget()

    def tensors(self) -> dict[str, Tensor]:
        """Return the best weights and the state of the comparison, for a checkpoint."""
        return prefixed("best", self.best_weights) | prefixed("choice", self.best.tensors())

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Undo ``tensors``."""
        device = self._rows.device
        best_weights = under("best", tensors)
        self.best_weights = {name: tensor.to(device) for name, tensor in best_weights.items()}
        self.best.restore(under("choice", tensors))


class BestEpochs:
    """The best epoch by all validation rows, and for each fifth of them the best epoch by the other four.

    The best of many epochs looks too good on the rows that chose it: by little for a group of many targets, whose mean
    chose, by much for one target with few labels. Compared by such numbers, properties would seem better learned alone
    than they are. So a row's outputs are kept from the epoch that the other fifths chose (cross-fitting), and those are
    what a group is judged by.

    Parameters
    ----------
    specs: the targets, in the order of the columns.
    labels: standardised labels of the validation rows [rows, T], NaN where missing.
    systems: chemical system of each row; one system stays in one fifth.

    Attributes
    ----------
    epochs, values: [1 + N_PARTS], best epoch (from 1) and its mean skill, by all rows and by all but each fifth.
    outputs: [rows, T] float32, of each row's cross-fitted epoch.
    """

    def __init__(self, specs: Sequence[Target], labels: NDArray, systems: Sequence[str]) -> None:
        self._specs = specs
        self.labels = labels
        _, system_numbers = np.unique(list(systems), return_inverse=True)
        self._part = system_numbers % N_PARTS
        self._judges = self._judge_weights()
        self.epochs = np.zeros(1 + N_PARTS, dtype=np.int64)
        self.values = np.full(1 + N_PARTS, -np.inf)
        self.outputs = np.zeros(labels.shape, dtype=np.float32)

    def _judge_weights(self) -> NDArray[np.float64]:
        """Return the weight of each row for each judge, [1 + N_PARTS, rows]: all rows, then all but each fifth."""
        all_rows = np.ones((1, len(self._part)))
        parts = np.arange(N_PARTS)[:, None]
        all_but_one_part = self._part != parts
        return np.concatenate([all_rows, all_but_one_part])

    @property
    def best(self) -> int:
        """The best epoch by all rows."""
        return int(self.epochs[0])

    @property
    def cross_fitted(self) -> NDArray[np.int64]:
        """Per row the best epoch by the other fifths."""
        return self.epochs[1:][self._part]

    def update(self, epoch: int, outputs: NDArray) -> Skills:
        """Compare an epoch by its outputs [rows, T]; return the skill of each target on all rows (None: undefined)."""
        skills = output_skills(self._specs, self.labels, outputs, self._judges)
        values = _mean_over_targets(skills)
        # A value of NaN (no skill is defined) counts as better too: the last epoch is kept then.
        is_better = ~(values <= self.values)
        comparable = np.where(np.isfinite(values), values, -np.inf)
        self.values = np.where(is_better, comparable, self.values)
        self.epochs[is_better] = epoch
        rows_to_replace = is_better[1:][self._part]
        self.outputs[rows_to_replace] = outputs[rows_to_replace]
        return self._by_name(skills[0])

    def tensors(self) -> dict[str, Tensor]:
        """Return the state, for a checkpoint."""
        state = {"epochs": self.epochs, "values": self.values, "outputs": self.outputs}
        return {name: torch.as_tensor(array) for name, array in state.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Undo ``tensors``."""
        self.epochs = tensors["epochs"].numpy()
        self.values = tensors["values"].numpy()
        self.outputs = tensors["outputs"].numpy()

    def _by_name(self, skills: NDArray) -> Skills:
        by_name: Skills = {}
        for spec, skill in zip(self._specs, skills, strict=True):
            by_name[spec.name] = float(skill) if np.isfinite(skill) else None
        return by_name


def _mean_over_targets(skills: NDArray) -> NDArray:
    """Return mean skills [judges] of skills [judges, T], as ``metrics.mean_skill`` does; NaN where none is defined."""
    is_defined = np.isfinite(skills)
    clipped = np.where(is_defined, np.maximum(skills, -1.0), 0.0)
    with np.errstate(invalid="ignore"):
        return clipped.sum(1) / is_defined.sum(1)
