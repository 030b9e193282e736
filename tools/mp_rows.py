"""Rows of a Materials Project store with all elastic labels, as a store of their own.

python tools/mp_rows.py data/mp data/mp_elastic
"""

import argparse

import numpy as np

from taskgroup.datasets import load_dataset, write_store

NEEDED = ("K_VRH", "G_VRH", "elastic_anisotropy")


def main() -> None:
    """Choose the rows and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store")
    parser.add_argument("out")
    arguments = parser.parse_args()
    dataset = load_dataset(arguments.store)
    labels = np.stack([dataset.targets.column(name) for name in NEEDED], axis=1)
    chosen = np.flatnonzero(np.isfinite(labels).all(axis=1))
    write_store(arguments.out, dataset.subset(chosen))
    print(f"{len(chosen)} of {len(dataset)} rows in {arguments.out}")


if __name__ == "__main__":
    main()
