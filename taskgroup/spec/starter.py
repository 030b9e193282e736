"""A study file to start from, made for a dataset: its targets, a search space that fits, every line commented."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from taskgroup.datasets import Dataset, Target
from taskgroup.datasets.quality import label_notes

# Rows with fewer labels than these are read best by different networks for different properties.
_FEW_ROWS = 400
# Trials and seconds: enough to see most groupings of a handful of targets, with networks of ten seconds.
_TRIALS_PER_TARGET = 4
_FEWEST_TRIALS, _MOST_TRIALS = 16, 64
_CPU_LIMIT, _GPU_LIMIT = "2h", "1h"
# Where the comment of a line begins, unless the line is longer.
_COMMENT_COLUMN = 44


def starter_study(dataset: Dataset, source: str, name: str, device: str) -> str:
    """Return the text of a study file for a dataset.

    Parameters
    ----------
    source: what the study calls the dataset: its name, folder or URL.
    name: of the study.
    device: ``cpu`` or ``cuda``; it decides the budget.
    """
    specs = dataset.targets.specs
    lines = [
        f"# A study of {len(specs)} targets on the {len(dataset)} rows of {dataset.name}.",
        "# Every key: taskgroup schema. Start it with: taskgroup run FILE",
        *_commented(f"name: {name}", "of the study and of its run folder, runs/NAME"),
        *_commented("description: ''", "one sentence for the report"),
        *_commented(f"dataset: {source}", _density_words(dataset)),
        "# Targets to group; delete a line to leave one out. What is learnt (the transform) was declared on ingest.",
        "targets:",
    ]
    for spec in specs:
        lines += _target_lines(spec, dataset.targets.column(spec.name))
    return (
        "\n".join([*lines, "", *_space_lines(dataset, device), "", *_budget_lines(specs, device)])
        + "\n"
    )


def _density_words(dataset: Dataset) -> str:
    channels = "total density" if dataset.n_channels == 1 else "total density and magnetisation"
    points = f"{dataset.grid} points an axis"
    if dataset.spacing is not None:
        points = f"a point every {dataset.spacing} Å"
    return f"{dataset.kind} densities, {channels}, {points}"


def _target_lines(spec: Target, column: NDArray[np.float64]) -> list[str]:
    """Return a line for a target with its labels in a comment, and what is odd about them above it."""
    labels = column[~np.isnan(column)]
    notes = [f"  # {note.partition(': ')[2]}" for note in label_notes(spec, column)]
    return [*notes, *_commented(f"  - {spec.name}", _label_words(spec, labels, len(column)))]


def _label_words(spec: Target, labels: NDArray[np.float64], n_rows: int) -> str:
    count = f"{labels.size} of {n_rows} rows"
    if labels.size == 0:
        return f"{count}: no label, delete this line"
    if spec.kind == "classification":
        return f"{count}, yes or no, {labels.mean():.0%} yes"
    unit = f" {spec.unit}" if spec.unit else ""
    learnt = "" if spec.transform == "none" else f", learnt as {spec.transform}"
    return f"{count}, {labels.min():.3g} to {labels.max():.3g}{unit}{learnt}"


def _space_lines(dataset: Dataset, device: str) -> list[str]:
    """Return the search space, written out so that it can be changed here."""
    backbone, reason = _backbone(dataset, device)
    k_values = list(range(2, min(len(dataset.targets.specs), 6))) or [1]
    lines = [
        "# What a trial may choose: {choices: [...]} or {low: , high: } is searched, a value is fixed.",
        "space:",
    ]
    rows = [
        ("  grouping:", "how related targets are found and clustered"),
        (
            "    affinity: {choices: [spearman, distance_correlation, gradient]}",
            "how related two targets are",
        ),
        ("    sparsifier: {choices: [knn, mst, threshold]}", "which relations count"),
        (
            "    neighbours: {choices: [2, 3], default: 3, when: {sparsifier: knn}}",
            "relations kept per target",
        ),
        (
            "    threshold: {choices: [0.4, 0.6], when: {sparsifier: threshold}}",
            "weakest relation that counts",
        ),
        ("    method: {choices: [louvain, spectral, hierarchical]}", "how the graph is clustered"),
        (
            "    resolution: {choices: [1.0, 1.5], when: {method: louvain}}",
            "higher: more, smaller groups",
        ),
        (
            f"    k: {{choices: {k_values}, when: {{method: [spectral, hierarchical]}}}}",
            "number of groups",
        ),
        ("  model:", "what a network sees and how it is built"),
        (f"    backbone: {backbone}", reason),
        ("    width: 16", "size of its layers"),
        ("    features: 128", "features that all targets of a network share"),
        ("    head_width: 64", "hidden units of each target's own part"),
        ("  training:", "how a network is trained"),
        ("    pretrain: 60", "epochs in which it first learns the composition"),
        ("    epochs: 60", "epochs on the targets"),
        ("    batch_size: {choices: [64, 16]}", "rows per step; small batches suit few rows"),
        ("    lr: {choices: [0.003, 0.001]}", "learning rate"),
        ("    weight_decay: 0.05", "pull of the weights towards zero"),
    ]
    for text, comment in rows:
        lines += _commented(text, comment)
    return lines


def _backbone(dataset: Dataset, device: str) -> tuple[str, str]:
    """Return the backbone to search and why."""
    if len(dataset) < _FEW_ROWS:
        return (
            "{choices: [peaks, descriptors]}",
            f"{len(dataset)} rows: which reads them best differs by target",
        )
    if device == "cpu":
        return "{choices: [descriptors, peaks]}", "the cheap one first: no GPU was found"
    return "peaks", "atoms and their surroundings; msa3dcnn is the 3D CNN"


def _budget_lines(specs: Sequence[Target], device: str) -> list[str]:
    n_trials = min(max(_TRIALS_PER_TARGET * len(specs), _FEWEST_TRIALS), _MOST_TRIALS)
    limit = _CPU_LIMIT if device == "cpu" else _GPU_LIMIT
    rows = [
        ("search:", "the budget"),
        (
            f"  n_trials: {n_trials}",
            f"groupings to try, baselines included; {_TRIALS_PER_TARGET} per target",
        ),
        (
            f"  time_limit: {limit}",
            "no trial starts later; the best so far is then trained again and tested",
        ),
        ("  seed: 0", "of the search and its networks"),
        ("split:", "which rows train, choose and test"),
        ("  by: chemical_system", "near-copies of a test row are never trained on"),
        ("refit:", "the end: what decides, and what is exported"),
        ("  top: 3", "most trainings with new seeds before the choice, in whole groupings"),
        ("  members: 4", "networks per group of the exported bundle, each on other rows"),
        ("executor:", "where networks are trained"),
        ("  workers: 1", "trials at the same time; more on a large machine"),
    ]
    lines = []
    for text, comment in rows:
        lines += _commented(text, comment)
    return lines


def _commented(text: str, comment: str) -> list[str]:
    """Return a line of YAML with a comment beside it, or above it where the line is long."""
    if len(text) < _COMMENT_COLUMN:
        return [f"{text:{_COMMENT_COLUMN}}# {comment}"]
    indent = " " * (len(text) - len(text.lstrip()))
    return [f"{indent}# {comment}", text]
