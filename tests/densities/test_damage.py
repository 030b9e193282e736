"""Slips of writers that are repaired, and damage that is refused in one line."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from taskgroup.densities import Density, Reader, read_density
from taskgroup.densities import read as read_module
from taskgroup.densities.formats.numbers import repaired
from taskgroup.errors import DensityError

from .conftest import chgcar_text
from .test_read import cube_text

Writer = Callable[[Density], str]


def one_channel_chgcar(density: Density) -> str:
    return chgcar_text(replace(density, values=density.values[:1]))


@pytest.fixture(params=["CHGCAR", "salt.cube"])
def written(request: pytest.FixtureRequest, salt: Density, tmp_path: Path) -> Path:
    """A valid file of each text format, with 8 electrons."""
    path = tmp_path / request.param
    path.write_text(one_channel_chgcar(salt) if path.name == "CHGCAR" else cube_text(salt))
    return path


def refusal(path: Path, **arguments: object) -> str:
    with pytest.raises(DensityError) as caught:
        read_density(path, **arguments)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    return message


def test_exponents_with_d_are_read(written: Path) -> None:
    expected = read_density(written)
    text = written.read_text()
    assert "E-0" in text or "E+0" in text
    written.write_text(text.replace("E-0", "D-0").replace("E+0", "D+0"))
    np.testing.assert_array_equal(read_density(written).values, expected.values)


def test_exponents_without_e_are_read(written: Path, salt: Density) -> None:
    small = salt.values.copy()
    small[0, 0, 0, :3] = 0
    scaled = replace(salt, values=small * 8 / replace(salt, values=small).charge)
    text = one_channel_chgcar(scaled) if written.name == "CHGCAR" else cube_text(scaled)
    for zero in ("0.00000000000E+00", "0.00000000E+00"):
        text = text.replace(zero, "0.33000-101")
    assert text.count("0.33000-101") == 3
    written.write_text(text)
    density = read_density(written)
    assert density.charge == pytest.approx(8, abs=1e-3)
    assert (density.values[0, 0, 0, :3] < 1e-99).all()


def test_numbers_glued_by_their_signs_are_read(written: Path, salt: Density) -> None:
    negative = salt.values.copy()
    negative[0, 3, 4, 5] *= -0.1
    density = replace(salt, values=negative * 8 / replace(salt, values=negative).charge)
    text = one_channel_chgcar(density) if written.name == "CHGCAR" else cube_text(density)
    lines = text.split("\n")
    glued = [line.replace(" -", "-") if "E" in line else line for line in lines]
    assert glued != lines
    written.write_text("\n".join(glued))
    np.testing.assert_allclose(read_density(written).values, density.values[:1], rtol=1e-7)


def test_repairs_leave_what_is_right_alone() -> None:
    right = b"1.5E-05 -2.0e+10 3 0.25 -7.125E-101\n"
    assert repaired(right) == right
    assert repaired(b"1.5D+01 2d0") == b"1.5E+01 2E0"
    assert repaired(b"0.33000-101 -0.1E+01-0.2E+01") == b"0.33000E-101 -0.1E+01 -0.2E+01"
    assert repaired(b"0.5-0.25-.75") == b"0.5 -0.25 -.75"
    assert repaired(b"0.1E+010.2E+01") == b"0.1E+01 0.2E+01"


def test_stars_are_named(written: Path) -> None:
    text = written.read_text()
    value = text.split()[-40 if written.name == "CHGCAR" else -1]
    written.write_text(text.replace(value, "*" * len(value), 1))
    assert "a number did not fit its column" in refusal(written)


@pytest.mark.parametrize("species", ["X", "Va", "A", "Xx", "Na1", "123"])
def test_species_that_are_no_elements_are_refused(
    salt: Density, tmp_path: Path, species: str
) -> None:
    path = tmp_path / "CHGCAR"
    path.write_text(chgcar_text(salt).replace("Na Cl", f"{species} Cl"))
    message = refusal(path)
    assert "every species must be an element" in message or "must be whole" in message
    refusal(path, electrons=8)


def test_pseudo_hydrogens_are_hydrogen_with_a_stated_charge(salt: Density, tmp_path: Path) -> None:
    path = tmp_path / "CHGCAR"
    saturated = replace(salt, values=salt.values * 8.25 / 8)
    path.write_text(chgcar_text(saturated).replace("Na Cl", "H1.25 Cl"))
    assert "must hold a whole number" in refusal(path)
    density = read_density(path, electrons=8.25)
    assert density.species == ("H", "Cl")
    assert "within 1 %" in refusal(path, electrons=9)


def test_names_with_potcar_and_hash_are_their_elements(salt: Density, tmp_path: Path) -> None:
    path = tmp_path / "CHGCAR"
    path.write_text(chgcar_text(salt).replace("Na Cl", "Na_pv/f474ac0d Cl/79d9987ad87"))
    assert read_density(path).species == ("Na", "Cl")


@pytest.mark.parametrize(
    "counts",
    ["-1 1", "1 -1", "0 0", "1", "1 1 1", "1.5 1", "100000000 1", "1 99999999999999999999"],
)
def test_absurd_counts_are_refused(salt: Density, tmp_path: Path, counts: str) -> None:
    path = tmp_path / "CHGCAR"
    path.write_text(chgcar_text(salt).replace("\n1 1\n", f"\n{counts}\n"))
    refusal(path)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (2, "100000000 0 0 0"),
        (2, "99999999999999999999999 0 0 0"),
        (3, "100000000 0.1 0.2 0.3"),
        (3, "999999999999999999999999 0.1 0.2 0.3"),
        (3, "12 inf 0 0"),
        (4, "10 nan 0 0"),
        (6, "0 0.0 0 0 0"),
        (6, "-3 0.0 0 0 0"),
        (6, "1.5 0.0 0 0 0"),
        (6, "inf 0.0 0 0 0"),
        (2, "2 0 0 0 2"),
        (2, "-2 0 0 0"),
    ],
)
def test_absurd_cube_headers_are_refused(
    salt: Density, tmp_path: Path, line: int, text: str
) -> None:
    path = tmp_path / "salt.cube"
    lines = cube_text(salt).split("\n")
    lines[line] = text
    path.write_text("\n".join(lines))
    refusal(path)


@pytest.mark.parametrize(
    ("grid", "planes"),
    [
        ("11 9 8", "first planes are repeated at the end along a, b, c"),
        ("11 10 9", "first planes are repeated at the end along a"),
        ("13 10 9", "last planes are missing along a"),
        ("12 11 9", "last planes are missing along b"),
    ],
)
def test_a_grid_with_other_planes_is_named(
    salt: Density, tmp_path: Path, grid: str, planes: str
) -> None:
    path = tmp_path / "salt.cube"
    lines = cube_text(salt).split("\n")
    for number, count in enumerate(grid.split(), start=3):
        lines[number] = " ".join([count, *lines[number].split()[1:]])
    path.write_text("\n".join(lines))
    assert planes in refusal(path)


def test_pseudopotential_charges_of_the_header_settle_a_small_miss(
    salt: Density, tmp_path: Path
) -> None:
    path = tmp_path / "salt.cube"
    lines = cube_text(replace(salt, values=salt.values * 7.99 / 8)).split("\n")
    assert "must hold a whole number" in _refusal_of_lines(path, lines)
    for number, charge in ((6, "1.0"), (7, "7.0")):
        words = lines[number].split()
        lines[number] = " ".join([words[0], charge, *words[2:]])
    path.write_text("\n".join(lines))
    assert read_density(path).charge == pytest.approx(8, abs=1e-9)
    path.write_text("\n".join(lines).replace(" 7.0 ", " 7.5 "))
    assert "must hold a whole number" in refusal(path)


def _refusal_of_lines(path: Path, lines: list[str]) -> str:
    path.write_text("\n".join(lines))
    return refusal(path)


def test_three_scale_factors_stretch_the_components(salt: Density, tmp_path: Path) -> None:
    path = tmp_path / "CHGCAR"
    factors = np.array([1.1, 0.9, 1.2])
    path.write_text(chgcar_text(salt).replace("\n1.0\n", "\n1.1 0.9 1.2\n"))
    density = read_density(path)
    np.testing.assert_allclose(density.lattice, salt.lattice * factors, atol=1e-8)
    np.testing.assert_allclose(density.frac_coords, salt.frac_coords, atol=1e-6)
    cartesian = (
        chgcar_text(salt).replace("\n1.0\n", "\n1.1 0.9 1.2\n").replace("Direct", "Cartesian")
    )
    rows = "\n".join(" ".join(f"{x:.6f}" for x in row) for row in salt.frac_coords)
    positions = salt.frac_coords @ salt.lattice
    new_rows = "\n".join(" ".join(f"{x:.9f}" for x in row) for row in positions)
    path.write_text(cartesian.replace(rows, new_rows))
    np.testing.assert_allclose(read_density(path).frac_coords, salt.frac_coords, atol=1e-6)


@pytest.mark.parametrize("scale", ["1 2", "0", "nan", "inf", "1 1 0", "-1 1 1", "one", ""])
def test_other_scales_are_refused(salt: Density, tmp_path: Path, scale: str) -> None:
    path = tmp_path / "CHGCAR"
    path.write_text(chgcar_text(salt).replace("\n1.0\n", f"\n{scale}\n"))
    refusal(path)


class TestFrames:
    @pytest.fixture
    def trajectory(self, salt: Density, tmp_path: Path) -> Path:
        path = tmp_path / "CHG"
        scales = (1.0, 2.0, 3.0)
        frames = [replace(salt, values=salt.values[:1] * scale) for scale in scales]
        path.write_text("".join(chgcar_text(frame, augmented=False) for frame in frames))
        return path

    def test_one_must_be_chosen(self, trajectory: Path) -> None:
        assert "holds 3 configurations, one is needed: say frame=0 to 2" in refusal(trajectory)

    @pytest.mark.parametrize(("frame", "electrons"), [(0, 8), (1, 16), (2, 24), (-1, 24)])
    def test_each_is_read(self, trajectory: Path, frame: int, electrons: float) -> None:
        assert read_density(trajectory, frame=frame).charge == pytest.approx(electrons)

    @pytest.mark.parametrize("frame", [3, -2, 100])
    def test_others_are_refused(self, trajectory: Path, frame: int) -> None:
        assert "frame must be 0 to 2, or -1 for the last" in refusal(trajectory, frame=frame)

    def test_a_file_with_one_takes_frame_0_and_the_last(self, written: Path) -> None:
        for frame in (0, -1):
            assert read_density(written, frame=frame).charge == pytest.approx(8, abs=1e-3)
        assert "frame" in refusal(written, frame=1)


class Exploding(Reader):
    name = "file of a careless plug-in"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def suits(self, source: object) -> bool:
        return True

    def read(self, source: object) -> Density:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a\nb"),
        ZeroDivisionError(),
        RecursionError("deep"),
        MemoryError(),
        KeyError("x"),
        OSError("disk"),
        AssertionError(),
    ],
)
def test_whatever_a_parser_raises_becomes_a_refusal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    monkeypatch.setattr(read_module, "readers", lambda: (Exploding(error),))
    message = refusal(tmp_path / "density.x")
    assert type(error).__name__ in message
    assert "careless plug-in" in message


@pytest.mark.parametrize("seed", range(60))
def test_random_damage_raises_only_our_error(written: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    content = bytearray(written.read_bytes())
    kind = seed % 4
    header = min(len(content), 600)
    for _ in range(random.integers(1, 6)):
        place = int(random.integers(header if kind < 3 else len(content)))
        if kind == 0:
            content[place] = random.integers(256)
        elif kind == 1:
            del content[place : place + int(random.integers(1, 40))]
        elif kind == 2:
            content[place:place] = bytes(random.choice(list(b"0123456789-+.eE \n"), 5).tolist())
        else:
            content[place] = random.choice(list(b"0123456789-+.eE* \n"))
    written.write_bytes(bytes(content))
    try:
        density = read_density(written)
    except DensityError as error:
        assert "\n" not in str(error)  # noqa: PT017 - some damage does no harm
    else:
        assert density.charge > 0


def test_numbers_too_large_to_be_summed_are_refused(salt: Density, tmp_path: Path) -> None:
    path = tmp_path / "CHGCAR"
    huge = replace(salt, values=np.where(salt.values > 1.4, 1e306, -1e306))
    path.write_text(chgcar_text(huge))
    assert "finite" in refusal(path)
