"""Predictions: the networks' own numbers, uncertainties by a second route, and inputs that do not fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from taskgroup.datasets import Target, TargetTable
from taskgroup.densities import Density, promolecule, standard_form
from taskgroup.errors import BundleError, DensityError, StoreError
from taskgroup.export import Bundle, evaluate, unseen_rows
from taskgroup.models import CrystalBatch
from taskgroup.training.metrics import target_metrics


def density_of(dataset, row: int, kind: str = "valence") -> Density:
    return Density(
        dataset.densities([row])[0],
        dataset.lattices[row],
        ("Si",),
        np.zeros((1, 3)),
        kind,
        f"file{row}",
    )


def test_a_bundle_of_one_member_predicts_what_its_network_predicts(make_bundle, dataset) -> None:
    bundle = make_bundle(dataset, members=1)
    frame = bundle.predict(dataset)
    density, lattice = (
        torch.tensor(dataset.densities()),
        torch.tensor(dataset.lattices, dtype=torch.float32),
    )
    for group, (network,) in bundle.members.items():
        with torch.no_grad():
            expected = network.predict(CrystalBatch(density, lattice)).numpy()
        for name in group.serves:
            column = [target.name for target in network.targets].index(name)
            np.testing.assert_allclose(frame[name], expected[:, column], rtol=1e-5, atol=1e-6)


def test_each_target_is_predicted_by_the_group_that_serves_it(bundle, dataset, make_bundle) -> None:
    """``energy`` is a helper of the group of ``metal``: changing that group must not change it."""
    metal = next(group for group in bundle.members if "metal" in group.serves)
    other = make_bundle(dataset).members[metal][0]
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    changed = Bundle(bundle.spec, {**bundle.members, metal: (other, other)}).predict(dataset)
    same = bundle.predict(dataset)
    assert (changed["energy"] == same["energy"]).all()
    assert (changed["metal"] != same["metal"]).any()


def test_values_and_deviations_agree_with_a_second_computation(bundle, dataset) -> None:
    frame = bundle.predict(dataset)
    density, lattice = (
        torch.tensor(dataset.densities()),
        torch.tensor(dataset.lattices, dtype=torch.float32),
    )

    def members(name):
        group = bundle.spec.grouping.serving(name)
        column = group.targets.index(name)
        with torch.no_grad():
            return np.stack(
                [
                    n.predict(CrystalBatch(density, lattice))[:, column].double().numpy()
                    for n in bundle.members[group]
                ]
            )

    energy = members("energy")
    np.testing.assert_allclose(frame["energy"], energy.mean(0), rtol=1e-6)
    half_distance = np.abs(energy[0] - energy[1]) / np.sqrt(2)  # the sample deviation of two
    np.testing.assert_allclose(frame["energy_std"], np.hypot(half_distance, 0.3), rtol=1e-5)
    modulus = members("modulus")
    np.testing.assert_allclose(
        frame["modulus"], np.sqrt(modulus[0] * modulus[1]), rtol=1e-5
    )  # geometric mean
    spread = np.hypot(np.abs(np.log10(modulus[0] / modulus[1])) / np.sqrt(2), 0.2)
    expected = np.sqrt(modulus[0] * modulus[1]) * np.sinh(spread * np.log(10))
    np.testing.assert_allclose(frame["modulus_std"], expected, rtol=1e-4)
    metal = members("metal")
    np.testing.assert_allclose(frame["metal"], metal.mean(0), rtol=1e-6)
    np.testing.assert_allclose(
        frame["metal_std"], np.abs(metal[0] - metal[1]) / np.sqrt(2), rtol=1e-4, atol=1e-7
    )
    assert frame["metal"].between(0, 1).all()


def test_intervals_lie_about_the_value_in_the_space_of_the_transform(bundle, dataset) -> None:
    intervals = {"energy": {"0.9": 2.0}, "strain": {"0.9": 1.0}, "modulus": {"0.9": 0.5}}
    known = Bundle(replace(bundle.spec, intervals=intervals), bundle.members)
    frame = known.predict(dataset, coverage=0.9)
    np.testing.assert_allclose(frame["energy_low"], frame["energy"] - 2)
    np.testing.assert_allclose(frame["modulus_high"], frame["modulus"] * 10**0.5)
    assert "metal_low" not in frame
    assert (frame["metal"] == known.predict(dataset)["metal"]).all()
    truth = dataset.targets.column("energy")
    found = evaluate(known, dataset, range(len(dataset)))["targets"]
    assert found["energy"]["coverage_90"] == np.mean(np.abs(frame["energy"] - truth) <= 2)
    assert "coverage_90" not in found["metal"]
    with pytest.raises(
        BundleError, match=r"no prediction interval of coverage 0.5; the bundle has 0.9"
    ):
        known.predict(dataset, coverage=0.5)
    with pytest.raises(BundleError, match="has none"):
        bundle.predict(dataset, coverage=0.9)


def test_the_frame_has_ids_units_and_a_deviation_for_each_target(bundle, dataset) -> None:
    frame = bundle.predict(dataset, rows=[2, 5])
    assert list(frame.index) == ["row2", "row5"]
    assert frame.index.name == "id"
    assert frame.attrs["units"] == {
        "energy": "eV/atom",
        "metal": "",
        "modulus": "GPa",
        "strain": "",
    }
    names = list(frame.attrs["units"])
    assert list(frame.columns) == names + [f"{name}_std" for name in names]


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_the_size_of_a_batch_changes_nothing(bundle, dataset, batch_size) -> None:
    np.testing.assert_allclose(
        bundle.predict(dataset, batch_size=batch_size), bundle.predict(dataset), rtol=1e-4
    )


def test_a_density_predicts_like_the_same_row_of_a_dataset(make_bundle, make_dataset) -> None:
    """sigma = 0, the same grid, in standard form beforehand: bringing it there once more changes nothing."""
    dataset = make_dataset()
    smooth = [standard_form(density_of(dataset, row), 8, 0.2)[0] for row in range(3)]
    again = dataset.from_arrays(
        "toy", dataset.ids[:3], dataset.targets.rows([0, 1, 2]), [d.values for d in smooth],
        [d.lattice for d in smooth],
        dataset.formulas[:3], dataset.formulas[:3], sigma=0.0,
    )  # fmt: skip
    bundle = make_bundle(again)
    from_densities = bundle.predict(smooth)
    assert list(from_densities.index) == ["file0", "file1", "file2"]
    np.testing.assert_allclose(from_densities, bundle.predict(again), rtol=2e-3, atol=1e-4)


def test_one_density_needs_no_list(bundle, dataset) -> None:
    one = density_of(dataset, 0)
    np.testing.assert_array_equal(bundle.predict(one), bundle.predict([one]))


def test_no_input_gives_an_empty_frame(bundle) -> None:
    assert bundle.predict([]).shape == (0, 8)


def test_of_two_channels_the_total_is_used_and_a_missing_one_is_not_made_up(
    make_bundle, make_dataset
) -> None:
    one, two = make_dataset(), make_dataset(channels=2)
    both = density_of(two, 0)
    total = Density(both.values[:1], both.lattice, both.species, both.frac_coords)
    bundle = make_bundle(one)
    np.testing.assert_array_equal(bundle.predict(both), bundle.predict(total))
    assert len(bundle.predict(two)) == len(two)
    magnetic = make_bundle(two)
    assert len(magnetic.predict(both)) == 1
    for source in (total, one):
        with pytest.raises(
            BundleError, match=r"takes 2 channels \(total, magnetisation\), but found 1"
        ):
            magnetic.predict(source)


def test_another_kind_of_density_is_refused(make_bundle, make_dataset, dataset) -> None:
    with pytest.raises(
        BundleError, match=r"takes valence densities, but found one of kind all-electron\."
    ):
        make_bundle(dataset).predict(density_of(dataset, 0, "all-electron"))
    with pytest.raises(BundleError, match="kind of the densities must be valence"):
        make_bundle(dataset).predict(make_dataset(kind="promolecule"))


def test_a_structure_is_enough_for_promolecules_only(make_bundle, make_dataset, tmp_path) -> None:
    dataset = make_dataset(kind="promolecule")
    bundle = make_bundle(dataset)
    structure = dataset.structure(0)
    path = tmp_path / "Si.cif"
    structure.to(filename=str(path))
    by_structure, by_file = bundle.predict([structure]), bundle.predict([path])
    by_density = bundle.predict([promolecule(structure, 8, 0.2)])
    np.testing.assert_allclose(by_structure, by_file, rtol=1e-3)
    np.testing.assert_allclose(by_structure, by_density, rtol=1e-5)
    chgcar = tmp_path / "CHGCAR"
    chgcar.write_text("whatever")
    with pytest.raises(
        BundleError, match=r"CHGCAR: this bundle takes structures.*found a DFT density"
    ):
        bundle.predict([chgcar])
    valence = make_bundle(make_dataset())
    with pytest.raises(
        BundleError, match=r"Si\.cif: this bundle takes valence densities.*structure alone"
    ):
        valence.predict([path])
    with pytest.raises(DensityError):
        valence.predict([structure])


def test_a_bad_input_among_many_is_told_and_left_out_if_asked(bundle, dataset, tmp_path) -> None:
    broken = tmp_path / "CHGCAR_broken"
    broken.write_text("no density")
    sources = [density_of(dataset, 0), broken, density_of(dataset, 1)]
    with pytest.raises(DensityError):
        bundle.predict(sources)
    told = []
    frame = bundle.predict(sources, on_error=lambda name, error: told.append((name, type(error))))
    assert list(frame.index) == ["file0", "file1"]
    assert told == [(str(broken), DensityError)]


def test_a_dataset_of_another_grid_is_refused(bundle, make_dataset) -> None:
    dataset = make_dataset()
    other = dataset.from_arrays(
        "toy", dataset.ids, dataset.targets, np.ones((12, 1, 6, 6, 6)), dataset.lattices, dataset.formulas,
        dataset.formulas,
    )  # fmt: skip
    with pytest.raises(
        BundleError, match="grid of the densities must be 8 for this bundle, but 'toy' has 6"
    ):
        bundle.predict(other)


def test_a_folder_that_is_no_store_is_refused(bundle, tmp_path) -> None:
    with pytest.raises(StoreError):
        bundle.predict(tmp_path)


def test_evaluate_measures_unseen_rows_with_the_metrics_of_training(bundle, dataset) -> None:
    found = evaluate(bundle, dataset)
    rows = np.arange(8, 12)
    assert (found["rows"], found["seen_rows"]) == (4, 0)
    frame = bundle.predict(dataset, rows=rows)
    for name, metrics in found["targets"].items():
        expected = target_metrics(
            bundle.spec.target(name), dataset.targets.column(name)[rows], frame[name]
        )
        assert {key: metrics[key] for key in expected} == expected
        assert list(metrics)[:4] == ["n", "skill", "low", "high"]


def test_evaluate_on_given_rows_counts_those_that_were_seen(bundle, dataset) -> None:
    found = evaluate(bundle, dataset, range(12))
    assert (found["rows"], found["seen_rows"]) == (12, 8)
    assert found["targets"]["modulus"]["n"] == 11


def test_rows_are_unseen_in_another_dataset_even_with_the_same_ids(bundle, make_dataset) -> None:
    assert list(unseen_rows(bundle, make_dataset())) == [8, 9, 10, 11]
    values = make_dataset(rows=13, name="elsewhere")
    assert len(unseen_rows(bundle, values)) == 13


def test_evaluate_says_what_it_cannot_compare(bundle, make_dataset, make_bundle) -> None:
    dataset = make_dataset()
    none = dataset.from_arrays(
        "bare", dataset.ids, TargetTable((Target("colour"),), dataset.ids, np.arange(12.0)[:, None]),
        dataset.densities(), dataset.lattices, dataset.formulas, dataset.formulas,
    )  # fmt: skip
    with pytest.raises(BundleError, match=r"needs a target of the bundle .* it has colour"):
        evaluate(bundle, none)
    specs = (Target("energy", unit="GPa"),)
    wrong = dataset.from_arrays(
        "units", dataset.ids, TargetTable(specs, dataset.ids, np.arange(12.0)[:, None]),
        dataset.densities(), dataset.lattices, dataset.formulas, dataset.formulas,
    )  # fmt: skip
    with pytest.raises(BundleError, match="unit must be 'eV/atom' as in the bundle, but is 'GPa'"):
        evaluate(bundle, wrong)
    with pytest.raises(BundleError, match="has seen every row"):
        evaluate(make_bundle(dataset, seen_ids=dataset.ids), dataset)
