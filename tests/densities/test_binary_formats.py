"""Readers of vaspwave.h5, Siesta's RHO and GPAW's gpw, on files made here."""

import gzip
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from taskgroup.densities import Density, read_density
from taskgroup.densities._units import BOHR
from taskgroup.densities.formats.gpaw import GpawReader
from taskgroup.densities.formats.siesta import SiestaReader
from taskgroup.densities.formats.vaspwave import VaspwaveReader
from taskgroup.densities.testing import FileReaderConformance
from taskgroup.errors import DensityError, MissingDependency


def write_vaspwave(path: Path, density: Density, blocks: np.ndarray, **changes: object) -> Path:
    """The groups that VASP writes: structure, and rho times volume with the last axis first."""
    h5py = pytest.importorskip("h5py")
    symbols = list(dict.fromkeys(density.species))
    content = {
        "version/major": 6,
        "structure/positions/ion_types": [symbol.encode() for symbol in symbols],
        "structure/positions/number_ion_types": [density.species.count(s) for s in symbols],
        "structure/positions/scale": 1.0,
        "structure/positions/lattice_vectors": density.lattice,
        "structure/positions/position_ions": density.frac_coords,
        "structure/positions/direct_coordinates": 1,
        "charge/grid": density.grid,
        "charge/charge": (blocks * density.volume).transpose(0, 3, 2, 1),
    } | changes
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            if value is not None:
                file[name] = value
    return path


class TestVaspwaveReader(FileReaderConformance):
    reader = VaspwaveReader()

    @pytest.fixture
    def example(self, salt: Density, tmp_path: Path) -> tuple[Path, float]:
        return write_vaspwave(tmp_path / "vaspwave.h5", salt, salt.values), 8.0


def test_the_charge_of_vaspwave_is_that_of_chgcar(salt: Density, tmp_path: Path) -> None:
    path = write_vaspwave(tmp_path / "mp-1_vaspwave.h5", salt, salt.values)
    found = read_density(path)
    np.testing.assert_allclose(found.values, salt.values, rtol=1e-12)
    np.testing.assert_allclose(found.frac_coords, salt.frac_coords)
    packed = tmp_path / "vaspwave.h5.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(read_density(packed).values, found.values)
    vector = np.stack(
        [salt.values[0], 0.6 * salt.values[1], 0 * salt.values[1], 0.8 * salt.values[1]]
    )
    found = read_density(write_vaspwave(path, salt, vector))
    np.testing.assert_allclose(found.values[1], abs(salt.values[1]), rtol=1e-9)


def test_vaspwave_is_read_as_pymatgen_reads_it(salt: Density, tmp_path: Path) -> None:
    from pymatgen.io.vasp.outputs import Vaspwave

    path = write_vaspwave(tmp_path / "vaspwave.h5", salt, salt.values)
    expected = read_density(Vaspwave(path).get_chgcar())
    np.testing.assert_allclose(read_density(path).values, expected.values, rtol=1e-12)


def test_wave_functions_of_vaspwave_are_not_read(salt: Density, tmp_path: Path) -> None:
    """They are damaged here, and would take a second per k-point."""
    path = tmp_path / "vaspwave.h5"
    waves = {"wave/rispin": 1, "wave/rnkpts": 1, "wave/rnb_tot": 1, "wave/enmax": 400.0}
    waves |= {"wave/amat": salt.lattice, "wave/efermi": 0.0}
    assert read_density(write_vaspwave(path, salt, salt.values[:1], **waves)).n_channels == 1


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"charge/charge": None}, "no /charge/charge"),
        ({"charge/grid": [12, 10, 8]}, "does not match"),
        ({"structure/positions/ion_types": [b"X", b"Cl"]}, "X"),
        ({"structure/positions/position_ions": None}, "vaspwave.h5"),
        ({"charge/charge": np.ones((3, 9, 10, 12))}, "1 or 2"),
    ],
)
def test_damaged_vaspwave_files_are_refused(
    salt: Density, tmp_path: Path, changes: dict, rule: str
) -> None:
    path = write_vaspwave(tmp_path / "vaspwave.h5", salt, salt.values[:1], **changes)
    with pytest.raises(DensityError, match=rule):
        read_density(path)


