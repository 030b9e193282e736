import subprocess
import sys

import numpy as np
import pytest

from taskgroup.densities import Density
from taskgroup.errors import DensityError

CUBE = np.eye(3) * 3.0


def test_the_charge_is_the_mean_times_the_volume() -> None:
    density = Density(np.full((1, 4, 5, 6), 0.25), CUBE, ("Al",), [[0, 0, 0]])
    assert density.volume == pytest.approx(27)
    assert density.charge == pytest.approx(27 / 4)
    assert (density.grid, density.n_channels) == ((4, 5, 6), 1)


def test_a_left_handed_lattice_has_a_positive_volume() -> None:
    assert Density(
        np.ones((1, 2, 2, 2)), CUBE[[1, 0, 2]], ("Al",), [[0, 0, 0]]
    ).volume == pytest.approx(27)


def test_the_structure_is_the_same_crystal(salt: Density) -> None:
    structure = salt.structure
    assert [site.specie.symbol for site in structure] == ["Na", "Cl"]
    np.testing.assert_allclose(structure.lattice.matrix, salt.lattice)
    np.testing.assert_allclose(structure.frac_coords, salt.frac_coords)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.ones((4, 4, 4))}, "values must have the shape"),
        ({"values": np.ones((3, 4, 4, 4))}, "values must have the shape"),
        ({"values": np.ones((1, 4, 0, 4))}, "values must have the shape"),
        ({"values": [["a"]]}, "values must be an array of numbers"),
        ({"values": np.full((1, 2, 2, 2), np.nan)}, "values must be finite, found 8 of 8"),
        ({"lattice": np.eye(2)}, "lattice must have the shape"),
        ({"lattice": np.ones((3, 3))}, "must span a volume, found 0"),
        ({"lattice": np.full((3, 3), np.inf)}, "lattice must be finite"),
        ({"species": ()}, "one row of 3 an atom"),
        ({"frac_coords": [[0, 0]]}, "one row of 3 an atom"),
        ({"kind": "spin"}, "kind must be one of"),
    ],
)
def test_what_is_not_a_density_is_refused(change: dict, message: str) -> None:
    given = {
        "values": np.ones((1, 2, 2, 2)),
        "lattice": CUBE,
        "species": ("Al",),
        "frac_coords": [[0, 0, 0]],
    }
    with pytest.raises(DensityError, match=message):
        Density(**(given | change | {"source": "a file"}))


def test_importing_the_room_is_light() -> None:
    heavy = "('torch', 'pymatgen', 'pandas', 'matplotlib', 'sklearn', 'ase')"
    code = f"import taskgroup.densities, sys; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
