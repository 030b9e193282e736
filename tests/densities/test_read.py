import bz2
import gzip
import lzma
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pymatgen.io.common import VolumetricData
from pymatgen.io.vasp.outputs import Chgcar, Locpot

from taskgroup import registry as registry_module
from taskgroup.densities import Density, Reader, read_density, reader_for, readers, standardise
from taskgroup.densities import read as read_module
from taskgroup.densities._units import BOHR
from taskgroup.densities.formats.cube import CubeReader
from taskgroup.densities.formats.objects import AseReader, PymatgenReader
from taskgroup.densities.formats.vasp import VaspReader
from taskgroup.densities.read import READERS
from taskgroup.densities.testing import FileReaderConformance, ReaderConformance
from taskgroup.errors import DensityError
from taskgroup.registry import Registry

from .conftest import chgcar_text


def cube_text(
    density: Density, origin: tuple[float, float, float] = (0, 0, 0), unit: float = BOHR
) -> str:
    """A cube file of channel 0, z fastest; ``unit`` is Å per length unit of the file (1 writes negative counts)."""
    sign = 1 if unit == BOHR else -1
    shift = np.array(origin)
    lines = [
        "title",
        "comment",
        f"{len(density.species)} " + " ".join(f"{x / unit:.9f}" for x in shift),
    ]
    for count, vector in zip(density.grid, density.lattice, strict=True):
        lines.append(f"{sign * count} " + " ".join(f"{x / count / unit:.12f}" for x in vector))
    for site in density.structure:
        lines.append(
            f"{site.specie.Z} 0.0 " + " ".join(f"{x:.9f}" for x in (site.coords + shift) / unit)
        )
    values = density.values[0] * BOHR**3
    lines += ["\n".join(" ".join(f"{x:.8E}" for x in row) for row in plane) for plane in values]
    return "\n".join(lines) + "\n"


class TestVaspReader(FileReaderConformance):
    reader = VaspReader()

    @pytest.fixture(params=["CHGCAR", "x.CHGCAR.gz"])
    def example(
        self, request: pytest.FixtureRequest, salt: Density, tmp_path: Path
    ) -> tuple[Path, float]:
        path = tmp_path / request.param
        text = chgcar_text(salt).encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
        return path, 8.0


class TestCubeReader(FileReaderConformance):
    reader = CubeReader()

    @pytest.fixture
    def example(self, salt: Density, tmp_path: Path) -> tuple[Path, float]:
        path = tmp_path / "salt.cube"
        path.write_text(cube_text(salt))
        return path, 8.0


class TestPymatgenReader(ReaderConformance):
    reader = PymatgenReader()

    @pytest.fixture
    def example(self, salt: Density) -> tuple[Chgcar, float]:
        total, spin = salt.values * salt.volume
        return Chgcar(salt.structure, {"total": total, "diff": spin}), 8.0


class FakeCalculator:
    """What the readers ask of an ASE calculator."""

    def __init__(self, density: Density, spins: int = 1) -> None:
        self.density, self.spins = density, spins

    def get_atoms(self) -> SimpleNamespace:
        return SimpleNamespace(
            cell=self.density.lattice,
            get_chemical_symbols=lambda: list(self.density.species),
            get_scaled_positions=lambda: self.density.frac_coords,
        )

    def get_number_of_spins(self) -> int:
        return self.spins

    def get_pseudo_density(self, spin: int | None = None) -> np.ndarray:
        total, magnetisation = self.density.values
        return total if spin is None else (total + (1, -1)[spin] * magnetisation) / 2


class FakeGpaw(FakeCalculator):
    """GPAW adds the all-electron density, here 3 % short of its charge."""

    def get_all_electron_density(
        self, spin: int | None = None, *, gridrefinement: int, skip_core: bool
    ) -> np.ndarray:
        assert (gridrefinement, skip_core) == (4, True)
        return 0.97 * self.get_pseudo_density(spin)

    def get_number_of_electrons(self) -> float:
        return 8.0


class TestAseReader(ReaderConformance):
    reader = AseReader()

    @pytest.fixture(params=[FakeCalculator, FakeGpaw])
    def example(
        self, request: pytest.FixtureRequest, salt: Density
    ) -> tuple[FakeCalculator, float]:
        return request.param(salt), 8.0


