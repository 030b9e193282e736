"""What speaks against a field being the total valence density: name, comment, sign and sum."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from taskgroup.densities import Density, read_density
from taskgroup.densities.electrons import electron_bounds
from taskgroup.densities.elements import (
    SYMBOLS,
    fewest_valence_electrons,
    is_element,
    most_valence_electrons,
)
from taskgroup.densities.fields import negative_share
from taskgroup.errors import DensityError

from .conftest import chgcar_text
from .test_read import cube_text


def write_cube(salt: Density, path: Path, title: str = "title", comment: str = "comment") -> Path:
    lines = cube_text(salt).split("\n")
    path.write_text("\n".join([title, comment, *lines[2:]]))
    return path


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("spin.cube", "a spin density"),
        ("x-SPIN_DENSITY-1_0.cube", "a spin density"),
        ("x.sden.cube", "a spin density"),
        ("x-v_hartree-1_0.cube", "a potential"),
        ("x.vhart.cube", "a potential"),
        ("electrostatic_potential.cub", "a potential"),
        ("ELF.cube", "a localisation function"),
        ("x-ELF_S1-1_0.cube", "a localisation function"),
        ("x-WFN_00008_1-1_0.cube", "an orbital"),
        ("x.homo0_0.cube", "an orbital"),
        ("LUMO.cube", "an orbital"),
        ("PARCHG.cube", "a partial density"),
        ("difference.cube", "a density difference"),
        ("x.dden.cube", "a density difference"),
        ("delta_rho.cube", "a density difference"),
        ("CHGCAR_diff", "a density difference"),
        ("CHGCAR_mag", "a spin density"),
        ("laplacian.cube.gz", "a derivative of the density"),
    ],
)
def test_the_name_of_another_field_is_refused(
    salt: Density, tmp_path: Path, name: str, field: str
) -> None:
    path = tmp_path / name
    one_channel = replace(salt, values=salt.values[:1])
    path.write_text(chgcar_text(one_channel) if "CHGCAR" in name else cube_text(salt))
    with pytest.raises(DensityError, match=f"its name says '.*': {field}; rename the file"):
        read_density(path)
    # The charge is right, and stating it changes nothing.
    with pytest.raises(DensityError, match=field):
        read_density(path, electrons=8)


@pytest.mark.parametrize(
    "name",
    [
        "Li_spin_CHGCAR",
        "spinel.cube",
        "x-ELECTRON_DENSITY-1_0.cube",
        "x.tden.cube",
        "delta-FeOOH.cube",
        "Mo.cube",
        "self-made.cube",
        "diffuse.cube",
        "total_density.cube",
    ],
)
def test_names_of_densities_pass(salt: Density, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(chgcar_text(salt) if "CHGCAR" in name else cube_text(salt))
    assert read_density(path).charge == pytest.approx(8, abs=1e-3)


@pytest.mark.parametrize("name", ["LOCPOT", "ELFCAR.gz", "PARCHG", "PARCHG.0001"])
def test_a_file_of_vasp_that_is_no_density_is_called_what_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("whatever")
    with pytest.raises(DensityError, match="must be a total density, but its name says"):
        read_density(tmp_path / name)


@pytest.mark.parametrize(
    ("title", "comment", "field"),
    [
        ("-Quickstep-", " SPIN DENSITY", "a spin density"),
        ("salt", "Spin density from SCF", "a spin density"),
        ("salt", "Electrostatic potential from Total SCF Density", "a potential"),
        ("-Quickstep-", " HARTREE POTENTIAL", "a potential"),
        ("-Quickstep-", " WAVEFUNCTION 8 spin 1 i.e. HOMO - 0", "an orbital"),
        ("salt mo=12", "MO coefficients", "an orbital"),
        ("salt", "electron localization function", "a localisation function"),
        ("salt", "delta_density", "a density difference"),
        ("salt", "charge density difference", "a density difference"),
        ("salt", "LDOS at 1.2 eV", "a partial density"),
        ("salt", "Alpha density from Total SCF Density", "a partial density"),
        ("salt", "Laplacian of the density", "a derivative of the density"),
    ],
)
def test_the_comment_of_another_field_is_refused(
    salt: Density, tmp_path: Path, title: str, comment: str, field: str
) -> None:
    path = write_cube(salt, tmp_path / "salt.cube", title, comment)
    with pytest.raises(DensityError, match=f"its comment says '.*': {field}; correct"):
        read_density(path)


@pytest.mark.parametrize(
    "comment",
    [
        " SUM OF ALPHA AND BETA DENSITY",
        " ELECTRON DENSITY",
        "Electron density from Total SCF Density",
        "total density with GBRV pseudopotentials",
        "made with a norm-conserving pseudopotential",
        " Contains the selected quantity on a FFT grid",
        "Li spin-polarised",
    ],
)
def test_comments_of_densities_pass(salt: Density, tmp_path: Path, comment: str) -> None:
    path = write_cube(salt, tmp_path / "salt.cube", "title", comment)
    assert read_density(path).charge == pytest.approx(8, abs=1e-3)


def test_a_comment_in_a_chgcar_counts_too(salt: Density, tmp_path: Path) -> None:
    path = tmp_path / "CHGCAR"
    path.write_text(chgcar_text(salt).replace("a comment", "charge density difference"))
    with pytest.raises(DensityError, match="a density difference"):
        read_density(path)


def test_a_field_of_both_signs_is_refused_whatever_its_integral(
    salt: Density, tmp_path: Path
) -> None:
    signs = np.where(np.arange(12) % 2, 1, -1)[:, None, None]
    values = salt.values[:1] + 2 * salt.values[:1].mean() * signs
    both_signs = replace(salt, values=values)
    assert both_signs.charge == pytest.approx(8)
    path = tmp_path / "CHGCAR"
    path.write_text(chgcar_text(both_signs))
    for arguments in ({}, {"electrons": 8}, {"all_electron": True}):
        with pytest.raises(
            DensityError, match=r"nowhere negative.*found .* % in a field of 8\.0000"
        ):
            read_density(path, **arguments)


def test_the_negative_share_is_that_of_the_absolute_value(salt: Density) -> None:
    values = np.array([3.0, -1.0]).reshape(1, 2, 1, 1)
    assert negative_share(replace(salt, values=values)) == pytest.approx(0.25)
    assert negative_share(replace(salt, values=0 * values)) == 0


def test_all_electrons_of_an_atom_with_a_core_are_no_valence(salt: Density, tmp_path: Path) -> None:
    path = tmp_path / "CHGCAR"
    all_electrons = replace(salt, values=salt.values[:1] * 28 / 8)
    path.write_text(chgcar_text(all_electrons))
    with pytest.raises(DensityError, match=r"holds core electrons .more than the 24 .*found 28"):
        read_density(path)
    assert read_density(path, all_electron=True).kind == "all-electron"


def test_light_atoms_may_have_all_electrons_in_the_valence(salt: Density, tmp_path: Path) -> None:
    path = tmp_path / "CHGCAR"
    lithium_hydride = replace(salt, species=("Li", "H"), values=salt.values[:1] * 4 / 8)
    path.write_text(chgcar_text(lithium_hydride))
    assert read_density(path).kind == "valence"


def test_a_partial_density_has_too_few_electrons(salt: Density, tmp_path: Path) -> None:
    path = tmp_path / "CHGCAR"
    one_state = replace(salt, values=salt.values[:1] * 2 / 8)
    path.write_text(chgcar_text(one_state))
    with pytest.raises(
        DensityError, match="8 to 24 valence electrons; this is a partial or a spin"
    ):
        read_density(path)
    assert read_density(path, electrons=2).charge == pytest.approx(2)


def test_the_valence_of_every_element_has_bounds() -> None:
    for number, symbol in enumerate(SYMBOLS, start=1):
        assert 1 <= fewest_valence_electrons(symbol) <= most_valence_electrons(symbol) <= number
    # Electrons of VASP's POTCARs, smallest and largest of an element, lie within them.
    for symbol, fewest, most in (
        ("H", 1, 1), ("Li", 1, 3), ("Be", 2, 4), ("C", 4, 4), ("Na", 1, 9), ("Al", 3, 3), ("Si", 4, 12),
        ("K", 7, 9), ("Ca", 8, 10), ("Ti", 4, 12), ("Fe", 8, 16), ("Cu", 11, 17), ("Zn", 12, 20),
        ("Ga", 3, 21), ("Ag", 11, 17), ("In", 3, 13), ("Cs", 9, 9), ("La", 9, 11), ("Gd", 9, 18),
        ("Yb", 8, 24), ("Lu", 9, 25), ("W", 6, 14), ("Pb", 4, 16), ("U", 14, 14),
    ):  # fmt: skip
        assert fewest_valence_electrons(symbol) <= fewest
        assert most <= most_valence_electrons(symbol)
    assert electron_bounds(("Na", "Cl")) == (8, 24)
    assert not any(map(is_element, ("X", "Va", "A", "", "na")))


@pytest.mark.parametrize(
    ("factor", "cause"),
    [
        ("volume", "rho times the cell's volume"),
        ("angstrom", "e/Å.3 in place of e/Bohr.3"),
    ],
)
def test_a_cube_in_another_unit_is_named(
    salt: Density, tmp_path: Path, factor: str, cause: str
) -> None:
    from taskgroup.densities._units import BOHR

    factors = {"volume": salt.volume / BOHR**3, "angstrom": 1 / BOHR**3}
    path = tmp_path / "salt.cube"
    path.write_text(cube_text(replace(salt, values=salt.values * factors[factor])))
    with pytest.raises(DensityError, match=rf"look like {cause}.*which would be 8\.000"):
        read_density(path)


def test_a_chgcar_without_the_factor_of_the_volume_is_named(salt: Density, tmp_path: Path) -> None:
    path = tmp_path / "CHGCAR"
    path.write_text(chgcar_text(replace(salt, values=salt.values[:1] / salt.volume)))
    with pytest.raises(DensityError, match=r"rho without the factor of the cell's volume.*8\.0000"):
        read_density(path)


@pytest.mark.parametrize("axes", [(0,), (2,), (0, 1, 2)])
def test_repeated_last_planes_are_named(
    salt: Density, tmp_path: Path, axes: tuple[int, ...]
) -> None:
    values = salt.values
    lattice = salt.lattice.copy()
    for axis in axes:
        first = np.take(values, [0], axis=axis + 1)
        values = np.concatenate([values, first], axis=axis + 1)
        # The voxels keep their edge, so the cell that they span grows by a plane.
        lattice[axis] *= values.shape[axis + 1] / (values.shape[axis + 1] - 1)
    path = tmp_path / "salt.cube"
    path.write_text(cube_text(replace(salt, values=values, lattice=lattice)))
    names = ", ".join("abc"[axis] for axis in axes)
    with pytest.raises(DensityError, match=rf"last planes along {names} repeat.*it is 8\.000"):
        read_density(path)
