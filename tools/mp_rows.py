"""Rows of a Materials Project store as a store of their own: those of at most 12 sites, ``--complete`` elastic data.

    python tools/mp_rows.py data/mp properties.csv data/mp_small
    python tools/mp_rows.py data/mp properties.csv data/mp_elastic --complete

``properties.csv`` has the columns material_id, nsites, K_VRH, G_VRH and elastic_anisotropy.
"""

import argparse
import csv

import numpy as np

from taskgroup.datasets import load_dataset, write_store

NEEDED = ("K_VRH", "G_VRH", "elastic_anisotropy")
MOST_SITES = 12


def main() -> None:
    """Choose the rows and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store")
    parser.add_argument("properties")
    parser.add_argument("out")
    parser.add_argument(
        "--complete", action="store_true", help="only rows with all elastic targets"
    )
    arguments = parser.parse_args()
    with open(arguments.properties, encoding="utf-8") as file:
        table = {row["material_id"]: row for row in csv.DictReader(file)}
    dataset = load_dataset(arguments.store)
    chosen = [
        i
        for i, name in enumerate(dataset.ids)
        if int(table[name]["nsites"]) <= MOST_SITES
        and (not arguments.complete or all(table[name][column] for column in NEEDED))
    ]
    write_store(arguments.out, dataset.subset(np.array(chosen)))
    print(f"{len(chosen)} of {len(dataset)} rows in {arguments.out}")


if __name__ == "__main__":
    main()
