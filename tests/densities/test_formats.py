"""Readers of ABINIT's netCDF and of XSF, on files made here."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from taskgroup.densities import Density, read_density, reader_for
from taskgroup.densities._units import BOHR
from taskgroup.densities.formats.abinit import AbinitReader
from taskgroup.densities.formats.xsf import XsfReader
from taskgroup.densities.testing import FileReaderConformance
from taskgroup.errors import DensityError


def write_netcdf(
    path: Path, density: Density, components: np.ndarray, /, **changes: object
) -> Path:
    """A file with the variables that the ETSF-IO specification names, in its order of axes."""
    netcdf = pytest.importorskip("netCDF4")
    numbers = [site.specie.Z for site in density.structure]
    kinds = sorted(set(numbers))
    content = {
        "primitive_vectors": density.lattice / BOHR,
        "reduced_atom_positions": density.frac_coords,
        "atom_species": np.array([kinds.index(number) + 1 for number in numbers]),
        "atomic_numbers": np.array(kinds, dtype=float),
        "density": components.transpose(0, 3, 2, 1)[..., None] * BOHR**3,
    } | changes
    with netcdf.Dataset(str(path), "w") as file:
        for name, value in content.items():
            if value is None:
                continue
            array = np.asarray(value)
            axes = []
            for axis, size in enumerate(array.shape):
                file.createDimension(f"{name}_{axis}", size)
                axes.append(f"{name}_{axis}")
            file.createVariable(name, array.dtype, axes)[:] = array
    return path


class TestAbinitReader(FileReaderConformance):
    reader = AbinitReader()

    @pytest.fixture
    def example(self, salt: Density, tmp_path: Path) -> tuple[Path, float]:
        return write_netcdf(tmp_path / "salt_DEN.nc", salt, salt.values[:1]), 8.0


def test_components_of_abinit_become_total_and_magnetisation(salt: Density, tmp_path: Path) -> None:
    total, magnetisation = salt.values
    path = tmp_path / "out_DEN.nc"
    found = read_density(write_netcdf(path, salt, np.stack([total, (total + magnetisation) / 2])))
    np.testing.assert_allclose(found.values, salt.values, rtol=1e-9)
    np.testing.assert_allclose(found.lattice, salt.lattice, rtol=1e-9)
    np.testing.assert_allclose(found.frac_coords, salt.frac_coords)
    assert found.species == ("Na", "Cl")
    vector = np.stack([total, 0.6 * magnetisation, 0 * total, 0.8 * magnetisation])
    found = read_density(write_netcdf(path, salt, vector))
    np.testing.assert_allclose(found.values[1], abs(magnetisation), rtol=1e-9)


@pytest.mark.parametrize(
    "changes",
    [
        {"density": None},
        {"density": np.ones((1, 9, 10, 12))},
        {"density": np.ones((3, 9, 10, 12, 1))},
        {"density": np.ones((1, 9, 10, 12, 2))},
        {"atom_species": np.array([1, 7])},
        {"atomic_numbers": np.array([0.0, 17.0])},
        {"primitive_vectors": np.ones((3, 3))},
    ],
)
def test_other_netcdf_files_are_refused(salt: Density, tmp_path: Path, changes: dict) -> None:
    path = write_netcdf(tmp_path / "x_DEN.nc", salt, salt.values[:1], **changes)
    with pytest.raises(DensityError, match=r"x_DEN\.nc"):
        read_density(path)


def xsf_text(
    density: Density, unit: float = BOHR**3, origin: str = "0 0 0", label: str = "rho"
) -> str:
    """A general grid as XCrySDen defines it: both ends of each vector, x fastest."""
    lines = ["CRYSTAL", "PRIMVEC", *(" ".join(f"{x:.9f}" for x in row) for row in density.lattice)]
    lines += ["PRIMCOORD", f"{len(density.species)} 1"]
    for site in density.structure:
        lines.append(f"{site.specie.Z} " + " ".join(f"{x:.9f}" for x in site.coords))
    closed = np.pad(density.values[0] * unit, ((0, 1),) * 3, mode="wrap")
    lines += ["BEGIN_BLOCK_DATAGRID_3D", "grids", f"BEGIN_DATAGRID_3D_{label}"]
    lines += [" ".join(map(str, closed.shape)), origin]
    lines += [" ".join(f"{x:.9f}" for x in row) for row in density.lattice]
    lines += [f"{x:.9E}" for x in closed.ravel(order="F")]
    lines += ["END_DATAGRID_3D", "END_BLOCK_DATAGRID_3D"]
    return "\n".join(lines) + "\n"


class TestXsfReader(FileReaderConformance):
    reader = XsfReader()

    @pytest.fixture
    def example(self, salt: Density, tmp_path: Path) -> tuple[Path, float]:
        path = tmp_path / "salt.xsf"
        path.write_text(xsf_text(salt))
        return path, 8.0


@pytest.mark.parametrize("unit", [BOHR**3, 1.0])
def test_both_units_of_xsf_are_told_apart_by_the_count(
    salt: Density, tmp_path: Path, unit: float
) -> None:
    path = tmp_path / "salt.xsf"
    path.write_text(xsf_text(salt, unit))
    found = read_density(path)
    np.testing.assert_allclose(found.values, salt.values[:1], rtol=1e-8)
    np.testing.assert_allclose(found.frac_coords, salt.frac_coords, atol=1e-7)


def test_an_origin_of_xsf_shifts_the_atoms(salt: Density, tmp_path: Path) -> None:
    path = tmp_path / "salt.xsf"
    origin = " ".join(f"{x:.9f}" for x in salt.lattice[0] / 12)
    path.write_text(xsf_text(salt, origin=origin))
    shifted = salt.frac_coords - [1 / 12, 0, 0]
    np.testing.assert_allclose(read_density(path).frac_coords, shifted, atol=1e-7)


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("13 11 10", "12 11 10", "XSF|last plane|values"),
        ("13 11 10", "13 11 1000000", "must hold 143000000 values"),
        ("13 11 10", "13 eleven 10", "three whole numbers"),
        ("DATAGRID_3D_rho", "DATAGRID_3D_spin_density", "a spin density"),
        ("PRIMVEC", "PRIMVAC", "XSF"),
    ],
)
def test_damaged_xsf_files_are_refused(
    salt: Density, tmp_path: Path, old: str, new: str, rule: str
) -> None:
    path = tmp_path / "x.xsf"
    text = xsf_text(salt)
    path.write_text(text.replace(old, new))
    with pytest.raises(DensityError, match=rule):
        read_density(path)


def test_an_xsf_without_repeated_planes_is_refused(salt: Density, tmp_path: Path) -> None:
    path = tmp_path / "x.xsf"
    text = xsf_text(salt).split("\n")
    text[-4] = "9.0E+01"
    path.write_text("\n".join(text))
    with pytest.raises(DensityError, match="last plane along a does not repeat the first"):
        read_density(path)


def test_an_xsf_without_a_grid_is_no_density(salt: Density, tmp_path: Path) -> None:
    path = tmp_path / "x.xsf"
    path.write_text(xsf_text(salt).split("BEGIN_BLOCK")[0])
    with pytest.raises(DensityError, match="no reader suits it"):
        reader_for(path)


def test_the_grid_of_xsf_must_span_the_cell(salt: Density, tmp_path: Path) -> None:
    path = tmp_path / "x.xsf"
    half = replace(salt, lattice=salt.lattice / 2)
    grid = "BEGIN_BLOCK" + xsf_text(half).split("BEGIN_BLOCK", 1)[1]
    path.write_text(xsf_text(salt).split("BEGIN_BLOCK")[0] + grid)
    with pytest.raises(DensityError, match="must span the primitive cell"):
        read_density(path)