def test_a_vaspwave_that_promises_terabytes_takes_no_memory(salt: Density, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = write_vaspwave(tmp_path / "vaspwave.h5", salt, salt.values, **{"charge/charge": None})
    with h5py.File(path, "a") as file:
        file.create_dataset("charge/charge", (1, 9000, 9000, 9000), dtype="f8", chunks=(1, 9, 9, 9))
    with pytest.raises(DensityError, match="promises"):
        read_density(path)


def write_siesta(
    folder: Path, density: Density, components: np.ndarray, label: str = "salt"
) -> Path:
    """RHO as Siesta's Fortran writes it, with a record per row of x, and the XV beside it."""
    path = folder / f"{label}.RHO"

    def record(values: np.ndarray) -> bytes:
        content = values.tobytes()
        length = np.int32(len(content)).tobytes()
        return length + content + length

    content = record((density.lattice / BOHR).astype("<f8"))
    content += record(np.array([*density.grid, len(components)], "<i4"))
    for block in components * BOHR**3:
        for row in block.transpose(2, 1, 0).reshape(-1, density.grid[0]):
            content += record(row.astype("<f4"))
    path.write_bytes(content)
    lines = [" ".join(f"{x:.9f}" for x in [*row, 0, 0, 0]) for row in density.lattice / BOHR]
    lines.append(str(len(density.species)))
    symbols = list(dict.fromkeys(density.species))
    for site in density.structure:
        place = " ".join(f"{x:.9f}" for x in [*(site.coords / BOHR), 0, 0, 0])
        lines.append(f"{symbols.index(site.specie.symbol) + 1} {site.specie.Z} {place}")
    (folder / f"{label}.XV").write_text("\n".join(lines) + "\n")
    return path


class TestSiestaReader(FileReaderConformance):
    reader = SiestaReader()

    @pytest.fixture
    def example(self, salt: Density, tmp_path: Path) -> tuple[Path, float]:
        return write_siesta(tmp_path, salt, salt.values[:1]), 8.0


def test_components_of_siesta_become_total_and_magnetisation(salt: Density, tmp_path: Path) -> None:
    total, magnetisation = salt.values
    up, down = (total + magnetisation) / 2, (total - magnetisation) / 2
    found = read_density(write_siesta(tmp_path, salt, np.stack([up, down])))
    np.testing.assert_allclose(found.values, salt.values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.lattice, salt.lattice, rtol=1e-6)
    np.testing.assert_allclose(found.frac_coords, salt.frac_coords, atol=1e-6)
    assert found.species == ("Na", "Cl")
    half = total / 2
    vector = np.stack([half, half, 0.3 * magnetisation, 0.4 * magnetisation])
    found = read_density(write_siesta(tmp_path, salt, vector))
    np.testing.assert_allclose(found.values[1], abs(magnetisation), rtol=1e-5, atol=1e-6)


def test_siesta_is_read_as_sisl_reads_it(salt: Density, tmp_path: Path) -> None:
    sisl = pytest.importorskip("sisl")
    path = write_siesta(tmp_path, salt, salt.values[:1])
    found = read_density(path)
    grid = sisl.get_sile(path).read_grid()
    np.testing.assert_allclose(found.values[0], grid.grid, rtol=1e-6)
    np.testing.assert_allclose(found.lattice, grid.lattice.cell, rtol=1e-6)
    geometry = sisl.get_sile(path.with_suffix(".XV")).read_geometry()
    np.testing.assert_allclose(found.frac_coords, geometry.fxyz, atol=1e-7)
    assert (
        found.species == tuple(atom.symbol for atom in geometry.atoms.iter())[: len(found.species)]
    )


def test_struct_out_has_the_atoms_too(salt: Density, tmp_path: Path) -> None:
    path = write_siesta(tmp_path, salt, salt.values[:1])
    path.with_suffix(".XV").unlink()
    lines = [" ".join(f"{x:.9f}" for x in row) for row in salt.lattice]
    lines += ["2", "1 11 0.0 0.0 0.0", "2 17 0.5 0.5 0.5"]
    path.with_suffix(".STRUCT_OUT").write_text("\n".join(lines))
    np.testing.assert_allclose(read_density(path).frac_coords, salt.frac_coords)


def test_a_damaged_record_of_siesta_is_refused(salt: Density, tmp_path: Path) -> None:
    """A reader in Fortran looks for the end of such a record for ever."""
    path = write_siesta(tmp_path, salt, salt.values[:1])
    content = bytearray(path.read_bytes())
    content[104 + 56] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DensityError, match="a record of its own"):
        read_density(path)


