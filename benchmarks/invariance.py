"""How much predictions depend on the description of a crystal: cell, origin, orientation, native grid, smoothness.

    python benchmarks/invariance.py BUNDLE [--densities FILE...] [--repeats N] [--json]
    python benchmarks/invariance.py --flavours [--seeds N] [--json]

Each density is described in other ways, at random, that are exactly the same crystal (supercells up to 3x3x3, another
basis, origin, order and sign of the vectors, rotation, a finer native grid). A further low-pass is not the same
density, but what a coarser grid or softer cores of another code make of it. Printed is, for each way and target, the
largest change of the prediction in units of the standard deviation of that target over the bundle's dataset.

With ``--flavours`` networks are trained, minutes each, and read densities of other codes; see ``flavours.py``.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from flavours import flavour_table

from taskgroup.datasets import load_dataset
from taskgroup.densities import Density, equivalent_descriptions, read_density, standardise
from taskgroup.export import Bundle, load_bundle

CHGCARS = Path(__file__).parents[1] / "taskgroup/datasets/data/crystals/chgcar"
EXACT = ("supercell", "basis", "origin", "order", "rotation", "grid")
LOW_PASSES = (0.1, 0.2)  # Å, in addition to that of the bundle


def descriptions(repeats: int) -> dict[str, Callable[[Density], list[Density]]]:
    """Return each way of describing a density again, by name."""

    def at_random(*kinds: str) -> Callable[[Density], list[Density]]:
        random = np.random.default_rng(0)
        return lambda density: [
            equivalent_descriptions(density, random, kinds) for _ in range(repeats)
        ]

    def smoother(sigma: float) -> Callable[[Density], list[Density]]:
        return lambda density: [standardise(density, max(density.grid), sigma)]

    ways = {kind: at_random(kind) for kind in EXACT}
    ways["all of these"] = at_random(*EXACT)
    return ways | {f"low-pass {sigma} Å": smoother(sigma) for sigma in LOW_PASSES}


def changes(bundle: Bundle, densities: list[Density], repeats: int) -> dict[str, dict[str, float]]:
    """Return by way and target the largest change, in standard deviations of the target."""
    spread = {}
    table = load_dataset(bundle.spec.dataset["name"]).targets
    for name in bundle.targets:
        target = bundle.spec.target(name)
        spread[name] = float(np.nanstd(target.forward(table.column(name))))
    given = bundle.predict(densities)
    largest = {}
    for way, describe in descriptions(repeats).items():
        others, rows = [], []
        for row, density in enumerate(densities):
            described = describe(density)
            others += described
            rows += [row] * len(described)
        predicted = bundle.predict(others)
        largest[way] = {}
        for name in bundle.targets:
            target = bundle.spec.target(name)
            before = target.forward_predictions(given[name].to_numpy()[rows])
            after = target.forward_predictions(predicted[name].to_numpy())
            largest[way][name] = float(np.abs(after - before).max() / spread[name])
    return largest


def _print_flavours(table: dict[str, dict[str, str]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(table))
        return
    columns = list(next(iter(table.values())))
    print("| mean skill | " + " | ".join(columns) + " |")
    print("|---" * (1 + len(columns)) + "|")
    for mode, by_column in table.items():
        print(f"| {mode} | " + " | ".join(by_column.values()) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?")
    parser.add_argument("--flavours", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--densities", nargs="+", type=Path, default=sorted(CHGCARS.iterdir()))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.flavours:
        _print_flavours(flavour_table(range(arguments.seeds)), arguments.json)
        return
    if arguments.bundle is None:
        parser.error("give a bundle, or --flavours")
    bundle = load_bundle(arguments.bundle)
    densities = [read_density(path) for path in arguments.densities]
    largest = changes(bundle, densities, arguments.repeats)
    if arguments.json:
        print(json.dumps(largest))
        return
    print(f"| {len(densities)} densities | " + " | ".join(bundle.targets) + " |")
    print("|---" * (1 + len(bundle.targets)) + "|")
    for way, by_target in largest.items():
        cells = " | ".join(f"{by_target[name]:.2g}" for name in bundle.targets)
        print(f"| {way} | {cells} |")


if __name__ == "__main__":
    main()
