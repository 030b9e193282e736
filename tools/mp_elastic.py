"""The rows of a Materials Project store with complete elastic data and at most 12 sites, as a store of their own.

    python tools/mp_elastic.py data/mp properties.csv data/mp_elastic

``properties.csv`` has the columns material_id, nsites, K_VRH, G_VRH and elastic_anisotropy.
"""

import csv
import sys

import numpy as np

from taskgroup.datasets import load_dataset, write_store

NEEDED = ("K_VRH", "G_VRH", "elastic_anisotropy")
MOST_SITES = 12


def main(store: str, properties: str, out: str) -> None:
    """Choose the rows and write them."""
    with open(properties, encoding="utf-8") as file:
        table = {row["material_id"]: row for row in csv.DictReader(file)}
    dataset = load_dataset(store)
    complete = [
        i
        for i, name in enumerate(dataset.ids)
        if int(table[name]["nsites"]) <= MOST_SITES and all(table[name][column] for column in NEEDED)
    ]
    write_store(out, dataset.subset(np.array(complete)))
    print(f"{len(complete)} of {len(dataset)} rows in {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
