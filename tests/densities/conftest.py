import gzip
from pathlib import Path

import numpy as np
import pytest

from taskgroup.densities import Density

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def public_densities() -> Path:
    """The public volumetric files beside the repository."""
    folder = SHARED / "densities"
    if not folder.is_dir():
        pytest.skip("the public density files are not beside the repository")
    return folder


@pytest.fixture(scope="session")
def made_crystals() -> Path:
    """The crystals as they were first made, with all their CHGCAR files."""
    folder = SHARED / "crystals"
    if not folder.is_dir():
        pytest.skip("the first crystals are not beside the repository")
    return folder


@pytest.fixture
def salt() -> Density:
    """A smooth two-channel density with 8 electrons in a skew cell, 12 x 10 x 9 points."""
    lattice = np.array([[0.1, 2.8, 2.9], [2.7, 0.0, 2.8], [2.8, 2.6, 0.2]])
    lattice = lattice[[1, 0, 2]] if np.linalg.det(lattice) < 0 else lattice
    rng = np.random.default_rng(0)
    values = 1 + 0.5 * rng.random((2, 12, 10, 9))
    values[0] *= 8 / (values[0].mean() * np.linalg.det(lattice))
    values[1] *= 0.1
    return Density(values, lattice, ("Na", "Cl"), [[0, 0, 0], [0.5, 0.5, 0.5]])


def chgcar_text(density: Density, *, augmented: bool = True) -> str:
    """The density as VASP writes it, independent of any library."""
    lines = ["a comment", "1.0", *(" ".join(f"{x:.9f}" for x in row) for row in density.lattice)]
    symbols = list(dict.fromkeys(density.species))
    lines += [" ".join(symbols), " ".join(str(density.species.count(s)) for s in symbols), "Direct"]
    lines += [" ".join(f"{x:.6f}" for x in row) for row in density.frac_coords]
    lines += [""]
    for number, block in enumerate(density.values):
        lines.append(" ".join(map(str, density.grid)))
        numbers = (block * density.volume).ravel(order="F")
        lines += [
            " ".join(f"{x:.11E}" for x in numbers[i : i + 5]) for i in range(0, len(numbers), 5)
        ]
        if augmented:
            for atom in range(len(density.species)):
                lines += [
                    f"augmentation occupancies {atom + 1:4d} 7",
                    "0.1 0.2 0.3 0.4 0.5",
                    "0.6 0.7",
                ]
        if augmented and number == 0 and density.n_channels > 1:
            lines.append(" ".join("0.1000000E+01" for _ in density.species))
    return "\n".join(lines) + "\n"


@pytest.fixture
def chgcar(salt: Density, tmp_path: Path) -> Path:
    path = tmp_path / "CHGCAR"
    path.write_text(chgcar_text(salt))
    return path


@pytest.fixture
def packed_chgcar(salt: Density, tmp_path: Path) -> Path:
    path = tmp_path / "salt.CHGCAR.gz"
    path.write_bytes(gzip.compress(chgcar_text(salt).encode()))
    return path
