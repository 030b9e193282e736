"""Results of any subset of targets from one network: linearise it, project gradients, fit a regression per subset."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from taskgroup.affinity._task_gradients import task_gradients
from taskgroup.affinity.affinity import Affinity
from taskgroup.errors import GroupingError, did_you_mean

NEWTON_STEPS = 30
# Newton's method ends once a step is this small, relative to the weights.
_CONVERGED = 1e-8
# Logits beyond this and curvatures below this are not told apart from certainty.
_LARGEST_LOGIT = 30
_LEAST_CURVATURE = 1e-6


@dataclass(frozen=True, eq=False)
class ProjectedGradients:
    r"""A trained joint network, linearised in its shared parameters along random directions.

    For a row x and a target t the network near its weights is :math:`f_t(x) + g_t(x)^\top w`, with w one vector for all
    targets. Training on a subset S is then a ridge regression (logistic for classes) of S's labels on
    :math:`g`, and takes milliseconds. Li et al., 2024, arXiv:2409.06091.

    - names, kinds: the T targets.
    - outputs: ``[rows, T]``, standardised predictions (logits for classes) of the network.
    - gradients: ``[rows, T, dim]``, projected.
    - labels: ``[rows, T]``, standardised (0/1 for classes), NaN where missing.
    - train: ``[rows]`` mask of the rows a subset is fitted on; the others score it.
    - ridge: penalty relative to the mean curvature; larger keeps subsets closer to the network.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    outputs: np.ndarray
    gradients: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    ridge: float = 0.1

    def predict(self, subset: Iterable[str]) -> np.ndarray:
        """Return standardised outputs ``[rows, T]`` after training the shared parameters on a subset."""
        columns = [self._index(name) for name in subset]
        if not columns:
            raise GroupingError("a subset must hold at least one target, but got none")
        w = self._fit(columns)
        return self.outputs + self.gradients @ w

    def estimate(self, subset: Iterable[str]) -> dict[str, float]:
        """Return the estimated skill of each target of the subset on the scoring rows (NaN where it cannot be told)."""
        chosen = list(subset)
        outputs = self.predict(chosen)
        columns = [self._index(name) for name in chosen]
        return {self.names[t]: self._skill(outputs[:, t], t) for t in columns}

    def affinity(self) -> Affinity:
        """Return the estimated gain of j from i: skill of j in {i, j} minus skill of j alone, ``values[i, j]``."""
        alone = {name: self.estimate([name])[name] for name in self.names}
        values = np.zeros((len(self.names), len(self.names)))
        for i, helper in enumerate(self.names):
            for j in range(i):
                pair = self.estimate([helper, self.names[j]])
                values[i, j] = pair[self.names[j]] - alone[self.names[j]]
                values[j, i] = pair[helper] - alone[helper]
        return Affinity(self.names, values, measure="projected")

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise GroupingError(f"unknown target '{name}': {did_you_mean(name, self.names)}")
        return self.names.index(name)

    def _fit(self, columns: Sequence[int]) -> np.ndarray:
        """Newton's method on the penalised mean losses; with regression targets only, the first step is the answer."""
        w = np.zeros(self.gradients.shape[-1])
        identity = np.eye(len(w))
        penalty = None
        for _ in range(NEWTON_STEPS):
            slope = np.zeros_like(w)
            curvature = np.zeros_like(identity)
            for t in columns:
                rows = self.train & ~np.isnan(self.labels[:, t])
                if not rows.any():
                    continue
                gradients = self.gradients[rows, t]
                outputs = self.outputs[rows, t] + gradients @ w
                error, weight = _residual(outputs, self.labels[rows, t], self.kinds[t])
                slope += gradients.T @ error / len(outputs)
                curvature += (gradients * weight[:, None]).T @ gradients / len(outputs)
            if penalty is None:
                penalty = self.ridge * np.trace(curvature) / len(w)
            penalised = curvature + penalty * identity
            step = np.linalg.lstsq(penalised, slope + penalty * w, rcond=None)[0]
            w = w - step
            if np.linalg.norm(step) <= _CONVERGED * (1 + np.linalg.norm(w)):
                break
        return w

    def _skill(self, outputs: np.ndarray, t: int) -> float:
        rows = ~self.train & ~np.isnan(self.labels[:, t])
        truth, given = self.labels[rows, t], outputs[rows]
        if len(truth) < 2 or np.ptp(truth) == 0:
            return float("nan")
        if self.kinds[t] == "regression":
            unexplained = ((truth - given) ** 2).sum()
            return float(1 - unexplained / ((truth - truth.mean()) ** 2).sum())
        from sklearn.metrics import roc_auc_score

        return float(2 * roc_auc_score(truth, given) - 1)


def _residual(z: np.ndarray, label: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return first and second derivatives of the loss by the output: squared error / 2, or cross-entropy of a logit."""
    if kind == "regression":
        return z - label, np.ones_like(z)
    logits = np.clip(z, -_LARGEST_LOGIT, _LARGEST_LOGIT)
    probability = 1 / (1 + np.exp(-logits))
    curvature = np.maximum(probability * (1 - probability), _LEAST_CURVATURE)
    return probability - label, curvature


def project_gradients(
    outputs_of: Callable[[int], Tensor],
    rows: int,
    shared: Sequence[Tensor],
    dim: int = 256,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return outputs ``[rows, T]`` and randomly projected gradients ``[rows, T, dim]`` of every row and target.

    The projection is a count sketch (each parameter is added, with a random sign, to one of ``dim`` numbers): inner
    products are kept without bias and with a relative error of about 1/sqrt(dim), at no more cost than reading the
    gradient once. Weinberger et al., 2009, arXiv:0902.2206.

    Args:
        outputs_of: row number -> outputs ``[T]`` with their graph (network in evaluation mode, so that a row does not
            depend on others).
        rows: number of rows.
        shared: the parameters to differentiate by.
        dim: length of a projected gradient; at least the number of shared parameters gives the gradients themselves.
        seed: of the projection.
    """
    sizes = [p.numel() for p in shared]
    n_parameters = sum(sizes)
    bucket, sign = _sketch(n_parameters, dim, seed)
    bucket = bucket.to(shared[0].device)
    sign = sign.to(shared[0].device)
    outputs = []
    gradients = []
    for row in range(rows):
        output = outputs_of(row)
        full = task_gradients(output, shared)
        sketch = full.new_zeros(len(output), min(dim, n_parameters))
        sketch.index_add_(1, bucket, full * sign)
        outputs.append(output.detach())
        gradients.append(sketch)
    return _on_host(outputs), _on_host(gradients)


def _on_host(tensors: list[Tensor]) -> np.ndarray:
    return torch.stack(tensors).double().cpu().numpy()


def _sketch(size: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    if dim >= size:
        return torch.arange(size), torch.ones(size)
    generator = torch.Generator().manual_seed(seed)
    bucket = torch.randint(dim, (size,), generator=generator)
    return bucket, torch.randint(2, (size,), generator=generator).float() * 2 - 1
