"""The description of a bundle: everything but the weights of its networks."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from taskgroup.datasets import Dataset, Target
from taskgroup.errors import BundleError
from taskgroup.grouping import Grouping


@dataclass(frozen=True)
class DensityFormat:
    """How the networks' densities are made.

    Their kind, grid points per axis (None where they follow a spacing), Gaussian width in Å, channels, and the spacing
    of grid points in Å (None where every cell has equally many).
    """

    kind: str
    grid: int | None
    sigma: float
    n_channels: int
    spacing: float | None = None

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """The format of a dataset's densities."""
        return cls(dataset.kind, dataset.grid, dataset.sigma, dataset.n_channels, dataset.spacing)


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