def test_both_channels_of_a_chgcar_come_back(chgcar: Path, salt: Density) -> None:
    found = read_density(chgcar)
    np.testing.assert_allclose(found.values, salt.values, rtol=1e-9)
    np.testing.assert_allclose(found.lattice, salt.lattice, atol=1e-9)
    assert (found.species, found.kind, found.source) == (("Na", "Cl"), "valence", str(chgcar))


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)],
)
def test_compressed_files_read_the_same(
    salt: Density, tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"CHG{suffix}"
    path.write_bytes(pack(chgcar_text(salt, augmented=False).encode()))
    np.testing.assert_allclose(read_density(str(path)).values, salt.values, rtol=1e-9)


def test_a_non_collinear_file_gives_the_size_of_the_magnetisation(
    salt: Density, tmp_path: Path
) -> None:
    text = chgcar_text(replace(salt, values=salt.values[:1]), augmented=False)
    header, block = text.split("\n\n")
    path = tmp_path / "CHGCAR"
    path.write_text(header + "\n\n" + block * 4)
    found = read_density(path)
    assert found.n_channels == 2
    np.testing.assert_allclose(found.values[1], np.sqrt(3) * salt.values[0], rtol=1e-9)


def test_exponents_without_an_e_are_read_as_vasp_means_them(salt: Density, tmp_path: Path) -> None:
    values = salt.values[:1].copy()
    values[0, 0, 0, 0] = 0
    text = chgcar_text(replace(salt, values=values * 8 / replace(salt, values=values).charge))
    path = tmp_path / "CHGCAR"
    path.write_text(text.replace("0.00000000000E+00", "0.12345678901-104", 1))
    found = read_density(path)
    assert found.values[0, 0, 0, 0] == pytest.approx(0.12345678901e-104 / salt.volume, rel=1e-9)
    assert found.charge == pytest.approx(8)


def edit(text: str, what: str) -> str:
    lines = text.split("\n")
    grid = lines.index("12 10 9")
    changes = {
        "a value more": lambda: [*lines[: grid + 217], "1.0", *lines[grid + 217 :]],
        "a value less": lambda: lines[: grid + 1] + lines[grid + 2 :],
        "a larger grid": lambda: [*lines[:grid], "12 10 90", *lines[grid + 1 :]],
        "a giant grid": lambda: [*lines[:grid], "99999 99999 99999", *lines[grid + 1 :]],
        "a smaller grid": lambda: [*lines[:grid], "12 10 8", *lines[grid + 1 :]],
        "a grid of words": lambda: [*lines[:grid], "12 ten 9", *lines[grid + 1 :]],
        "a grid of two": lambda: [*lines[:grid], "12 10", *lines[grid + 1 :]],
        "an empty axis": lambda: [*lines[:grid], "12 0 9", *lines[grid + 1 :]],
        "NaN": lambda: [
            *lines[: grid + 1],
            "NaN " + lines[grid + 1].split(" ", 1)[1],
            *lines[grid + 2 :],
        ],
        "stars": lambda: [
            *lines[: grid + 1],
            "***** " + lines[grid + 1].split(" ", 1)[1],
            *lines[grid + 2 :],
        ],
        "a left-handed lattice": lambda: [*lines[:2], lines[3], lines[2], *lines[4:]],
        "a flat lattice": lambda: [*lines[:3], lines[2], *lines[4:]],
        "a negative scale": lambda: [lines[0], "-50.0", *lines[2:]],
        "no elements": lambda: lines[:5] + lines[6:],
        "words for vectors": lambda: [*lines[:3], "a b c", *lines[4:]],
        "another second grid": lambda: (
            "\n".join(lines)
            .replace("12 10 9", "10 12 9")
            .replace("10 12 9", "12 10 9", 1)
            .split("\n")
        ),
        "twice the charge": lambda: [
            lines[0],
            "1.0",
            *lines[2:grid],
            "12 10 9",
            *[doubled(x) for x in lines[grid + 1 : grid + 217]],
            *lines[grid + 217 :],
        ],
    }
    return "\n".join(changes[what]())


def doubled(line: str) -> str:
    return " ".join(f"{17.3 * float(x):.11E}" for x in line.split())


@pytest.mark.parametrize(
    ("what", "rule"),
    [
        ("a value more", "12 x 10 x 9 values, found more"),
        ("a value less", "must hold 1080 values, found"),
        ("a larger grid", "must hold 10800 values, found"),
        ("a giant grid", "must hold 999970000299999 values, found at most"),
        ("a smaller grid", "must hold 12 x 10 x 8 values, found more"),
        ("a grid of words", "grid must be three whole numbers, found '12 ten 9'"),
        ("a grid of two", "grid must be three whole numbers, found '12 10'"),
        ("an empty axis", "grid must have points along every axis"),
        ("NaN", "values must be finite, found 1 of 2160"),
        ("stars", "must hold 1080 values, found 0"),
        ("a flat lattice", "must span a volume"),
        ("no elements", "must name its elements"),
        ("words for vectors", "must begin with a POSCAR"),
        ("another second grid", "all blocks must have the grid of the first"),
        ("twice the charge", "to 28 electrons|whole number of electrons"),
    ],
)
def test_a_damaged_chgcar_is_refused_in_one_line(
    salt: Density, tmp_path: Path, what: str, rule: str
) -> None:
    path = tmp_path / "CHGCAR"
    path.write_text(edit(chgcar_text(salt), what))
    with pytest.raises(DensityError, match=rule) as caught:
        read_density(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("what", ["a left-handed lattice", "a negative scale"])
def test_left_handed_cells_and_volumes_as_scale_are_read(
    salt: Density, tmp_path: Path, what: str
) -> None:
    path = tmp_path / "CHGCAR"
    path.write_text(edit(chgcar_text(salt), what))
    density = read_density(path)
    assert density.charge == pytest.approx(8)
    assert density.volume == pytest.approx(salt.volume if "lattice" in what else 50)


def test_zeros_that_fill_up_the_last_line_are_no_values(salt: Density, tmp_path: Path) -> None:
    path = tmp_path / "CHGCAR"
    path.write_text(
        chgcar_text(replace(salt, values=salt.values[:1]), augmented=False) + "0.0 0.0\n"
    )
    np.testing.assert_allclose(read_density(path).values, salt.values[:1], rtol=1e-9)


def charged(salt: Density, tmp_path: Path, electrons: float, name: str = "CHGCAR") -> Path:
    path = tmp_path / name
    path.write_text(chgcar_text(replace(salt, values=salt.values[:1] * electrons / 8)))
    return path


@pytest.mark.parametrize("electrons", [7, 8, 8.0009, 16, 24])
def test_whole_numbers_of_electrons_are_accepted(
    salt: Density, tmp_path: Path, electrons: float
) -> None:
    assert read_density(charged(salt, tmp_path, electrons)).charge == pytest.approx(electrons)


@pytest.mark.parametrize("electrons", [0, 1, 2, 7.5, 8.01, 27, 28, 29, -8])
def test_other_numbers_are_refused_with_the_numbers(
    salt: Density, tmp_path: Path, electrons: float
) -> None:
    with pytest.raises(
        DensityError, match=rf"found {electrons:.4f} \(atomic numbers sum to 28\); say electrons="
    ):
        read_density(charged(salt, tmp_path, electrons))


def test_a_stated_number_replaces_the_rule(salt: Density, tmp_path: Path) -> None:
    path = charged(salt, tmp_path, 7.5)
    assert read_density(path, electrons=7.5).kind == "valence"
    assert read_density(path, electrons=7.55).charge == pytest.approx(7.5)
    with pytest.raises(DensityError, match=r"must hold 8 electrons within 1 %, found 7\.5000"):
        read_density(path, electrons=8)


def test_all_electron_files_need_the_flag(salt: Density, tmp_path: Path) -> None:
    path = charged(salt, tmp_path, 27.3)
    found = read_density(path, all_electron=True)
    assert (found.kind, found.charge) == ("all-electron", pytest.approx(27.3))
    with pytest.raises(DensityError, match="must hold a positive charge"):
        read_density(charged(salt, tmp_path, -1), all_electron=True)


def test_a_core_and_a_valence_file_are_summed(salt: Density, tmp_path: Path) -> None:
    core, valence = charged(salt, tmp_path, 20, "AECCAR0"), charged(salt, tmp_path, 8, "AECCAR2")
    with pytest.raises(DensityError, match="holds core electrons"):
        read_density(valence)
    with pytest.raises(DensityError, match=r"holds core electrons.*found 28\.0000"):
        read_density((core, valence))
    total = read_density([core, str(valence)], all_electron=True)
    assert total.charge == pytest.approx(28)
    assert total.source == f"{core} + {valence}"


def test_a_sum_of_what_does_not_belong_together_is_refused(salt: Density, tmp_path: Path) -> None:
    core, other = charged(salt, tmp_path, 20, "AECCAR0"), charged(salt, tmp_path, 8, "CHGCAR")
    with pytest.raises(DensityError, match="takes AECCAR files"):
        read_density((core, other), all_electron=True)
    with pytest.raises(DensityError, match="takes two files"):
        read_density((core,), all_electron=True)
    for change, rule in (
        ({"values": salt.values[:1, :6]}, "same grid"),
        ({"lattice": 2 * salt.lattice, "values": salt.values[:1] / 8}, "same crystal"),
        ({"species": ("Na", "F"), "values": salt.values[:1]}, "same crystal"),
    ):
        (tmp_path / "AECCAR2").write_text(chgcar_text(replace(salt, **change)))
        with pytest.raises(DensityError, match=rule):
            read_density((core, tmp_path / "AECCAR2"), all_electron=True)


@pytest.mark.parametrize("unit", [BOHR, 1.0])
@pytest.mark.parametrize("origin", [(0, 0, 0), (-1.5, 2.0, 0.3)])
def test_a_cube_in_bohr_or_angstrom_and_from_any_origin_is_the_same(
    salt: Density, tmp_path: Path, unit: float, origin: tuple
) -> None:
    path = tmp_path / "salt.cub"
    path.write_text(cube_text(salt, origin, unit))
    found = read_density(path)
    np.testing.assert_allclose(found.values, salt.values[:1], rtol=1e-7)
    np.testing.assert_allclose(found.lattice, salt.lattice, atol=1e-7)
    np.testing.assert_allclose(found.frac_coords, salt.frac_coords, atol=1e-7)
    assert found.species == salt.species


def test_pymatgen_reads_a_cube_to_the_same_density(salt: Density, tmp_path: Path) -> None:
    path = tmp_path / "salt.cube"
    path.write_text(cube_text(salt))
    ours, theirs = read_density(path), read_density(VolumetricData.from_cube(path))
    np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-6)
    np.testing.assert_allclose(ours.lattice, theirs.lattice, rtol=1e-6)


@pytest.mark.parametrize(
    ("line", "text", "rule"),
    [
        (2, "-2 0 0 0", "cube of orbitals"),
        (2, "2 0 0 0 3", "several values a point"),
        (2, "two 0 0 0", "must begin with a cube header"),
        (2, "2 0 0", "three numbers each"),
        (2, "0 0 0 0", "must list 0 atoms"),
        (3, "0 0.1 0 0", "voxel counts must be"),
        (3, "-12 0.1 0 0", "voxel counts must be"),
        (3, "13 0.1 0.4 0.4", "must hold 13 x 10 x 9 values, found 1080"),
        (4, "10 0 0 0", "must span a volume"),
        (6, "11 0.0 0 0", "must begin with a cube header"),
        (6, "999 0.0 0 0 0", "atomic numbers"),
        (9, "x" + " 1" * 8, "values must be numbers"),
        (9, "nan" + " 1" * 8, "values must be finite"),
    ],
)
def test_a_damaged_cube_is_refused(
    salt: Density, tmp_path: Path, line: int, text: str, rule: str
) -> None:
    lines = cube_text(salt).split("\n")
    lines[line] = text
    path = tmp_path / "salt.cube"
    path.write_text("\n".join(lines))
    with pytest.raises(DensityError, match=rule):
        read_density(path)


def test_a_spin_polarised_calculator_gives_two_channels(salt: Density) -> None:
    for calculator in (FakeCalculator(salt, spins=2), FakeGpaw(salt, spins=2)):
        found = read_density(SimpleNamespace(calc=calculator, cell=salt.lattice))
        np.testing.assert_allclose(found.values, salt.values, rtol=1e-9)


def test_objects_without_a_density_are_refused(salt: Density) -> None:
    with pytest.raises(DensityError, match="must carry a calculator"):
        read_density(SimpleNamespace(calc=None, cell=salt.lattice))
    with pytest.raises(DensityError, match="must hold a charge density"):
        read_density(Locpot(salt.structure, {"total": salt.values[0]}))
    with pytest.raises(DensityError, match="int: no reader suits it; known: VASP"):
        read_density(3)
    with pytest.raises(DensityError, match=r"8 electrons within 5 %, found 6\.4020"):
        read_density(FakeGpaw(replace(salt, values=salt.values * 0.825)))


def test_real_ase_atoms_without_a_density_are_refused() -> None:
    build = pytest.importorskip("ase.build")
    with pytest.raises(DensityError, match="must carry a calculator with a density"):
        read_density(build.bulk("Al"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("CHGCAR", VaspReader),
        ("CHG.bz2", VaspReader),
        ("Al-sc.CHGCAR.gz", VaspReader),
        ("mp-149.chgcar", VaspReader),
        ("CHGCAR.nospin", VaspReader),
        ("Si_static_CHG.gz", VaspReader),
        ("AECCAR1.xz", VaspReader),
        ("elec.cube.gz", CubeReader),
    ],
)
def test_names_find_their_reader(name: str, kind: type[Reader]) -> None:
    assert type(reader_for(name)) is kind


@pytest.mark.parametrize("name", ["POSCAR", "exchg.txt", "CHGNET.json", "cube.csv", "LOCPOT"])
def test_other_names_find_none(name: str) -> None:
    assert not any(reader.suits(Path(name)) for reader in readers())
    with pytest.raises(DensityError, match="no such file"):
        reader_for(name)


def test_an_installed_plug_in_is_found_and_comes_first(
    monkeypatch: pytest.MonkeyPatch, salt: Density
) -> None:
    entry = EntryPoint("mine", f"{__name__}:PlugIn", "taskgroup.readers")
    monkeypatch.setattr(EntryPoint, "load", lambda self: PlugIn)
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [entry])
    fresh = Registry("density reader", "taskgroup.readers", dict(READERS._builtin), DensityError)
    monkeypatch.setattr(read_module, "READERS", fresh)
    assert isinstance(reader_for("CHGCAR.mine"), PlugIn)
    assert isinstance(reader_for("CHGCAR"), VaspReader)


