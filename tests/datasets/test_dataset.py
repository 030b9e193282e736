import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from taskgroup.datasets import Dataset, Target, TargetTable, load_dataset
from taskgroup.datasets.density_rows import digest_density, equal_shape_batches
from taskgroup.errors import ConfigError, StoreError, TargetError

from .conftest import make_dataset


@pytest.fixture(scope="module")
def crystals() -> Dataset:
    return load_dataset("crystals")


def test_the_crystals_carry_eleven_targets_in_their_units(crystals: Dataset) -> None:
    assert {spec.name: spec.unit for spec in crystals.targets.specs} == {
        "bulk_modulus": "GPa",
        "volume": "Å^3",
        "density": "g/cm^3",
        "energy_per_atom": "eV/atom",
        "formation_energy": "eV/atom",
        "fermi_energy": "eV",
        "band_gap": "eV",
        "bandwidth": "eV",
        "is_metal": "",
        "shear_modulus": "GPa",
        "mechanically_stable": "",
    }
    crystals.targets.check()
    assert len(crystals) == len(set(crystals.ids)) > 100


def test_the_cells_of_the_crystals_have_the_volume_and_mass_of_their_labels(
    crystals: Dataset,
) -> None:
    volume = np.abs(np.linalg.det(crystals.lattices))
    np.testing.assert_allclose(
        volume, crystals.targets.column("volume"), rtol=0.02
    )  # the fit's minimum, and the cell
    for row in range(0, len(crystals), 10):
        expected = crystals.targets.column("density")[row]
        assert crystals.structure(row).density == pytest.approx(expected, rel=0.02)


def test_the_densities_of_the_crystals_hold_whole_numbers_of_electrons(crystals: Dataset) -> None:
    means = np.empty(len(crystals))
    for rows, densities in crystals.density_batches():
        means[rows] = densities.astype(float).mean(axis=(1, 2, 3, 4))
    electrons = means * np.abs(np.linalg.det(crystals.lattices))
    np.testing.assert_allclose(electrons, np.round(electrons), rtol=1e-3)
    assert electrons.min() > 0.99


def test_metals_of_the_crystals_have_no_gap(crystals: Dataset) -> None:
    gap, metal = crystals.targets.column("band_gap"), crystals.targets.column("is_metal")
    np.testing.assert_array_equal(metal, gap < 0.05)


def test_the_crystals_load_from_another_folder_without_the_repository_in_sight(
    crystals: Dataset, tmp_path: Path
) -> None:
    code = "import taskgroup; print(taskgroup.load_dataset('crystals').hash)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == crystals.hash


def test_densities_come_as_float32_of_the_rows_asked_for_in_their_order(crystals: Dataset) -> None:
    rows = np.flatnonzero((crystals.shapes == crystals.shapes[2]).all(axis=1))
    some = crystals.densities(rows[[5, 2]])
    assert some.dtype == np.float32
    assert some.shape == (2, crystals.n_channels, *crystals.shapes[2])
    every = crystals.densities(rows)
    np.testing.assert_array_equal(some, every[[5, 2]])
    mask = np.arange(len(crystals)) == rows[7]
    np.testing.assert_array_equal(crystals.densities(mask), every[7:8])
    assert len(crystals.densities([])) == 0


def test_rows_on_grids_of_several_shapes_come_in_batches_of_one_shape(crystals: Dataset) -> None:
    with pytest.raises(StoreError, match=r"one shape, found \d+ shapes among 622 rows"):
        crystals.densities()
    seen = []
    for rows, densities in crystals.density_batches(np.arange(5, 200)):
        seen += rows.tolist()
        for row, density in zip(rows, densities, strict=True):
            assert density.shape[1:] == tuple(crystals.shapes[row])
        np.testing.assert_array_equal(densities[-1:], crystals.densities(rows[-1:]))
    assert sorted(seen) == list(range(5, 200))


def test_grid_points_are_as_near_as_the_spacing_says(crystals: Dataset) -> None:
    distances = np.linalg.norm(crystals.lattices, axis=2) / crystals.shapes
    assert crystals.spacing == 0.2
    assert crystals.grid is None
    assert distances.max() <= 0.2 + 1e-9
    assert distances.mean() > 0.17


def test_digests_tell_grids_of_equal_size_and_other_shape_apart() -> None:
    values = np.arange(24, dtype=np.float16)
    digests = {
        digest_density(values.reshape(shape))
        for shape in ((1, 2, 3, 4), (1, 4, 3, 2), (1, 1, 1, 24))
    }
    assert len(digests) == 3


def test_batches_of_one_shape_are_bounded_and_hold_each_row_once() -> None:
    shapes = np.array([[2, 2, 2], [4, 2, 2], [2, 2, 2], [2, 2, 4], [4, 2, 2], [2, 2, 2]])
    batches = [rows.tolist() for rows in equal_shape_batches(shapes, np.array([5, 4, 2, 1, 0]), 2)]
    assert batches == [[5, 2], [0], [4, 1]]
    large = [rows.tolist() for rows in equal_shape_batches(shapes, np.arange(6), 9, most_points=20)]
    assert sorted(large) == [[0, 2], [1], [3], [4], [5]]
    assert list(equal_shape_batches(shapes, np.array([], dtype=np.int64))) == []