def test_the_atoms_of_siesta_may_lie_in_the_same_archive(salt: Density, tmp_path: Path) -> None:
    path = write_siesta(tmp_path, salt, salt.values[:1])
    with tarfile.open(tmp_path / "run.tar", "w") as archive:
        for suffix in (".RHO", ".XV"):
            archive.add(path.with_suffix(suffix), f"mp-1/salt{suffix}")
    assert read_density(tmp_path / "run.tar" / "mp-1" / "salt.RHO").charge == pytest.approx(
        8, abs=1e-4
    )


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        (None, None, "has no atoms"),
        ("\n2\n", "\n99999999999\n", "must list its atoms"),
        ("1 11 ", "1 eleven ", "must list its atoms"),
        ("1 11 ", "1 0 ", "atomic numbers"),
        ("0.188", "9.188", "same cell"),
    ],
)
def test_siesta_needs_the_atoms_of_the_same_run(
    salt: Density, tmp_path: Path, old: str | None, new: str, rule: str
) -> None:
    path = write_siesta(tmp_path, salt, salt.values[:1])
    atoms = path.with_suffix(".XV")
    text = atoms.read_text()
    if old is None:
        atoms.unlink()
    else:
        assert old in text
        atoms.write_text(text.replace(old, new))
    with pytest.raises(DensityError, match=rule):
        read_density(path)


class FakeCalculator:
    """What a GPAW calculator is asked for."""

    def __init__(self, density: Density) -> None:
        self._density = density

    def get_atoms(self):
        from pymatgen.io.ase import AseAtomsAdaptor

        return AseAtomsAdaptor.get_atoms(self._density.structure)

    def get_number_of_spins(self) -> int:
        return 1

    def get_number_of_electrons(self) -> float:
        return 8.0

    def get_pseudo_density(self, **spin: int) -> np.ndarray:
        raise AssertionError("the pseudo-density lacks the charge at the nuclei")

    def get_all_electron_density(self, gridrefinement: int, skip_core: bool) -> np.ndarray:
        assert (gridrefinement, skip_core) == (4, True)
        return 1.01 * self._density.values[0]


def test_gpw_files_are_opened_by_gpaw(salt: Density, tmp_path: Path, monkeypatch) -> None:
    """GPAW needs a compiler and libraries, so a module of its name stands in for it."""
    path = tmp_path / "salt.gpw"
    path.write_bytes(b"- of UlmGPAW" + bytes(40))
    gpaw = ModuleType("gpaw")
    gpaw.GPAW = lambda name, txt: FakeCalculator(salt)
    monkeypatch.setitem(sys.modules, "gpaw", gpaw)
    found = read_density(path)
    assert found.charge == pytest.approx(8, abs=1e-9)
    assert str(path) in found.source
    assert GpawReader().suits(path)

    def broken(name: str, txt: None) -> None:
        raise RuntimeError("setup not found\nin any path")

    gpaw.GPAW = broken
    with pytest.raises(
        DensityError, match=r"salt\.gpw: must be a finished .*not found in any path"
    ):
        read_density(path)
    path.write_bytes(b"something else")
    with pytest.raises(DensityError, match="GPAW wrote"):
        read_density(path)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("vaspwave.h5", "h5py", "hdf5"), ("salt.gpw", "gpaw", "gpaw")],
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch, name: str, module: str, extra: str
) -> None:
    path = tmp_path / name
    path.write_bytes(b"- of UlmGPAW" + bytes(40))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency, match=rf"pip install 'taskgroup-materials\[{extra}\]'"):
        read_density(path)