class PlugIn(Reader):
    name = "my own format"

    def suits(self, source: object) -> bool:
        return isinstance(source, Path) and source.suffix == ".mine"

    def read(self, source: Path) -> Density:
        raise NotImplementedError


VALENCE = {
    "Al_CHGCAR": (3, 2),
    "Ga4_CHGCAR": (12, 2),
    "Li_nospin_CHGCAR": (1, 1),
    "Li_spin_CHGCAR": (1, 2),
    "NaCl_CHGCAR": (8, 1),
    "Si_static_CHG": (8, 2),
    "Si_static_CHGCAR": (8, 2),
}


def test_every_public_file_is_judged_right(public_densities: Path) -> None:
    files = {file.name.removesuffix(".gz"): file for file in public_densities.glob("*.gz")}
    assert set(VALENCE) < set(files)
    for name, file in files.items():
        if name in VALENCE:
            density = read_density(file)
            assert (density.charge, density.n_channels) == (
                pytest.approx(VALENCE[name][0], abs=1e-4),
                VALENCE[name][1],
            )
        else:
            with pytest.raises(
                DensityError, match=r"found \d+\.\d{4} \(atomic numbers sum to \d+\)"
            ):
                read_density(file)


def test_public_core_and_valence_files_are_summed(public_densities: Path) -> None:
    pair = (public_densities / "Si_static_AECCAR0.gz", public_densities / "Si_static_AECCAR2.gz")
    density = read_density(pair, all_electron=True)
    assert density.charge == pytest.approx(
        31.2667, abs=1e-3
    )  # of 28: what a 60^3 grid makes of two silicon cores
    with pytest.raises(DensityError, match="holds core electrons"):
        read_density(pair)


