"""How well networks read densities of other codes and pseudopotentials: the table of ``invariance.py --flavours``.

One network for nine targets of ``crystals`` is trained for each mode. All chemical systems of the dataset ``flavours``
are left out. It predicts the left-out crystals from our own density, from each flavour of it, and from our own after a
further low-pass. Printed is the mean skill over the targets; for a flavour also its distance from that of our own
density of the same crystals.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from taskgroup.datasets import Dataset, Split, load_dataset
from taskgroup.models import ModelConfig, MultiTaskNetwork
from taskgroup.models.fields import low_passes
from taskgroup.models.lattice import reciprocal
from taskgroup.training import GroupJob, TrainConfig, fit, predict_rows
from taskgroup.training.metrics import LEAST_SKILL, target_metrics

TARGETS = (
    "bulk_modulus", "volume", "density", "energy_per_atom", "formation_energy", "fermi_energy", "band_gap", "bandwidth",
    "is_metal",
)  # fmt: skip
MODES: dict[str, dict[str, Any]] = {
    "density, .20 Å": {},
    "density, .40 Å": {"lowpass": 0.4},
    "density, .40 Å, descriptors": {"backbone": "descriptors", "lowpass": 0.4},
    "structure, .40 Å": {"atoms": "structure", "lowpass": 0.4},
    "structure alone": {"atoms": "structure_alone", "lowpass": 0.4},
}
NETWORK = {"backbone": "peaks", "width": 16, "features": 128, "head_width": 64}
TRAINING = {"epochs": 60, "batch_size": 64, "weight_decay": 0.05, "lr": 0.003}
# Epochs on the composition first, for networks that must find the elements.
PRETRAIN = 60
LOW_PASSES = (0.1, 0.2)  # Å, in addition to that of the stored rows


def flavour_table(seeds: Sequence[int]) -> dict[str, dict[str, str]]:
    """Return by mode and column the mean skills, as text, averaged over networks of these seeds."""
    crystals, flavours = load_dataset("crystals"), load_dataset("flavours")
    row_of_crystal = {name: row for row, name in enumerate(crystals.ids)}
    parents = np.array([row_of_crystal[name.split("--")[0]] for name in flavours.ids])
    names = np.array([name.split("--")[1] for name in flavours.ids])
    split = left_out(crystals, np.unique(parents))
    smoother = {sigma: smoothed(crystals.subset(split.test), sigma) for sigma in LOW_PASSES}
    table = {}
    for mode, settings in MODES.items():
        networks = [train(crystals, split, settings, seed) for seed in seeds]
        columns = {"our own": f"{mean_skill(networks, crystals, split.test):.3f}"}
        for name in sorted(set(names)):
            rows = np.flatnonzero(names == name)
            found = mean_skill(networks, flavours, rows)
            change = found - mean_skill(networks, crystals, parents[rows])
            columns[f"{name} ({len(rows)})"] = f"{found:.3f} ({change:+.3f})"
        for sigma, dataset in smoother.items():
            found = mean_skill(networks, dataset, np.arange(len(dataset)))
            columns[f"low-passed by {sigma} Å more"] = f"{found:.3f}"
        table[mode] = columns
    return table


def left_out(crystals: Dataset, tested: NDArray[np.int64]) -> Split:
    """Return a split that tests these rows and has their chemical systems nowhere else."""
    systems = {crystals.chemical_systems[row] for row in tested}
    usual = crystals.splits().split(test_fold=0, validation_fold=1)

    def others(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        kept = [row for row in rows if crystals.chemical_systems[row] not in systems]
        return np.array(sorted(kept))

    training = others(np.concatenate([usual.train, usual.test]))
    return Split(training, others(usual.validation), np.array(sorted(tested)))


def train(crystals: Dataset, split: Split, settings: dict[str, Any], seed: int) -> MultiTaskNetwork:
    """Return one network for all targets."""
    model = ModelConfig(**NETWORK | settings)
    pretrain = PRETRAIN if model.atoms == "density" else 0
    training = TrainConfig(**TRAINING, pretrain=pretrain)
    named = {"by": "flavours"}
    job = GroupJob(TARGETS, model, training, seed, crystals.name, crystals.hash, named)
    return fit(crystals, split, job).network


def smoothed(dataset: Dataset, sigma: float) -> Dataset:
    """Return a dataset low-passed by ``sigma`` Å more, which does not say so, as densities of softer cores do not."""
    densities = []
    for row in range(len(dataset)):
        density = torch.from_numpy(dataset.densities([row])).double()
        inverse = reciprocal(torch.from_numpy(dataset.lattices[[row]]))
        densities.append(low_passes(density, inverse, [sigma])[0][0].numpy())
    return Dataset.from_arrays(
        f"{dataset.name} low-passed by {sigma} Å",
        dataset.ids,
        dataset.targets,
        densities,
        dataset.lattices,
        dataset.formulas,
        dataset.chemical_systems,
        species=dataset.species,
        frac_coords=dataset.frac_coords,
        spacing=dataset.spacing,
        sigma=dataset.sigma,
    )


def mean_skill(
    networks: Sequence[MultiTaskNetwork], dataset: Dataset, rows: NDArray[np.int64]
) -> float:
    """Return the mean skill over targets and networks on some rows."""
    skills = []
    for network in networks:
        predicted = predict_rows(network, dataset, rows)
        for column, target in enumerate(network.targets):
            true = dataset.targets.column(target.name)[rows]
            skill = target_metrics(target, true, predicted[:, column])["skill"]
            skills.append(max(LEAST_SKILL, skill))
    return float(np.mean(skills))
