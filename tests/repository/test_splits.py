"""The registered splits of the studies: the files in ``studies/splits`` are what the studies really use."""

import gzip
import json
from pathlib import Path

import pytest
from pymatgen.core import Composition

from taskgroup.datasets import load_dataset
from taskgroup.datasets.splits import Splits, make_splits
from taskgroup.spec import load_study

ROOT = Path(__file__).parents[2]
SPLITS = ROOT / "studies" / "splits"
STRUCTURES = ROOT.parent / "shared" / "data" / "mp" / "structures.jsonl.gz"


@pytest.mark.parametrize("study", ["quickstart", "eight_properties", "elastic", "magnets"])
def test_studies_of_built_in_data_use_the_registered_split(study: str) -> None:
    config = load_study(ROOT / "studies" / f"{study}.yaml")
    dataset = load_dataset(config.dataset)
    used = dataset.splits(by=config.split.by, folds=config.split.folds, seed=config.split.seed)
    assert used.to_json(dataset.ids) == (SPLITS / f"{dataset.name}.json").read_text(
        encoding="utf-8"
    )


@pytest.mark.skipif(
    not STRUCTURES.exists(), reason="needs Materials Project structures in ../shared/data/mp"
)
@pytest.mark.parametrize("study", ["mp_elastic", "mp_sparse"])
def test_studies_of_materials_project_rows_use_the_registered_split(study: str) -> None:
    text = (SPLITS / f"{study}.json").read_text(encoding="utf-8")
    ids = list(json.loads(text)["folds"])
    wanted, systems = set(ids), {}
    with gzip.open(STRUCTURES, "rt") as file:
        for line in file:
            row = json.loads(line)
            if row["material_id"] in wanted:
                systems[row["material_id"]] = Composition("".join(row["species"])).chemical_system
    split = load_study(ROOT / "studies" / f"{study}.yaml").split
    made = make_splits([systems[name] for name in ids], split.by, split.folds, split.seed)
    assert made.id == Splits.from_json(text, ids).id
