"""A bundle in memory: the grouping and its networks; ``bundle_folder`` writes and reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from taskgroup.errors import BundleError
from taskgroup.export.spec import BundleSpec
from taskgroup.grouping import Group
from taskgroup.models import AtomBatch, MultiTaskNetwork

if TYPE_CHECKING:
    import pandas as pd

Members = Mapping[Group, Sequence[MultiTaskNetwork]]


@dataclass(frozen=True, eq=False)
class ReferenceInputs:
    """Densities, float16 [C, n1, n2, n3] in e/Å^3, cells [R, 3, 3] in Å, and atoms, whose predictions are stored."""

    densities: Sequence[NDArray[np.float16]]
    lattices: NDArray[np.float64]
    atoms: AtomBatch | None = None


@dataclass(frozen=True, eq=False)
class Bundle:
    """A grouping that predicts: ``members`` are the networks of each group, an ensemble over seeds.

    Made by ``load_bundle``, or from networks in memory. ``reference`` are inputs whose predictions are stored with it.
    Raises BundleError: a group has no network, or a network was not trained on the targets of its group.
    """

    spec: BundleSpec
    members: Members
    reference: ReferenceInputs | None = None

    def __post_init__(self) -> None:
        for group in self.spec.grouping.groups:
            networks = self.members.get(group, ())
            if not networks:
                raise BundleError(
                    f"bundle '{self.spec.name}': every group needs a network, but {group} has none."
                )
            for network in networks:
                names = sorted(target.name for target in network.targets)
                if names != list(group.targets):
                    raise BundleError(
                        f"bundle '{self.spec.name}': the network of {group} has the targets {names}."
                    )

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the predicted targets, sorted."""
        return self.spec.grouping.targets

    @property
    def units(self) -> dict[str, str]:
        """Unit of each target; a classification target is a probability, with none."""
        return {name: self.spec.target(name).unit for name in self.targets}

    @property
    def uses_atoms(self) -> bool:
        """Whether any network is given the atoms of a crystal, beside its density (``model.atoms: structure``)."""
        networks = [network for members in self.members.values() for network in members]
        return any(network.view.uses_atoms for network in networks)

    def predict(self, inputs: Any, **options: Any) -> "pd.DataFrame":
        """Return predictions with units and uncertainties; see ``taskgroup.export.predict``."""
        # Imported here, since prediction is written in terms of Bundle.
        from taskgroup.export._predict import predict

        return predict(self, inputs, **options)