def test_pymatgen_agrees_on_a_public_file(public_densities: Path) -> None:
    file = public_densities / "Li_spin_CHGCAR.gz"
    theirs, ours = read_density(Chgcar.from_file(str(file))), read_density(file)
    np.testing.assert_array_equal(ours.values, theirs.values)
    np.testing.assert_array_equal(ours.frac_coords, theirs.frac_coords)


def test_our_chgcars_become_the_shipped_densities(made_crystals: Path) -> None:
    import json

    with gzip.open(made_crystals / "crystals.json.gz", "rt") as file:
        records = {record["name"]: (row, record) for row, record in enumerate(json.load(file))}
    with np.load(made_crystals / "densities.npz") as arrays:
        shipped = arrays["density"]
    files = sorted((made_crystals / "chgcar").glob("*.CHGCAR.gz"))
    assert len(files) == 24
    for file in files:
        row, record = records[file.name.removesuffix(".CHGCAR.gz")]
        density = read_density(file)
        assert density.charge == pytest.approx(record["valence_electrons"], abs=1e-4)
        found, expected = standardise(density).values[0], shipped[row].astype(float)
        np.testing.assert_allclose(
            found, expected, rtol=2**-11 * 1.01, atol=1e-4
        )  # half a step of float16


def test_what_pymatgen_writes_is_read(salt: Density, tmp_path: Path) -> None:
    total, spin = salt.values * salt.volume
    path = tmp_path / "written.CHGCAR"
    Chgcar(salt.structure, {"total": total, "diff": spin}).write_file(path)
    np.testing.assert_allclose(read_density(path).values, salt.values, rtol=1e-9)


def test_a_comment_in_another_encoding_does_no_harm(salt: Density, tmp_path: Path) -> None:
    path = tmp_path / "CHGCAR"
    path.write_bytes(chgcar_text(salt).replace("a comment", "5 Å of NaCl").encode("latin-1"))
    assert read_density(path).charge == pytest.approx(8)
