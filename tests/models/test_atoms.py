"""Networks that are given the atoms: what their rows hold, what is refused, what the density adds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from taskgroup.datasets import load_dataset
from taskgroup.datasets.composition import PROPERTIES, element_properties
from taskgroup.datasets.crystals import data_folder
from taskgroup.densities import equivalent_descriptions, read_density, standard_form
from taskgroup.errors import ConfigError
from taskgroup.models import AtomBatch, CrystalBatch, ModelConfig, make_view
from taskgroup.models.backbones.known_elements import KnownElements
from taskgroup.models.testing import random_crystals
from taskgroup.models.views.atoms import CORE_RADIUS, outside_cores
from taskgroup.training.device_rows import prepare_rows

from .conftest import make_network

KNOWN = {"backbone": "peaks", "atoms": "structure", "widths": (), "fields": ("density",)}


def _crystal(name):
    dataset = load_dataset("crystals")
    row = dataset.ids.index(name)
    atoms = AtomBatch.of([dataset.species[row]], [dataset.frac_coords[row]])
    return CrystalBatch.of(dataset.densities([row]), dataset.lattices[[row]], atoms, dataset.sigma)


def test_a_row_lists_the_atoms_with_their_numbers_and_places():
    crystals = random_crystals(3)
    rows = make_view(ModelConfig(**KNOWN), 1).prepare(crystals)
    torch.testing.assert_close(rows["peaks"][:, :, 1], crystals.atoms.numbers.float())
    assert torch.equal(rows["peaks"][:, :, 0] > 0, crystals.atoms.numbers > 0)
    torch.testing.assert_close(rows["positions"], crystals.atoms.positions)


def test_a_core_that_another_code_treats_otherwise_is_not_seen():
    """Charge within half a CORE_RADIUS of an atom changes nothing; the same charge between the atoms does."""
    crystal = _crystal("NaCl-rocksalt")
    view = make_view(ModelConfig(**KNOWN), 1)
    seen = view.prepare(crystal)["statistics"]
    core, between = (_with_charge(crystal, place) for place in (0, 1))
    torch.testing.assert_close(view.prepare(core)["statistics"], seen)
    assert (view.prepare(between)["statistics"] - seen).abs().max() > 0.1


def _with_charge(crystal, place):
    """Return a crystal with more charge on the grid points near its first atom, or on those far from all atoms."""
    outside = outside_cores(crystal)[0]
    n1, n2, n3 = outside.shape
    x, y, z = (crystal.atoms.positions[0, 0] * torch.tensor([n1, n2, n3])).round().long().tolist()
    near_atom = torch.zeros_like(outside)
    near_atom[x % n1, y % n2, z % n3] = True
    chosen = outside if place else near_atom
    assert not (near_atom & outside).any()
    return replace(crystal, density=crystal.density + 0.5 * chosen)


def test_points_outside_of_cores_are_far_from_all_images_of_all_atoms():
    crystals = random_crystals(3, grid=16)
    outside = outside_cores(crystals)
    images = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), axis=-1).reshape(-1, 1, 3)
    for row in range(3):
        cell = crystals.lattice[row].numpy()
        is_atom = crystals.atoms.numbers[row] > 0
        atoms = (crystals.atoms.positions[row][is_atom].numpy() + images).reshape(-1, 3) @ cell
        points = np.stack(np.meshgrid(*[np.arange(16) / 16] * 3, indexing="ij"), axis=-1) @ cell
        distance = np.linalg.norm(points[..., None, :] - atoms, axis=-1).min(-1)
        clear = np.abs(distance - CORE_RADIUS) > 1e-3
        assert (outside[row].numpy() == (distance > CORE_RADIUS))[clear].all()


def test_where_all_points_are_near_an_atom_all_of_them_count():
    crystals = random_crystals(1)
    assert outside_cores(replace(crystals, lattice=0.2 * crystals.lattice)).all()


def test_without_the_density_all_its_columns_are_zero():
    crystals = random_crystals(3)
    rows = make_view(ModelConfig(**KNOWN | {"atoms": "structure_alone"}), 1).prepare(crystals)
    other = replace(crystals, density=crystals.density.flip(0))
    again = make_view(ModelConfig(**KNOWN | {"atoms": "structure_alone"}), 1).prepare(other)
    assert (rows["statistics"] == 0).all()
    for tensor, same in zip(rows.tensors, again.tensors, strict=True):
        assert torch.equal(tensor, same)


def test_a_prediction_does_not_depend_on_the_order_of_the_atoms():
    crystals = random_crystals(3)
    network = make_network(**KNOWN)
    order = torch.tensor([2, 0, 1])
    atoms = AtomBatch(crystals.atoms.numbers[:, order], crystals.atoms.positions[:, order])
    turned = replace(crystals, atoms=atoms)
    torch.testing.assert_close(network.predict(turned), network.predict(crystals))


def test_a_prediction_hardly_depends_on_the_cell_that_describes_the_crystal():
    density = read_density(data_folder("crystals") / "chgcar" / "HfRu-cesiumchloride.CHGCAR.gz")
    network = make_network(**KNOWN, lowpass=0.4)
    random = np.random.default_rng(0)
    others = [equivalent_descriptions(density, random) for _ in range(2)]
    batches = []
    for description in (density, *others):
        standard, _ = standard_form(description)
        atoms = AtomBatch.of([standard.species], [standard.frac_coords])
        batches.append(CrystalBatch.of(standard.values[None], standard.lattice[None], atoms))
    first, *rest = [network.predict(batch) for batch in batches]
    for prediction in rest:
        torch.testing.assert_close(prediction, first, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("numbers", [None, torch.tensor([[11, 17], [0, 0]])])
def test_crystals_without_atoms_are_refused(numbers):
    crystals = random_crystals(2)
    atoms = None if numbers is None else AtomBatch(numbers, torch.zeros(2, 2, 3))
    with pytest.raises(ConfigError, match=r"model\.atoms: .* found one without"):
        make_view(ModelConfig(**KNOWN), 1).prepare(replace(crystals, atoms=atoms))


def test_a_row_of_a_dataset_without_atoms_is_named():
    dataset = load_dataset("crystals").subset(range(4))
    species = list(dataset.species)
    species[2] = ()
    lacking = replace(dataset, species=species)
    view = make_view(ModelConfig(**KNOWN), 1)
    with pytest.raises(ConfigError, match=f"row '{dataset.ids[2]}' has none"):
        prepare_rows(lacking, view, torch.device("cpu"))


def test_a_backbone_that_takes_no_atoms_refuses_them():
    with pytest.raises(
        ValueError, match=r"needs a backbone that takes atoms \(peaks\), found msa3"
    ):
        ModelConfig(atoms="structure")


def test_known_elements_have_their_properties_and_the_embedding_of_an_unseen_one_says_nothing():
    known = KnownElements()
    rows = known(torch.tensor([0.0, 11.0, 17.0, 118.0]))
    assert (rows[0] == 0).all()
    assert (rows[3] == 0).all()
    column = PROPERTIES.index("X")
    chlorine, sodium = element_properties("Cl"), element_properties("Na")
    assert (rows[2, column] > rows[1, column]) == (chlorine[column] > sodium[column])


@pytest.mark.parametrize("backbone", ["peaks", "descriptors", "msa3dcnn"])
def test_a_low_pass_in_all_counts_that_of_the_stored_rows(backbone):
    crystals = random_crystals(3, grid=16)
    settings = {"backbone": backbone, "grid": 8, "widths": ()}
    plain = make_view(ModelConfig(**settings), 1)
    smooth = make_view(ModelConfig(**settings, lowpass=0.5), 1)
    assert plain.key != smooth.key
    # densities that were stored as smooth as that are seen as they are
    stored = smooth.prepare(replace(crystals, sigma=0.5))
    for tensor, same in zip(plain.prepare(crystals).tensors, stored.tensors, strict=True):
        assert torch.equal(tensor, same)
    further = smooth.prepare(replace(crystals, sigma=0.3))
    twice = smooth.prepare(crystals)
    assert not torch.equal(further.tensors[0], twice.tensors[0])
    with pytest.raises(ConfigError, match=r"model\.lowpass: .* 0\.6 Å, found 0\.5"):
        smooth.prepare(replace(crystals, sigma=0.6))
