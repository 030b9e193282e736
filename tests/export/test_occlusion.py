"""What a prediction leans on: charge is conserved, table and slices are differences of predictions."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure

from taskgroup import plot
from taskgroup.cli import cli
from taskgroup.datasets.crystals import data_folder
from taskgroup.densities import Density
from taskgroup.errors import ConfigError
from taskgroup.export import explain, save_bundle
from taskgroup.export.occlusion import smoothed, window

LATTICE = np.array([[3.0, 0, 0], [1.0, 3.5, 0], [0.5, 0.2, 4.0]])


@pytest.fixture
def density() -> Density:
    """A density of two peaks in the cell of the toy dataset's kind."""
    centres = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
    peaks = [window((8, 8, 8), 4 * np.eye(3), centre, 0.5) for centre in centres]
    values = (0.2 + peaks[0] + 2 * peaks[1])[None]
    return Density(values, 4 * np.eye(3), ("Na", "Cl"), centres, "valence", "memory")


def test_smoothing_conserves_charge_and_takes_waves_away_by_their_length():
    random = np.random.default_rng(0)
    values = random.uniform(0, 1, (2, 8, 8, 8))
    smooth = smoothed(values, LATTICE, 1.0)
    np.testing.assert_allclose(smooth.mean(axis=(1, 2, 3)), values.mean(axis=(1, 2, 3)))
    # A plane wave along a reciprocal vector keeps exp(-sigma^2 G^2 / 2) of its height.
    phase = 2 * np.pi * np.arange(8) / 8
    wave = np.broadcast_to(np.cos(phase), (1, 8, 8, 8))
    g = 2 * np.pi * np.linalg.inv(LATTICE).T[2]
    factor = np.exp(-0.5 * 0.4**2 * (g @ g))
    np.testing.assert_allclose(smoothed(wave, LATTICE, 0.4), factor * wave, atol=1e-12)


def test_a_window_is_one_at_its_centre_and_reaches_over_the_border_of_the_cell():
    centre = np.array([0.0, 0.0, 0.0])
    region = window((8, 8, 8), LATTICE, centre, 0.5)
    assert region[0, 0, 0] == 1.0
    assert region.max() <= 1.0
    # One step of the grid on either side of the border is equally far.
    assert region[1, 0, 0] == pytest.approx(region[-1, 0, 0])
    assert region[1, 0, 0] == pytest.approx(np.exp(-0.5 * (3 / 8) ** 2 / 0.5**2), rel=1e-3)


def test_each_atom_has_what_the_prediction_loses_without_its_surroundings(bundle, density):
    explained = explain(bundle, density, width=0.8)
    assert list(explained.atoms["element"]) in (["Na", "Cl"], ["Cl", "Na"])
    predicted = bundle.predict([density])
    assert explained.predictions["energy"] == pytest.approx(predicted["energy"].iloc[0], rel=1e-4)
    assert explained.slices == ()
    changes = explained.atoms[list(bundle.targets)].to_numpy()
    assert np.isfinite(changes).all()
    assert (changes != 0).any()
    # A region that is next to nothing changes next to nothing.
    tiny = explain(bundle, density, width=1e-3).atoms[list(bundle.targets)].to_numpy()
    assert np.abs(tiny).max() < np.abs(changes).max()


def test_slices_lie_in_the_planes_of_the_atoms_and_agree_with_the_atoms(bundle, density):
    explained = explain(bundle, density, points=4)
    assert len(explained.slices) == 2
    for atom in explained.atoms.itertuples():
        heights = [abs((each.height - atom.c + 0.5) % 1 - 0.5) for each in explained.slices]
        of_plane = explained.slices[int(np.argmin(heights))]
        at = round(atom.a * 4) % 4, round(atom.b * 4) % 4
        assert of_plane.changes["energy"][at] == pytest.approx(atom.energy, rel=1e-3, abs=1e-5)


def test_slices_are_drawn_with_their_atoms(bundle, density):
    figure = Figure(layout="constrained")
    axes = plot.explanation(explain(bundle, density, points=4), "energy", figure)
    assert len(axes) == 2
    assert sorted(text.get_text() for each in axes for text in each.texts) == ["Cl", "Na"]
    with pytest.raises(ConfigError, match="did you mean 'energy'"):
        plot.explanation(explain(bundle, density), "energie", figure)
    with pytest.raises(ConfigError, match="has no slices"):
        plot.explanation(explain(bundle, density), "energy", figure)


def test_the_command_explains_a_file(bundle, tmp_path):
    save_bundle(tmp_path / "model", bundle.spec, bundle.members)
    file = str(sorted(data_folder().joinpath("chgcar").iterdir())[0])
    arguments = ["explain", str(tmp_path / "model"), file]
    content = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).output)
    assert set(content["predictions"]) == set(bundle.targets)
    assert {"element", "a", "b", "c", *bundle.targets} <= set(content["atoms"][0])
    pdf = str(tmp_path / "slices.pdf")
    shown = CliRunner().invoke(cli, [*arguments, "--plot", pdf, "--points", "4"])
    assert "prediction" in shown.output, shown.output
    assert (tmp_path / "slices.pdf").read_bytes().startswith(b"%PDF")