def test_an_unknown_dataset_is_refused_with_what_there_is() -> None:
    with pytest.raises(StoreError, match="did you mean 'crystals'"):
        load_dataset("crystal")


def changed(data: Dataset, what: str) -> Dataset:
    table, lattices = data.targets, data.lattices.copy()
    ids, values, densities = list(table.ids), table.values.copy(), data.densities()
    specs = list(table.specs)
    if what == "density":
        densities[3, 0, 0, 0, 0] *= 1.01
    elif what == "lattice":
        lattices[3, 0, 0] += 1e-9
    elif what == "label":
        values[np.flatnonzero(~np.isnan(values[:, 0]))[0], 0] += 1e-9
    elif what == "missing":
        values[np.flatnonzero(~np.isnan(values[:, 0]))[0], 0] = np.nan
    elif what == "id":
        ids[3] = "another"
    elif what == "unit":
        specs[0] = replace(specs[0], unit="MPa")
    elif what == "description":
        specs[0] = replace(specs[0], description="in other words")
    table = TargetTable(tuple(specs), tuple(ids), values)
    return Dataset.from_arrays(
        "other", ids, table, densities, lattices, data.formulas, data.chemical_systems
    )


@pytest.mark.parametrize("what", ["density", "lattice", "label", "missing", "id", "unit"])
def test_the_hash_tells_every_change_of_content(what: str) -> None:
    data = make_dataset()
    assert changed(data, what).hash != data.hash


@pytest.mark.parametrize("what", ["nothing", "description"])
def test_the_hash_does_not_tell_names_and_descriptions(what: str) -> None:
    data = make_dataset()
    assert changed(data, what).hash == data.hash


@pytest.mark.parametrize(
    "what", ["density", "lattice", "label", "missing", "id", "unit", "nothing"]
)
def test_the_hash_of_the_inputs_tells_densities_and_cells_only(what: str) -> None:
    data = make_dataset()
    assert (changed(data, what).inputs_hash != data.inputs_hash) == (what in ("density", "lattice"))


def test_a_subset_is_the_dataset_of_its_rows() -> None:
    data = make_dataset()
    part = data.subset([7, 1, 4])
    assert part.ids == tuple(data.ids[i] for i in (7, 1, 4))
    assert part.formulas == tuple(data.formulas[i] for i in (7, 1, 4))
    np.testing.assert_array_equal(part.densities(), data.densities([7, 1, 4]))
    np.testing.assert_array_equal(part.subset([2]).densities(), data.densities([4]))
    assert part.structure(1) == data.structure(1)
    assert part.hash == data.subset(np.array([7, 1, 4])).hash != data.subset([1, 7, 4]).hash


def test_a_dataset_goes_to_another_process() -> None:
    part = make_dataset().subset([3, 2])
    assert pickle.loads(pickle.dumps(part)).hash == part.hash


def test_targets_are_chosen_by_name() -> None:
    assert make_dataset().with_targets(["is_metal"]).targets.names == ("is_metal",)
    with pytest.raises(TargetError, match="did you mean"):
        make_dataset().with_targets(["metal"])


def test_cutting_labels_keeps_nested_draws_among_the_rows_and_leaves_others_alone() -> None:
    data, rows = make_dataset(40), np.arange(30)
    kept = []
    for n in (5, 10):
        cut = data.with_labels_cut("modulus", n, seed=1, rows=rows)
        left = ~np.isnan(cut.targets.column("modulus"))
        assert left[rows].sum() == n
        np.testing.assert_array_equal(cut.targets.values[30:], data.targets.values[30:])
        np.testing.assert_array_equal(
            cut.targets.column("is_metal"), data.targets.column("is_metal")
        )
        kept.append(set(np.flatnonzero(left[rows])))
    assert kept[0] < kept[1]
    with pytest.raises(ConfigError, match="cannot keep 99 labels"):
        data.with_labels_cut("modulus", 99)


@pytest.mark.parametrize("value", [7e4, np.nan, np.inf])
def test_a_density_that_float16_cannot_hold_is_refused(value: float) -> None:
    data = make_dataset()
    densities = data.densities()
    densities[2, 0, 1, 1, 1] = value
    with pytest.raises(StoreError, match="65504"):
        Dataset.from_arrays(
            "x",
            data.ids,
            data.targets,
            densities,
            data.lattices,
            data.formulas,
            data.chemical_systems,
        )


def test_arrays_that_disagree_are_refused() -> None:
    data = make_dataset()
    arguments = (data.densities(), data.lattices, data.formulas, data.chemical_systems)
    with pytest.raises(StoreError, match="ids"):
        Dataset.from_arrays("x", data.ids[::-1], data.targets, *arguments)
    with pytest.raises(StoreError, match="densities must be"):
        Dataset.from_arrays(
            "x", data.ids, data.targets, data.densities()[:, :, :, :, :3], *arguments[1:]
        )
    with pytest.raises(StoreError, match="formulas for 3 rows"):
        Dataset.from_arrays(
            "x", data.ids, data.targets, *arguments[:2], data.formulas[:3], data.chemical_systems
        )


def test_a_table_without_targets_hashes_too() -> None:
    data = make_dataset()
    table = TargetTable((), data.ids, np.empty((len(data), 0)))
    assert replace(data, targets=table).hash != data.hash
    assert (
        replace(data, targets=TargetTable((Target("x"),), data.ids, np.full((12, 1), np.nan))).hash
        != data.hash
    )
