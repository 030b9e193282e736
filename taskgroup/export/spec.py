"""What a bundle says about itself, besides its networks."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from taskgroup.datasets import Dataset, Target
from taskgroup.errors import BundleError
from taskgroup.grouping import Grouping

COVERAGES = (0.5, 0.68, 0.9, 0.95)  # of the prediction intervals that a bundle knows


@dataclass(frozen=True)
class DensityFormat:
    """How the networks' densities are made: kind, grid points an axis, Gaussian width in Å, channels."""

    kind: str
    grid: int
    sigma: float
    n_channels: int

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """The format of a dataset's densities."""
        return cls(dataset.kind, dataset.grid, dataset.sigma, dataset.n_channels)


@dataclass(frozen=True)
class BundleSpec:
    """Everything of a bundle but weights and biases.

    Attributes:
        name: of the study it came from.
        grouping: which network serves which target.
        targets: what is predicted, with units, kinds and transforms; the targets of the grouping.
        density: what the networks take.
        dataset: ``name``, ``version``, ``hash`` of what they were trained on.
        split: ``id`` and settings of the split.
        seen_ids: ids of the rows any network was trained or validated on; ``evaluate`` leaves them out.
        residuals: per regression target the out-of-sample error (``residual_scale``) in the space of its transform.
        intervals: per regression target and coverage half the width of its prediction interval (``conformal_widths``).
        metrics: ``validation``, ``reevaluation``, ``test``: per target, as ``evaluate`` gives them.
        provenance: versions, seeds, hyper-parameters, anything JSON holds.

    Raises BundleError where targets and grouping disagree.
    """

    name: str
    grouping: Grouping
    targets: tuple[Target, ...]
    density: DensityFormat
    dataset: dict[str, Any]
    split: dict[str, Any]
    seen_ids: tuple[str, ...]
    residuals: dict[str, float]
    intervals: dict[str, dict[str, float]] = field(default_factory=dict)
    metrics: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = sorted(target.name for target in self.targets)
        if names != list(self.grouping.targets):
            found = f"grouping {list(self.grouping.targets)}, targets {names}"
            raise BundleError(
                f"bundle '{self.name}': the grouping must serve its targets, but found {found}."
            )

    def target(self, name: str) -> Target:
        """The target of that name."""
        return next(target for target in self.targets if target.name == name)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; ``seen_ids`` are left out, they lie in a file of their own."""
        content = {name: value for name, value in vars(self).items() if name != "seen_ids"}
        return content | {
            "grouping": json.loads(self.grouping.to_json()),
            "grouping_id": self.grouping.grouping_id,
            "targets": [target.to_dict() for target in self.targets],
            "density": asdict(self.density),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], seen_ids: tuple[str, ...]) -> Self:
        """The spec that ``to_dict`` gave."""
        known = {name: content[name] for name in cls.__dataclass_fields__ if name in content}
        known |= {
            "grouping": Grouping.from_json(json.dumps(content["grouping"])),
            "targets": tuple(Target(**fields) for fields in content["targets"]),
            "density": DensityFormat(**content["density"]),
            "seen_ids": seen_ids,
        }
        return cls(**known)


def conformal_widths(
    target: Target, truth: ArrayLike, predicted: ArrayLike
) -> dict[str, float] | None:
    """Half the width of prediction intervals for each of ``COVERAGES``, in the space of the target's transform.

    Split conformal (Lei et al., doi:10.1080/01621459.2017.1307116): the ceil((n + 1) coverage)-th smallest of the n
    absolute errors on rows no network of them was trained on. An interval so wide covers at least its share of new rows
    drawn like these, whatever the networks are. Arguments and None as for ``residual_scale``; a coverage for which
    there are too few rows is left out.
    """
    errors = _errors(target, truth, predicted)
    if errors is None:
        return None
    ranks = {coverage: math.ceil((len(errors) + 1) * coverage) for coverage in COVERAGES}
    sizes = np.sort(np.abs(errors))
    return {
        f"{coverage:g}": float(sizes[rank - 1])
        for coverage, rank in ranks.items()
        if rank <= len(sizes)
    }


def residual_scale(target: Target, truth: ArrayLike, predicted: ArrayLike) -> float | None:
    """Root mean square error in the space of the target's transform, over rows no network of them was trained on.

    It is the part of a prediction's uncertainty that the members of an ensemble do not show by disagreeing.
    ``truth`` and ``predicted`` are [rows] in the target's unit, rows without a label are left out; None for a
    classification target, whose probability is its own uncertainty, and where no row has a label.
    """
    errors = _errors(target, truth, predicted)
    return None if errors is None else float(np.sqrt(np.mean(errors**2)))


def _errors(target: Target, truth: ArrayLike, predicted: ArrayLike) -> np.ndarray | None:
    """Errors of the rows with a label, in the space of the transform."""
    truth, predicted = np.asarray(truth, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    known = np.isfinite(truth)
    if target.kind == "classification" or not known.any():
        return None
    return target.forward_predictions(predicted[known]) - target.forward(truth[known])
