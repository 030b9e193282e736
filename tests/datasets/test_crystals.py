"""The built-in datasets against the calculations of others."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from taskgroup.datasets import load_dataset
from taskgroup.datasets.crystals import data_folder
from taskgroup.densities import Density, standard_form

# Volume (Å^3 per atom) and bulk modulus (GPa), PBE, WIEN2k: Lejaeghere et al., doi:10.1126/science.aad3000
TEXTBOOK = {
    "Al-fcc": (16.480, 78.08),
    "Si-diamond": (20.453, 88.55),
    "Cu-fcc": (11.951, 141.34),
    "Ag-fcc": (17.847, 90.15),
    "Au-fcc": (17.975, 139.11),
    "Ge-diamond": (23.915, 59.13),
    "Na-bcc": (37.469, 7.47),
    "Ca-fcc": (42.199, 17.11),
    "Pd-fcc": (15.310, 168.63),
    "Pt-fcc": (15.642, 248.71),
    "W-bcc": (16.139, 301.62),
    "Nb-bcc": (18.137, 171.27),
    "Ta-bcc": (18.285, 195.15),
    "Rh-fcc": (14.040, 257.82),
    "Ir-fcc": (14.500, 347.68),
    "Pb-fcc": (32.003, 39.54),
}


MP = Path(__file__).parents[3] / "shared" / "data" / "mp" / "properties.csv"


@pytest.fixture(scope="module")
def crystals():
    return load_dataset("crystals")


@pytest.mark.parametrize("name", TEXTBOOK)
def test_lattice_constants_and_bulk_moduli_are_those_of_all_electron_calculations(
    crystals, name: str
) -> None:
    row = crystals.ids.index(name)
    volume, modulus = TEXTBOOK[name]
    atoms = len(crystals.species[row])
    assert (crystals.targets.column("volume")[row] / atoms / volume) ** (1 / 3) == pytest.approx(
        1, abs=0.01
    )
    assert crystals.targets.column("bulk_modulus")[row] == pytest.approx(modulus, rel=0.1)


def test_textbook_insulators_have_a_gap_and_metals_have_none(crystals) -> None:
    is_metal = dict(zip(crystals.ids, crystals.targets.column("is_metal"), strict=True))
    metals = [name for name in TEXTBOOK if name not in ("Si-diamond", "Ge-diamond")]
    assert all(is_metal[name] == 1 for name in metals)
    gaps = dict(zip(crystals.ids, crystals.targets.column("band_gap"), strict=True))
    order = ["LiF-rocksalt", "NaCl-rocksalt", "MgO-rocksalt", "C-diamond", "Si-diamond"]
    assert sorted(order, key=gaps.__getitem__, reverse=True) == order
    assert gaps["Si-diamond"] > 0.4
    assert gaps["Ge-diamond"] < 0.05  # PBE closes it


# C11, C12, C44 (GPa), measured at room temperature: Kittel, Introduction to Solid State Physics, 8th ed., ch. 3
ELASTIC = {
    "C-diamond": (1076, 125, 577),
    "Si-diamond": (165.7, 63.9, 79.6),
    "MgO-rocksalt": (297, 95, 156),
    "LiF-rocksalt": (111.2, 42.0, 62.8),
    "NaCl-rocksalt": (48.7, 12.4, 12.6),
    "ZnSe-zincblende": (85.9, 50.6, 40.6),
}


@pytest.mark.parametrize("name", ELASTIC)
def test_shear_moduli_are_those_of_measured_elastic_constants(crystals, name: str) -> None:
    c11, c12, c44 = ELASTIC[name]
    voigt = (c11 - c12 + 3 * c44) / 5
    reuss = 5 * (c11 - c12) * c44 / (4 * c44 + 3 * (c11 - c12))
    row = crystals.ids.index(name)
    assert crystals.targets.column("shear_modulus")[row] == pytest.approx(
        (voigt + reuss) / 2, rel=0.15
    )
    assert crystals.targets.column("mechanically_stable")[row] == 1


def test_stable_crystals_alone_have_a_shear_modulus_and_no_hexagonal_one_was_strained(
    crystals,
) -> None:
    shear, stable = (
        crystals.targets.column(name) for name in ("shear_modulus", "mechanically_stable")
    )
    np.testing.assert_array_equal(np.isfinite(shear), stable == 1)
    assert (shear[stable == 1] > 0).all()
    assert (stable == 0).sum() >= 10
    assert not any(
        np.isfinite(stable[row]) for row, name in enumerate(crystals.ids) if name.endswith("-hcp")
    )
    by_name = dict(zip(crystals.ids, stable, strict=True))
    assert by_name["NaCl-rocksalt"] == 1
    assert by_name["NaCl-cesiumchloride"] == 0  # C44 < 0


SPACE_GROUPS = {
    "rocksalt": 225,
    "zincblende": 216,
    "cesiumchloride": 221,
    "fluorite": 225,
    "diamond": 227,
}


@pytest.mark.skipif(
    not MP.exists(), reason="needs Materials Project properties in ../shared/data/mp"
)
def test_shear_moduli_agree_with_those_of_materials_project(crystals) -> None:
    with MP.open() as file:
        rows = [row for row in csv.DictReader(file) if float(row["G_VRH"] or 0) > 0]
    theirs = {(row["formula"], int(row["spacegroup"]), int(row["nsites"])): row for row in rows}
    pairs = []
    for name, formula, species, ours, volume in zip(
        crystals.ids,
        crystals.formulas,
        crystals.species,
        crystals.targets.column("shear_modulus"),
        crystals.targets.column("volume"),
        strict=True,
    ):
        row = theirs.get((formula, SPACE_GROUPS.get(name.split("-")[-1], 0), len(species)))
        same = (
            row is not None and abs(float(row["volume_per_atom"]) * len(species) / volume - 1) < 0.1
        )
        if same and np.isfinite(ours):
            pairs.append((ours, float(row["G_VRH"])))
    ratio = np.divide(*np.array(pairs).T)
    assert len(pairs) >= 20
    assert np.median(np.abs(ratio - 1)) < 0.05
    assert np.mean(np.abs(ratio - 1) < 0.2) > 0.9


# Spin moment, Bohr magnetons per atom, as PBE is known to give it. Our k-grids and volumes are coarse: 0.15.
MOMENTS = {"Fe-bcc-fm": 2.2, "Co-fcc-fm": 1.65, "Ni-fcc-fm": 0.63}
# Half-metallic Heusler crystals have a Bohr magneton for each valence electron beyond 24: Galanakis et al.,
# doi:10.1103/PhysRevB.66.174429
HEUSLERS = {"Co2FeAl": 5, "Co2MnGa": 4, "Co2VAl": 2, "Fe2CrAl": 1, "Fe2CrGe": 2, "Fe2TiSi": 0}


@pytest.fixture(scope="module")
def magnets():
    return load_dataset("magnets")


@pytest.mark.parametrize("name", MOMENTS)
def test_moments_of_the_elements_are_the_well_known_ones(magnets, name: str) -> None:
    assert magnets.targets.column("magnetic_moment")[magnets.ids.index(name)] == pytest.approx(
        MOMENTS[name], abs=0.15
    )


@pytest.mark.parametrize("name", HEUSLERS)
def test_heusler_crystals_follow_slater_and_pauling(magnets, name: str) -> None:
    row = magnets.ids.index(f"{name}-heusler-fm")
    assert 4 * magnets.targets.column("magnetic_moment")[row] == pytest.approx(
        HEUSLERS[name], abs=0.25
    )


def test_the_magnetisation_of_a_magnet_integrates_to_its_moment(magnets) -> None:
    volumes = np.abs(np.linalg.det(magnets.lattices))
    atoms = np.array([len(species) for species in magnets.species])
    moments = np.empty(len(magnets))
    for rows, batch in magnets.density_batches():
        density = batch.astype(float)
        assert density.shape[1] == 2
        moments[rows] = density[:, 1].mean((1, 2, 3)) * volumes[rows] / atoms[rows]
        assert (density[:, 0].max((1, 2, 3)) > np.abs(density[:, 1]).max((1, 2, 3))).all()
    np.testing.assert_allclose(moments, magnets.targets.column("magnetic_moment"), atol=0.02)


@pytest.mark.parametrize("name", ["crystals", "magnets"])
def test_packed_densities_are_in_their_standard_form(name: str) -> None:
    data = load_dataset(name)
    for row in range(0, len(data), 7):
        density = Density(
            data.densities([row])[0],
            data.lattices[row],
            data.species[row],
            data.frac_coords[row],
        )
        form, report = standard_form(density, sigma=0, spacing=0.2)
        assert report.repeats == 1
        # Of axes, and of peaks, that a symmetry exchanges, rounding chooses: values may change places.
        total, again = np.sort(density.values[0], axis=None), np.sort(form.values[0], axis=None)
        assert np.abs(total - again).max() < 5e-3 * total[-1]
        assert density.values[0, 0, 0, 0] > 0.999 * total[-1]


def test_magnets_and_crystals_share_no_row(magnets, crystals) -> None:
    assert not set(magnets.ids) & set(crystals.ids)
    assert magnets.targets.column("is_magnetic").mean() > 0.5


def test_flavours_are_densities_of_crystals_with_their_labels(crystals) -> None:
    flavours = load_dataset("flavours")
    row_of_crystal = {name: row for row, name in enumerate(crystals.ids)}
    assert {name.split("--")[1] for name in flavours.ids} == {
        "augmented",
        "large_core",
        "norm_conserving",
        "norm_conserving_semicore",
    }
    for row, name in enumerate(flavours.ids):
        parent = row_of_crystal[name.split("--")[0]]
        np.testing.assert_array_equal(flavours.targets.values[row], crystals.targets.values[parent])
        assert sorted(flavours.species[row]) == sorted(crystals.species[parent])
        volumes = np.abs(np.linalg.det([flavours.lattices[row], crystals.lattices[parent]]))
        assert volumes[0] == pytest.approx(volumes[1], rel=1e-4)
    assert (flavours.kind, flavours.spacing, flavours.sigma) == (
        crystals.kind,
        crystals.spacing,
        crystals.sigma,
    )


def test_a_flavour_holds_the_valence_electrons_that_its_record_says() -> None:
    flavours = load_dataset("flavours")
    folder = data_folder("flavours")
    records = json.loads(gzip.decompress((folder / "crystals.json.gz").read_bytes()))
    for row in range(0, len(flavours), 9):
        volume = abs(np.linalg.det(flavours.lattices[row]))
        electrons = flavours.densities([row]).astype(float).mean() * volume
        assert electrons == pytest.approx(records[row]["valence_electrons"], rel=2e-3)
