"""Each note is for what it says, and sound data have none."""

from dataclasses import replace

import numpy as np
import pytest

from taskgroup.datasets import Dataset, Target, TargetTable, load_dataset, quality_notes
from taskgroup.datasets.quality import label_notes

from .conftest import make_dataset


def notes_of(values: list, name: str = "x", **fields) -> str:
    return "\n".join(label_notes(Target(name, **fields), np.array(values, dtype=float)))


RNG = np.random.default_rng(0)
SOUND = RNG.normal(3, 1, 60)


@pytest.mark.parametrize("sentinel", [-999, -9999, 999, 99999, -999.0, 1e30, -1e20])
def test_sentinels_are_named_with_their_number(sentinel: float) -> None:
    notes = notes_of([*SOUND, sentinel, sentinel])
    assert f"2 labels are {sentinel:g}" in notes
    assert "leave these cells empty" in notes


def test_a_large_value_among_large_ones_is_no_sentinel() -> None:
    assert notes_of([*RNG.normal(900, 100, 50), 999.0]) == ""
    assert notes_of(SOUND) == ""


@pytest.mark.parametrize(
    ("name", "is_noted"),
    [
        ("volume", True),
        ("band_gap", True),
        ("bulk_modulus", True),
        ("Density", True),
        ("energy_density", False),
        ("formation_energy", False),
        ("singapore", False),
    ],
)
def test_negative_values_of_what_cannot_be_negative_are_told(name: str, is_noted: bool) -> None:
    assert ("1 labels are negative" in notes_of([*np.abs(SOUND), -0.5], name)) == is_noted


def test_a_poisson_ratio_has_its_limits() -> None:
    assert "outside -1..0.5" in notes_of([0.2, 0.3, 0.25, 0.6], "poisson_ratio")
    assert notes_of([0.2, 0.3, 0.25, 0.4], "poisson_ratio") == ""


def test_values_over_decades_suggest_a_transform_and_say_why() -> None:
    decades = 10 ** RNG.normal(1, 0.8, 200)
    assert "decades: take transform log10, else errors" in notes_of(decades)
    assert notes_of(decades, transform="log10") == ""
    both_signs = np.concatenate([decades**2, -(decades[:50] ** 2)])
    assert "take transform signed_log" in notes_of(both_signs)
    assert notes_of(np.abs(RNG.normal(1, 0.5, 200)) + 1e-4) == ""


def with_volumes(factor: float, unit: str = "Å^3") -> Dataset:
    data = make_dataset(30)
    cells = np.abs(np.linalg.det(data.lattices)) * RNG.normal(1, 0.03, 30)
    table = TargetTable((Target("volume", unit=unit),), data.ids, factor * cells[:, None])
    return replace(data, targets=table)


@pytest.mark.parametrize(("factor", "unit"), [(1e-3, "nm^3"), (6.748334503, "bohr^3")])
def test_volumes_in_another_unit_than_they_say_are_found_by_the_cells(
    factor: float, unit: str
) -> None:
    notes = "\n".join(quality_notes(with_volumes(factor)))
    assert f"look like {unit}, not Å^3" in notes
    assert "look like" not in "\n".join(quality_notes(with_volumes(1.0)))
    assert "look like" not in "\n".join(quality_notes(with_volumes(0.25)))


@pytest.mark.parametrize(("factor", "unit"), [(1e3, "kg/m^3"), (1 / 1.66053906892, "u/Å^3")])
def test_mass_densities_in_another_unit_are_found_by_the_atoms(factor: float, unit: str) -> None:
    data = make_dataset(30)
    # one Na and one Cl in each cell, in daltons
    densities = 58.443 * 1.66053906892 / np.abs(np.linalg.det(data.lattices))

    def notes(values: np.ndarray) -> str:
        table = TargetTable((Target("density", unit="g/cm^3"),), data.ids, values[:, None])
        return "\n".join(quality_notes(replace(data, targets=table)))

    assert f"look like {unit}, not g/cm^3" in notes(factor * densities)
    assert "look like" not in notes(densities)
    assert "look like" not in notes(1.1 * densities)


def test_volumes_per_atom_are_compared_per_atom() -> None:
    data = make_dataset(30)
    volumes = np.abs(np.linalg.det(data.lattices)) / 2

    def notes(values: np.ndarray) -> str:
        table = TargetTable((Target("v", unit="Å^3/atom"),), data.ids, values[:, None])
        return "\n".join(quality_notes(replace(data, targets=table)))

    assert "look like" not in notes(volumes)
    assert "look like nm^3" in notes(1e-3 * volumes)


def test_repeated_and_nearly_equal_crystals_are_named() -> None:
    data = make_dataset(12)
    densities = data.densities().astype(np.float64)
    lattices = data.lattices.copy()
    densities[1], lattices[1] = densities[0], lattices[0]
    # the same crystal with another origin, and a hair of strain
    densities[9] = np.roll(densities[4], (1, 2, 3), axis=(1, 2, 3)) * 1.0005
    lattices[9] = lattices[4] * 1.0001
    changed = Dataset.from_arrays(
        "changed",
        data.ids,
        data.targets,
        densities,
        lattices,
        data.formulas,
        data.chemical_systems,
        species=data.species,
        frac_coords=data.frac_coords,
    )
    notes = "\n".join(quality_notes(changed))
    assert "1 densities stand there more than once: row-000 = row-001" in notes
    assert "different chemical systems have nearly equal" in notes
    assert "row-004 and row-009" in notes
    assert "nearly" not in "\n".join(quality_notes(data))


def test_polymorphs_and_constant_targets_are_told() -> None:
    data = make_dataset(12)
    table = TargetTable((Target("x"), Target("y")), data.ids, np.c_[np.ones(12), np.arange(12)])
    notes = "\n".join(quality_notes(replace(data, targets=table)))
    assert "target 'x': constant" in notes
    assert "6 rows share their formula" in notes


def test_the_crystals_of_the_package_have_no_note_on_their_labels() -> None:
    notes = quality_notes(load_dataset("crystals"))
    assert not [note for note in notes if note.startswith("target")]
