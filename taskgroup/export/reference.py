"""Reference predictions: the proof that a bundle still predicts what it predicted when it was written.

Checksums find altered files. They do not find an altered program: a new version of taskgroup or of a plug-in may
prepare densities in another way, or compute another function from the same weights. So a bundle stores a few
densities with the predictions of its networks, and the versions of all code that decides a number. On loading, the
densities are predicted again and compared.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from taskgroup.datasets import Dataset
from taskgroup.export._predict import predict_crystals
from taskgroup.export.bundle import Bundle, ReferenceInputs
from taskgroup.models import AtomBatch, CrystalBatch

REFERENCE_FILE = "reference.safetensors"

# Densities of a bundle are three, and fewer where three take more than this many bytes (one is always stored): a bundle
# of small networks should not grow several times by them.
_MOST_BYTES = 192 * 1024

# Largest accepted change of a prediction, in standard deviations of the target on the training rows (of a probability
# for a class), while all versions are what they were. References are always computed on the CPU in float32, so neither
# TF32 nor the order of sums on a GPU matters; threads and vector units of another CPU change predictions by 1e-7 to
# 1e-6. Moving two quantile levels of the density's distribution, the smallest change of meaning we know, moves a band
# gap by 5e-3. Rare settings (MKL_CBWR=COMPATIBLE) were seen to change networks on densities with a vacuum by 7e-3:
# they are refused too, since nobody could tell the two apart.
TOLERANCE = 2e-3

# The same where a version has changed: a change beyond rounding is then explained by it.
TOLERANCE_OF_OTHER_VERSIONS = 1e-3


@dataclass(frozen=True)
class VersionChange:
    """One version that decides numbers, as written in the bundle and as installed now."""

    name: str
    written: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.name}: {self.written} then, {self.now} now"


@dataclass(frozen=True)
class BundleCheck:
    """Comparison of a bundle with what its code gives today.

    Attributes:
        written_by: version of taskgroup that wrote the bundle.
        changes: versions that differ.
        deviations: per target the largest change of a reference prediction, in standard deviations of the target.
        n_inputs: how many reference inputs were predicted; 0 for a bundle that has none.
    """

    written_by: str
    changes: tuple[VersionChange, ...]
    deviations: dict[str, float]
    n_inputs: int

    @property
    def worst_target(self) -> str | None:
        """The target whose predictions changed most; None without reference inputs."""
        if not self.deviations:
            return None
        return max(self.deviations, key=self.deviations.__getitem__)

    @property
    def holds(self) -> bool:
        """Return whether the bundle predicts what it did, as far as can be told.

        Predictions decide where there are any. A version that changed without changing them is no reason to refuse.
        """
        if not self.deviations:
            return not self.changes
        tolerance = TOLERANCE_OF_OTHER_VERSIONS if self.changes else TOLERANCE
        return max(self.deviations.values()) <= tolerance

    def problem(self) -> str:
        """Return in one line what changed and what to do."""
        if self.worst_target is None:
            found = "its code has changed and it has no reference predictions"
        else:
            change = self.deviations[self.worst_target]
            found = f"{self.worst_target} differs by {change:.2g} standard deviations"
        changes = "; ".join(map(str, self.changes)) or "no recorded version differs"
        return (
            f"must predict what it did when taskgroup {self.written_by} wrote it, but {found} ({changes}). Install the "
            "versions it was written with, or accept the new numbers with check=False (--no-check) and export again"
        )


def choose_inputs(dataset: Dataset, n_channels: int) -> ReferenceInputs:
    """Return the reference inputs of a bundle trained on a dataset: its rows of smallest, median and largest cell.

    Ties are broken by id, so equal datasets give equal rows. Large densities: fewer rows, the median first.
    """
    volumes = np.abs(np.linalg.det(dataset.lattices))
    ranked = sorted(range(len(dataset)), key=lambda row: (volumes[row], dataset.ids[row]))
    wanted = [ranked[len(ranked) // 2], ranked[0], ranked[-1]]
    densities: list[NDArray[np.float16]] = []
    rows = []
    for row in dict.fromkeys(wanted):
        density = dataset.read(np.array([row]))[0][:n_channels]
        n_bytes = sum(other.nbytes for other in (*densities, density))
        if not rows or n_bytes <= _MOST_BYTES:
            rows.append(row)
            densities.append(density)
    species = [dataset.species[row] for row in rows]
    atoms = AtomBatch.of(species, [dataset.frac_coords[row] for row in rows])
    return ReferenceInputs(densities, dataset.lattices[rows], atoms)


def write_reference(folder: Path, bundle: Bundle) -> None:
    """Write the reference inputs of a bundle and what its networks predict for them, where it has any."""
    inputs = bundle.reference
    if inputs is None:
        return
    densities = {f"density{number}": density for number, density in enumerate(inputs.densities)}
    tensors = densities | {
        "lattices": inputs.lattices,
        "values": _predicted(bundle, inputs),
    }
    if inputs.atoms is not None:
        tensors["numbers"] = inputs.atoms.numbers.numpy()
        tensors["positions"] = inputs.atoms.positions.numpy()
    # Not save_file: it makes files that only their owner may read.
    (folder / REFERENCE_FILE).write_bytes(save(tensors))


def read_reference_inputs(folder: Path) -> ReferenceInputs | None:
    """Return the reference inputs of a bundle folder, None where it has none."""
    path = folder / REFERENCE_FILE
    if not path.exists():
        return None
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    atoms = None
    # Bundles of earlier versions store no atoms.
    if "numbers" in tensors:
        numbers, positions = tensors["numbers"], tensors["positions"]
        atoms = AtomBatch(torch.from_numpy(numbers), torch.from_numpy(positions))
    return ReferenceInputs(_densities(tensors), tensors["lattices"], atoms)


def _densities(tensors: dict[str, NDArray]) -> list[NDArray[np.float16]]:
    """Return the densities of a file of reference inputs."""
    if "densities" in tensors:
        # Until version 0.2 all grids had one shape, and stood in one array.
        return list(tensors["densities"])
    densities = []
    while f"density{len(densities)}" in tensors:
        densities.append(tensors[f"density{len(densities)}"])
    return densities


def compare_reference(folder: Path, bundle: Bundle) -> dict[str, float]:
    """Predict the reference inputs again and return the largest change per target, in standard deviations.

    Empty for a bundle without reference inputs.
    """
    if bundle.reference is None:
        return {}
    with safe_open(folder / REFERENCE_FILE, framework="numpy") as file:
        values_then = file.get_tensor("values")
    values_now = _predicted(bundle, bundle.reference)
    deviations = {}
    for column, name in enumerate(bundle.targets):
        deviations[name] = _largest_change(
            bundle, name, values_then[:, column], values_now[:, column]
        )
    return deviations


def version_changes(
    written: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]
) -> tuple[VersionChange, ...]:
    """Return the versions that differ between two maps from network files to their meaning, each once."""
    changes: dict[VersionChange, None] = {}
    for file, meaning in written.items():
        then_by_name = dict(_flat(meaning))
        now_by_name = dict(_flat(now.get(file, {})))
        for name in sorted(then_by_name.keys() | now_by_name.keys()):
            then, today = then_by_name.get(name), now_by_name.get(name)
            if then != today:
                changes[VersionChange(name, then, today)] = None
    return tuple(changes)


def _predicted(bundle: Bundle, inputs: ReferenceInputs) -> NDArray[np.float64]:
    """Return predictions [inputs, targets] in units, on the CPU whatever the machine has; see ``TOLERANCE``."""
    sigma = bundle.spec.density.sigma
    values = []
    for row, density in enumerate(inputs.densities):
        atoms = None if inputs.atoms is None else inputs.atoms[row : row + 1]
        lattice = inputs.lattices[row][None]
        crystal = CrystalBatch.of(density[None], lattice, atoms, sigma)
        values.append(predict_crystals(bundle, crystal, device="cpu")[0])
    return np.concatenate(values)


def _largest_change(bundle: Bundle, name: str, then: NDArray, now: NDArray) -> float:
    """Return the largest change of a target's predictions, in standard deviations of its training labels."""
    target = bundle.spec.target(name)
    group = bundle.spec.grouping.serving(name)
    network = bundle.members[group][0]
    names = [spec.name for spec in network.targets]
    scale = float(network.scaler.std[names.index(name)])
    change = np.abs(target.forward_predictions(now) - target.forward_predictions(then)) / scale
    # A prediction that is not a number now but was one then is the largest change of all.
    same_undefined = np.isnan(then) & np.isnan(now)
    change = np.where(same_undefined, 0.0, np.nan_to_num(change, nan=np.inf))
    return float(change.max())


def _flat(meaning: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested entries as pairs of a dotted name and a value."""
    for name, value in meaning.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
