"""The picture of docs/affinity.md: four affinities of the built-in crystals, and how much they agree.

    python benchmarks/affinity_picture.py [--out docs/affinity.svg] [--epochs 30]

Trains every target alone and all together once. Prints the Spearman correlation between affinities over ordered pairs.
"""

import argparse

import numpy as np
from scipy.stats import spearmanr

from taskgroup.affinity import Affinity, affinity_matrix, transfer_matrix
from taskgroup.datasets import Dataset, load_dataset
from taskgroup.models import ModelConfig
from taskgroup.training import GroupJob, TrainConfig, fit
from taskgroup.training.affinity_hooks import joint_affinities, network_features

FOLD = {"by": "chemical_system", "folds": 5, "seed": 0, "test_fold": 0, "validation_fold": 1}


def measure(data: Dataset, epochs: int, backbone: str) -> dict[str, Affinity]:
    """Label, feature and gradient affinities of all targets."""
    split, names = data.splits().split(), data.targets.names

    def job(targets: tuple[str, ...]) -> GroupJob:
        training = TrainConfig(epochs=epochs)
        return GroupJob(
            targets, ModelConfig(backbone=backbone), training, 0, "crystals", data.hash, FOLD
        )

    joint = joint_affinities(data, split, job(names), ("gradient", "look_ahead"), every=2)
    networks = {name: fit(data, split, job((name,))).network for name in names}
    rows = np.concatenate([split.train, split.validation])
    features = {name: network_features(network, data, rows) for name, network in networks.items()}
    systems = [data.chemical_systems[row] for row in rows]
    labels = affinity_matrix(data.targets.rows(split.train), "spearman")
    return {
        "labels: |spearman|": Affinity(labels.names, np.abs(labels.values)),
        "features: ridge probe": transfer_matrix(
            features, data.targets.rows(rows), "ridge", groups=systems
        ).affinity(),
        "gradients: cosine": joint["gradient"],
        "gradients: look-ahead, relative": joint["look_ahead"],
    }


def draw(affinities: dict[str, Affinity], path: str) -> None:
    """Heat maps side by side."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "taskgroup"  # the same picture gives the same file
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(affinities), figsize=(3.1 * len(affinities), 3.9), layout="constrained"
    )
    for column, (title, affinity) in enumerate(affinities.items()):
        names = sorted(affinity.names)
        image = axes[column].imshow(affinity.select(names).values, cmap="RdBu", vmin=-1, vmax=1)
        axes[column].set_title(title, fontsize=10)
        axes[column].set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        axes[column].set_yticks(range(len(names)), names if column == 0 else [], fontsize=8)
    axes[0].set_ylabel("helper")
    figure.colorbar(image, ax=axes, shrink=0.6, label="row helps column")
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")


def main() -> None:
    """Print one table, write one picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="docs/affinity.svg")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--backbone", default="msa3dcnn")
    options = parser.parse_args()
    affinities = measure(load_dataset("crystals"), options.epochs, options.backbone)
    draw(affinities, options.out)
    names = sorted(next(iter(affinities.values())).names)
    off = ~np.eye(len(names), dtype=bool)
    print(
        f"{'agreement (Spearman)':>32} "
        + " ".join(f"{title.split(': ')[1][:12]:>12}" for title in affinities)
    )
    for title, ours in affinities.items():
        row = [
            spearmanr(ours.select(names).values[off], b.select(names).values[off])[0]
            for b in affinities.values()
        ]
        print(f"{title:>32} " + " ".join(f"{value:12.2f}" for value in row))


if __name__ == "__main__":
    main()
