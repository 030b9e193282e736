"""Cells of any size: from structures to a store, to prepared rows, to predictions, in bounded memory."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from taskgroup.datasets import Dataset, TargetScaler, load_dataset, promolecules
from taskgroup.export import Bundle, BundleSpec, DensityFormat, _predict
from taskgroup.grouping import Group, Grouping
from taskgroup.models import ModelConfig, MultiTaskNetwork
from taskgroup.training import device_rows

SHARED = Path(__file__).parents[3] / "shared" / "data" / "mp"
CPU = torch.device("cpu")
DIAMOND = np.array(
    [[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0], [1, 1, 1], [1, 3, 3], [3, 1, 3], [3, 3, 1]]
)
TARGETS = ["band_gap", "volume_per_atom"]


def silicon(repeats: int, shake: float) -> dict:
    """So many cubic cells of eight atoms along each axis, the atoms displaced by ``shake`` Å: then it is primitive."""
    random = np.random.default_rng(0)
    steps = np.stack(np.meshgrid(*[np.arange(repeats)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    places = (steps[:, None] + DIAMOND / 4).reshape(-1, 3) / repeats
    edge = 5.43 * repeats
    places = places + random.normal(size=places.shape) * shake / edge
    return {
        "lattice": (edge * np.eye(3)).tolist(),
        "species": ["Si"] * len(places),
        "frac_coords": places.tolist(),
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Crystals of 2, 8 and 216 atoms."""
    folder = tmp_path_factory.mktemp("sizes")
    crystals = {"two": silicon(1, 0.0), "eight": silicon(1, 0.2), "many": silicon(3, 0.2)}
    lines = [json.dumps({"id": name} | crystal) for name, crystal in crystals.items()]
    (folder / "crystals.jsonl").write_text("\n".join(lines))
    (folder / "table.csv").write_text("id,band_gap\ntwo,1\neight,2\nmany,4\n")
    report = promolecules(
        folder / "crystals.jsonl", folder / "table.csv", folder / "store", workers=1
    )
    assert not report.refused
    return load_dataset(folder / "store")


def make_bundle(dataset: Dataset, **settings) -> Bundle:
    """A network of random weights for the first target."""
    name = dataset.targets.names[0]
    spec = dataset.targets.spec(name)
    scaler = TargetScaler.fit([spec], dataset.targets.column(name)[:, None])
    torch.manual_seed(0)
    network = MultiTaskNetwork(ModelConfig(**settings), [spec], scaler, dataset.n_channels).eval()
    group = Group((name,))
    about = {"name": dataset.name, "version": dataset.version, "hash": dataset.hash}
    content = BundleSpec(
        "sizes", Grouping((group,)), (spec,), DensityFormat.of(dataset), about, {}, (), {}
    )
    return Bundle(content, {group: [network]})


NETWORKS = (
    {"backbone": "descriptors"},
    {"backbone": "resnet3d", "grid": 8, "width": 4, "stages": 1, "widths": ()},
)


def test_points_follow_the_size_of_the_cell(dataset: Dataset) -> None:
    n_atoms = [len(species) for species in dataset.species]
    assert n_atoms == [2, 8, 216]
    assert dataset.shapes[2].tolist() == [90, 90, 90]
    per_atom = dataset.shapes.prod(axis=1) / n_atoms
    assert per_atom.max() < 1.5 * per_atom.min()


@pytest.mark.parametrize("settings", NETWORKS)
def test_rows_of_all_sizes_are_prepared_into_one_table(dataset: Dataset, settings: dict) -> None:
    view = make_bundle(dataset, **settings).members[Group(("band_gap",))][0].view
    rows = device_rows.prepare_rows(dataset, view, CPU).rows
    assert len(rows) == 3
    assert all(torch.isfinite(tensor).all() for tensor in rows.tensors)


@pytest.mark.parametrize("settings", NETWORKS)
def test_predictions_come_in_the_order_of_the_inputs_whatever_their_sizes(
    dataset: Dataset, settings: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(dataset, **settings)
    inputs = [dataset.structure(row) for row in (0, 2, 1, 0, 1)]
    whole = bundle.predict(inputs)["band_gap"].to_numpy()
    np.testing.assert_allclose(whole[3:], [whole[0], whole[2]], rtol=1e-4)
    # Datasets hold what predictions are made of.
    np.testing.assert_allclose(bundle.predict(dataset)["band_gap"], whole[[0, 2, 1]], rtol=1e-3)
    sizes = []
    plain = _predict.predict_crystals

    def watched(bundle: Bundle, crystals, device):
        sizes.append(crystals.density.numel())
        return plain(bundle, crystals, device)

    monkeypatch.setattr(_predict, "predict_crystals", watched)
    monkeypatch.setattr(_predict, "_BATCH_POINTS", 1)
    small = bundle.predict([inputs[0], *inputs[2:]])["band_gap"]
    np.testing.assert_allclose(small, whole[[0, 2, 3, 4]], rtol=1e-4)
    assert sorted(sizes) == sorted(dataset.shapes[[0, 0, 1, 1]].prod(axis=1).tolist())


@pytest.mark.skipif(not SHARED.exists(), reason="needs Materials Project rows in ../shared/data/mp")
def test_materials_project_rows_of_25_to_40_sites_come_in_and_are_predicted(tmp_path: Path) -> None:
    lines = []
    with gzip.open(SHARED / "structures.jsonl.gz", "rt") as file:
        for line in file:
            if 25 <= len(json.loads(line)["species"]) <= 40:
                lines.append(line)
            if len(lines) == 8:
                break
    (tmp_path / "some.jsonl").write_text("".join(lines))
    report = promolecules(
        tmp_path / "some.jsonl",
        SHARED / "properties.csv",
        tmp_path / "store",
        targets=TARGETS,
        workers=1,
    )
    assert not report.refused
    dataset = load_dataset(tmp_path / "store")
    assert len(dataset) == 8
    distances = np.linalg.norm(dataset.lattices, axis=2) / dataset.shapes
    assert distances.max() <= 0.2 + 1e-9
    frame = make_bundle(dataset, **NETWORKS[0]).predict(dataset)
    assert np.isfinite(frame.to_numpy()).all()
