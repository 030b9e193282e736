"""Vacuum is found in slabs, wires and molecules, whatever their cell, and in no crystal."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from taskgroup.densities import find_vacuum, promolecule, standard_promolecule

SHARED = Path(__file__).parents[3] / "shared" / "data"
A = 3.16
MOS2 = (["Mo", "S", "S"], [[0, 0, 0.0], [1 / 3, 2 / 3, 1.56], [1 / 3, 2 / 3, -1.56]])


def slab(height: float) -> tuple:
    """A layer of MoS2 in a cell so high, Å."""
    lattice = np.array([[A, 0, 0], [-A / 2, A * 3**0.5 / 2, 0], [0, 0, height]])
    species, places = MOS2
    frac_coords = np.array(places) / [1, 1, height]
    return lattice, species, frac_coords


@pytest.mark.parametrize(
    ("lattice", "species", "frac_coords", "form"),
    [
        (*slab(20.0), "a slab"),
        (np.diag([12.0, 3.0, 12.0]), ["Au"], [[0, 0, 0]], "a wire"),
        (
            np.diag([12.0, 11.0, 12.0]),
            ["O", "H", "H"],
            [[0.5, 0.5, 0.5], [0.58, 0.5, 0.5], [0.48, 0.58, 0.5]],
            "a molecule",
        ),
        (*slab(6.2), ""),
        (4.05 / 2 * (1 - np.eye(3)), ["Al"], [[0, 0, 0]], ""),
        (np.diag([5.6, 5.6, 5.6]), ["Xe"], [[0, 0, 0]], ""),
    ],
    ids=["slab", "wire", "molecule", "layered crystal", "metal", "sparse crystal"],
)
def test_the_form_of_a_cell_is_recognised(lattice, species, frac_coords, form) -> None:
    density, _ = standard_promolecule((lattice, species, frac_coords), spacing=0.2)
    vacuum = find_vacuum(density.values[0], density.lattice)
    assert vacuum.form == form
    assert bool(vacuum) == bool(form)
    assert form in str(vacuum)


def test_the_vacuum_of_a_slab_is_as_thick_as_it_was_made() -> None:
    thickness = []
    for height in (16.0, 26.0):
        density = promolecule(slab(height), spacing=0.2)
        vacuum = find_vacuum(density.values[0], density.lattice)
        assert vacuum.directions == ("c",)
        assert vacuum.share > 0.3
        thickness.append(vacuum.thickness[2])
    assert thickness[1] - thickness[0] == pytest.approx(10.0, abs=0.4)


def test_vacuum_is_measured_across_the_planes_of_a_skewed_cell() -> None:
    lattice, species, frac_coords = slab(20.0)
    skewed = lattice + np.array([[0, 0, 0], [0, 0, 0], 2 * lattice[0]])
    cartesian = np.array(frac_coords) @ lattice
    upright = promolecule((lattice, species, frac_coords), spacing=0.2)
    leaning = promolecule((skewed, species, cartesian @ np.linalg.inv(skewed)), spacing=0.2)
    thickness = [
        find_vacuum(density.values[0], density.lattice).thickness[2]
        for density in (upright, leaning)
    ]
    assert thickness[0] == pytest.approx(thickness[1], abs=0.4)


@pytest.mark.skipif(not SHARED.exists(), reason="needs public data in ../shared/data")
def test_slabs_of_matbench_have_vacuum_along_one_vector() -> None:
    from pymatgen.core import Structure

    with gzip.open(SHARED / "matbench" / "matbench_jdft2d.json.gz", "rt") as file:
        rows = json.load(file)["data"][::90]
    for content, _ in rows:
        density, _ = standard_promolecule(Structure.from_dict(content), spacing=0.2)
        assert find_vacuum(density.values[0], density.lattice).form == "a slab"
