"""Cells that make no sense, or nearly do: clear words, and no long wait."""

import time

import numpy as np
import pytest

from taskgroup.densities import (
    Density,
    promolecule,
    spaced_grid,
    standard_form,
    standard_promolecule,
)
from taskgroup.errors import ConfigError, DensityError


def chain(n_atoms: int, edge: float = 2.5) -> tuple:
    places = np.zeros((n_atoms, 3))
    places[:, 2] = np.arange(n_atoms) / n_atoms
    return np.diag([edge, edge, edge * n_atoms]), ["Al"] * n_atoms, places


def test_ten_thousand_atoms_are_refused_at_once() -> None:
    started = time.process_time()
    with pytest.raises(DensityError, match="at most 2000 atoms, found 10000; give the primitive"):
        standard_promolecule(chain(10_000), spacing=0.2)
    assert time.process_time() - started < 1


def test_a_density_of_ten_thousand_atoms_is_brought_to_its_primitive_cell_in_seconds() -> None:
    places = np.stack(np.meshgrid(*[np.arange(22)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) / 22
    values = np.tile(promolecule(chain(1), n=4).values, (1, 22, 22, 22))
    lattice = 2.5 * 22 * np.eye(3)
    density = Density(values, lattice, ("Al",) * len(places), places)
    started = time.process_time()
    cell, report = standard_form(density, spacing=0.2)
    assert time.process_time() - started < 20
    assert len(cell.species) == 1
    assert "22x22x22 supercell of 1 atom" in str(report)


@pytest.mark.parametrize("thin", [0.0, 1e-12, 0.05])
def test_a_cell_of_no_thickness_is_refused_in_one_line(thin: float) -> None:
    lattice = np.diag([3.0, 3.0, thin])
    with pytest.raises(DensityError, match=r"must span a volume|at least 0.3 Å thick") as caught:
        standard_promolecule((lattice, ["Al"], [[0, 0, 0]]), spacing=0.2)
    assert "\n" not in str(caught.value)


def test_a_lattice_in_the_wrong_unit_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(ConfigError, match="check the unit of the lattice"):
        spaced_grid(5000 * np.eye(3), spacing=0.2)


def test_a_nearly_periodic_density_keeps_its_cell_and_says_so() -> None:
    lattice, species, places = chain(2, edge=3.0)
    density = promolecule((lattice, species, places), spacing=0.15)
    ripple = 1 + 0.02 * np.cos(2 * np.pi * np.arange(density.grid[2]) / density.grid[2])
    nearly = Density(density.values * ripple, lattice, tuple(species), places)
    cell, report = standard_form(nearly, spacing=0.2)
    assert len(cell.species) == 2
    assert "nearly periodic: kept (differs by" in report.note
    exactly, report = standard_form(density, spacing=0.2)
    assert len(exactly.species) == 1
    assert "supercell" in report.note
