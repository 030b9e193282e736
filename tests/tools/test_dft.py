"""The parts of tools/dft that need no GPAW; their physics is checked in closed form."""

import argparse
import gzip
import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ase", reason="the candidates are ASE atoms")
ROOT = Path(__file__).parents[2]
sys.path.insert(
    0, str(ROOT / "tools" / "dft")
)  # scripts, not a package: they import each other by name

import analysis  # noqa: E402
import elastic  # noqa: E402
import elasticity  # noqa: E402
import flavours  # noqa: E402
import jobs  # noqa: E402
import magnets  # noqa: E402
import molecules  # noqa: E402
import pack  # noqa: E402
import prototypes  # noqa: E402

# Analysis


@pytest.mark.parametrize(
    ("length", "spacing", "n"), [(4.0, 0.2, 20), (4.1, 0.2, 24), (3.9, 0.3, 14), (4.5, 0.2, 24)]
)
def test_grids_are_even_smooth_and_fine_enough(length: float, spacing: float, n: int) -> None:
    assert analysis.even_grid([length, length], spacing) == (n, n)


def test_a_band_limited_density_is_downsampled_exactly() -> None:
    def wave(n: int) -> np.ndarray:
        x = np.arange(n) / n
        return 2 + np.cos(2 * np.pi * (2 * x[:, None, None] - x[:, None] + 3 * x))

    np.testing.assert_allclose(
        analysis.downsampled(wave(24), (12, 8, 10)), wave(120)[::10, ::15, ::12], atol=1e-12
    )


def test_occupied_edges_of_bands() -> None:
    energies = np.array([[-5.0, 0.0, 2.0], [-4.0, 1.5, 3.0]])
    assert analysis.band_edges(energies, 1.0) == ([-5.0, 0.0], [-4.0, 0.0])


def test_bandwidth_takes_the_topmost_connected_bands() -> None:
    lowest, highest = [-20.0, -6.0, -3.0, -2.8], [-19.0, -3.2, -1.0, 0.0]
    assert analysis.bandwidth(lowest, highest) == pytest.approx(6.0)
    assert analysis.bandwidth(lowest, highest, tolerance=0.1) == pytest.approx(3.0)
    assert analysis.bandwidth(lowest, highest, tolerance=14) == pytest.approx(20.0)


def test_the_density_of_states_integrates_to_two_a_band() -> None:
    energies, weights = np.array([[0.0, 1.0], [0.3, 1.2]]), np.array([0.25, 0.75])
    grid = np.linspace(-2, 4, 3001)
    total = sum(analysis.density_of_states(energies, weights, at) for at in grid) * (
        grid[1] - grid[0]
    )
    assert total == pytest.approx(4, rel=1e-6)


# Elasticity


def stiffness(c11: float, c12: float, c44: float) -> np.ndarray:
    matrix = np.diag([c11 - c12] * 3 + [c44] * 3)
    matrix[:3, :3] += c12
    return matrix


def harmonic_stress(deformation: np.ndarray, constants: tuple[float, float, float]) -> np.ndarray:
    """GPa of a harmonic crystal under a symmetric deformation, from the 6 x 6 stiffness in GPa."""
    strain = deformation - np.eye(3)
    return stiffness(*constants) @ [
        *np.diag(strain),
        2 * strain[1, 2],
        2 * strain[0, 2],
        2 * strain[0, 1],
    ]


@pytest.mark.parametrize("d", [-0.03, 0.015, 0.1])
def test_both_strains_keep_the_volume_to_first_order(d: float) -> None:
    assert np.linalg.det(elasticity.stretch(d)) == pytest.approx(1 - d**2, abs=1e-14)
    assert np.linalg.det(elasticity.shear(d)) == pytest.approx(1 - d**2, abs=1e-14)


@pytest.mark.parametrize(
    "constants", [(114.0, 62.0, 32.0), (1050.0, 127.0, 560.0), (40.0, 60.0, -10.0)]
)
def test_the_constants_of_a_harmonic_crystal_come_back_whatever_its_pressure(
    constants: tuple[float, float, float],
) -> None:
    pressure = np.array([3.0, 3.0, 3.0, 0.0, 0.0, 0.0])
    stresses = [
        pressure + harmonic_stress(f(0.015), constants)
        for f in (elasticity.stretch, elasticity.shear)
    ]
    found = elasticity.cubic_constants((constants[0] + 2 * constants[1]) / 3, *stresses, 0.015)
    np.testing.assert_allclose(list(found.values()), constants)


def test_hill_lies_between_the_bounds_and_is_exact_for_an_isotropic_crystal() -> None:
    assert elasticity.hill_shear(150, 70, 40) == pytest.approx(40)  # 2 C44 = C11 - C12
    # Copper: Voigt (168.4 - 121.4 + 3 * 75.4) / 5 = 54.64, Reuss 5 * 47 * 75.4 / (4 * 75.4 + 3 * 47) = 17719 / 442.6
    assert elasticity.hill_shear(168.4, 121.4, 75.4) == pytest.approx((54.64 + 17719 / 442.6) / 2)
    assert np.isnan(elasticity.hill_shear(40, 60, 30))


@pytest.mark.parametrize(
    "constants",
    [(114, 62, 32), (40, 60, 30), (100, -60, 30), (100, 50, -1), (100, -49, 1), (50, 50, 10)],
)
def test_stable_means_that_every_strain_costs_energy(constants: tuple[float, float, float]) -> None:
    assert elasticity.is_stable(*constants) == bool(
        np.linalg.eigvalsh(stiffness(*constants)).min() > 1e-9
    )


def test_only_hcp_is_not_cubic() -> None:
    for name, _, atoms in prototypes.wanted()[::7]:
        metric = np.array(atoms.cell) @ np.array(atoms.cell).T
        angles = {
            round(float(c), 6) for c in (metric[0, 1], metric[0, 2], metric[1, 2]) / metric[0, 0]
        }
        equal = np.allclose(np.diag(metric), metric[0, 0])
        assert elastic.is_cubic({"name": name}) == (equal and len(angles) == 1)


# Candidates


def test_every_wanted_name_has_its_atoms_once() -> None:
    names = (ROOT / "tools" / "dft" / "candidates.txt").read_text().split()
    found = prototypes.wanted()
    assert sorted(name for name, _, _ in found) == sorted(names)
    assert len(set(names)) == len(names)
    assert prototypes.wanted()[5][0] == found[5][0]


def test_guessed_bonds_are_near_the_sum_of_the_radii() -> None:
    for name, _, atoms in [*prototypes.wanted()[::11], *magnets.magnets()[::11]]:
        cluster = atoms.repeat((3, 3, 3))
        distances = cluster.get_distances(len(cluster) // 2, range(len(cluster)), mic=True)
        nearest = np.sort(distances)[1]
        assert 1.0 < nearest < 6.0, name
        assert atoms.get_volume() > 3 * len(atoms), name


def test_shipped_crystals_are_among_the_candidates() -> None:
    families = {name: family for name, family, _ in prototypes.candidates()}
    for name, (record, _) in pack.packed(pack.HERE).items():
        assert families[name] == record["family"]


def test_magnets_start_with_moments_and_have_names_of_their_own() -> None:
    found = magnets.magnets()
    names = [name for name, _, _ in found]
    assert len(set(names)) == len(names) > 100
    assert not set(names) & {name for name, _, _ in prototypes.candidates()}
    assert all(atoms.get_initial_magnetic_moments().sum() > 0 for _, _, atoms in found)


def test_the_sulfur_ring_has_its_bonds_all_around() -> None:
    ring = molecules.sulfur_ring()
    bonds = [ring.get_distance(k, (k + 1) % 8) for k in range(8)]
    np.testing.assert_allclose(bonds, 2.06)


# Jobs


def options(out: Path, *more: str) -> argparse.Namespace:
    return jobs.arguments("").parse_args([str(out), *more])


def fake(name: str, family: str, atoms: object) -> tuple[dict, np.ndarray]:
    if name == "bad":
        raise ValueError("no such luck")
    if name == "slow":
        time.sleep(10)
    return {"name": name, "family": family}, np.ones((2, 2, 2))


NAMES = [(name, "element", None) for name in ("a", "bad", "b", "c")]


def test_a_failure_is_recorded_and_not_tried_again_unless_asked(tmp_path: Path) -> None:
    jobs.run(NAMES, fake, options(tmp_path))
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["a.json", "b.json", "c.json"]
    assert "no such luck" in (tmp_path / "bad.fail").read_text()
    assert list(jobs.pending(NAMES, options(tmp_path))) == []
    assert [name for name, _, _ in jobs.pending(NAMES, options(tmp_path, "--retry-failed"))] == [
        "bad"
    ]
    jobs.run(
        NAMES,
        lambda name, family, atoms: fake("bad again", family, atoms),
        options(tmp_path, "--retry-failed"),
    )
    jobs.save(tmp_path, {"name": "bad"}, np.ones((2, 2, 2)))
    assert not (tmp_path / "bad.fail").exists()


def test_shares_are_disjoint_and_complete_and_packed_names_are_left_out(tmp_path: Path) -> None:
    shares = [
        [name for name, _, _ in jobs.pending(NAMES, options(tmp_path, str(part), "3"))]
        for part in range(3)
    ]
    assert sorted(name for share in shares for name in share) == ["a", "b", "bad", "c"]
    packed = tmp_path / "crystals.json.gz"
    packed.write_bytes(gzip.compress(json.dumps([{"name": "a"}, {"name": "c"}]).encode()))
    left = jobs.pending(NAMES, options(tmp_path, "--packed", str(packed)))
    assert [name for name, _, _ in left] == ["bad", "b"]
    assert [name for name, _, _ in jobs.pending(NAMES, options(tmp_path, "--only", "c"))] == ["c"]


def test_too_long_is_a_failure(tmp_path: Path) -> None:
    jobs.run([("slow", "element", None)], fake, options(tmp_path, "--time-limit", "1"))
    assert "over 1 s" in (tmp_path / "slow.fail").read_text()


def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    jobs.write_whole(path, b"old")
    monkeypatch.setattr(jobs.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        jobs.write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.glob("*.json")) == [path]


# Packing


def computed(folder: Path, name: str, symbols: list[str], energy: float, **changes: object) -> None:
    """What compute.py leaves for one crystal."""
    rng = np.random.default_rng(len(name))
    record = {
        "name": name,
        "family": "AB",
        "symbols": symbols,
        "cell": (4.0 * np.eye(3)).tolist(),
        "scaled_positions": np.linspace(0, 0.5, len(symbols))[:, None].repeat(3, 1).tolist(),
        "natoms": len(symbols),
        "nelectrons": 8.0,
        "grid": [12, 12, 12],
        "volume": 64.0,
        "mass_density": 2.0,
        "energy": energy * len(symbols),
        "energy_per_atom": energy,
        "fermi_energy": 1.0,
        "band_gap": 0.0,
        "direct_gap": 0.0,
        "bandwidth": 4.0,
        "dos_fermi": 0.1,
        "bulk_modulus": 80.0,
        "bprime": 4.0,
        "eos_volumes": [60.0, 64.0, 68.0],
        "eos_energies": [-3.0, -3.1, -3.0],
        "eos_rms": 1e-4,
    }
    values = 1 + rng.random((12, 12, 12))
    values *= 8 / (values.mean() * 64)
    if "magnetic_moment" in changes:
        values = np.stack([values, 0.25 * values])
    jobs.save(folder, record | changes, values)


MOLECULES = {"O": -4.8, "F": -1.7}


def test_packing_merges_keeps_and_sorts(tmp_path: Path) -> None:
    first, second, dest = tmp_path / "first", tmp_path / "second", tmp_path / "dest"
    first.mkdir()
    second.mkdir()
    computed(first, "ZnO-b", ["Zn", "O"], -3.5)
    computed(first, "Zn-fcc", ["Zn"], -1.0)
    new, left_out = pack.computed(first, set())
    manifest = pack.write(new, MOLECULES, dest)
    assert (manifest["n"], manifest["version"], left_out) == (2, "1", {})

    computed(second, "Zn-fcc", ["Zn"], -9.0)  # packed already: kept as it was
    computed(second, "Zn-hcp", ["Zn"], -1.2)
    computed(second, "AlF-a", ["Al", "F"], -2.0)
    computed(second, "rough", ["Zn"], -1.0, eos_rms=0.01)
    computed(second, "soft", ["Zn"], -1.0, bulk_modulus=-5.0)
    before = pack.packed(dest)
    new, left_out = pack.computed(second, set(before))
    manifest = pack.write(before | new, MOLECULES, dest)
    after = pack.packed(dest)
    assert list(after) == ["AlF-a", "Zn-fcc", "Zn-hcp", "ZnO-b"]
    assert (manifest["n"], manifest["version"]) == (4, "2")
    assert sorted(left_out) == ["rough", "soft"]
    np.testing.assert_array_equal(after["ZnO-b"][1], before["ZnO-b"][1])
    energies = {name: record["targets"]["formation_energy"] for name, (record, _) in after.items()}
    assert energies["AlF-a"] is None
    assert energies["Zn-hcp"] == 0
    assert energies["Zn-fcc"] == pytest.approx(0.2)
    assert energies["ZnO-b"] == pytest.approx(-3.5 + (1.2 + 4.8) / 2)
    assert manifest == json.loads((dest / "manifest.json").read_text())
    assert (
        pack.write(after, MOLECULES, dest) == manifest
    )  # nothing new: same bytes, hash and version


def test_packed_densities_keep_the_valence_electrons(tmp_path: Path) -> None:
    computed(tmp_path, "ZnO-b", ["Zn", "O"], -3.5)
    (record, density), *_ = pack.computed(tmp_path, set())[0].values()
    assert density.dtype == np.float16
    assert density.shape == (1, 20, 20, 20)
    assert density.astype(float).mean() * 64 == pytest.approx(record["valence_electrons"], rel=1e-3)


def test_magnets_are_packed_with_two_channels_and_their_moment(tmp_path: Path) -> None:
    computed(tmp_path, "Fe-bcc-fm", ["Fe"], -5.0, magnetic_moment=2.0)
    manifest = pack.write(pack.computed(tmp_path, set())[0], MOLECULES, tmp_path / "dest")
    record, density = pack.packed(tmp_path / "dest")["Fe-bcc-fm"]
    assert manifest["settings"]["spin"] == "polarised, ferromagnetic"
    assert record["targets"]["magnetic_moment"] == 2.0
    assert density.shape == (2, 20, 20, 20)
    assert density[1].astype(float).mean() * 64 == pytest.approx(2.0, rel=1e-3)


def strained(folder: Path, name: str, *grids: tuple[float, float, float]) -> None:
    """What elastic.py leaves for one crystal."""
    content = [dict(zip(("c11", "c12", "c44"), grid, strict=True)) for grid in grids]
    (folder / f"{name}.elastic").write_text(json.dumps({"name": name, "grids": content}))


def test_elastic_constants_are_packed_where_two_grids_agree(tmp_path: Path) -> None:
    for name in ("fine", "rough", "unstable", "unsure", "insulator", "not-strained"):
        computed(tmp_path, name, ["Zn"], -1.0)
    strained(tmp_path, "fine", (150, 70, 43), (152, 70, 41))
    strained(tmp_path, "rough", (150, 70, 80), (150, 70, 40))
    strained(tmp_path, "unstable", (60, 70, 40), (20, 70, 10))
    strained(tmp_path, "unsure", (71, 70, 40), (69, 70, 40))
    strained(tmp_path, "insulator", (150, 70, 40))
    strained(tmp_path, "elsewhere", (150, 70, 40))
    crystals, _ = pack.computed(tmp_path, set())
    done, left_out = pack.add_elastic(crystals, tmp_path)
    assert done == 3
    assert sorted(left_out) == ["rough", "unsure"]
    found = {name: record["targets"] for name, (record, _) in crystals.items()}
    assert found["insulator"]["shear_modulus"] == pytest.approx(40)
    assert found["fine"]["shear_modulus"] == pytest.approx(41)
    assert (found["unstable"]["shear_modulus"], found["unstable"]["mechanically_stable"]) == (
        None,
        0,
    )
    assert crystals["fine"][0]["more"]["c11"] == 152
    assert all("shear_modulus" not in found[name] for name in ("rough", "unsure", "not-strained"))


def test_a_packed_chgcar_is_what_a_user_would_bring(tmp_path: Path) -> None:
    from taskgroup.densities import read_density

    computed(tmp_path, "ZnO-b", ["Zn", "O"], -3.5)
    raw = json.loads((tmp_path / "ZnO-b.json").read_text())
    values = np.load(tmp_path / "ZnO-b.npz")["density"]
    pack.write_chgcar(raw, values, tmp_path / "chgcar" / "ZnO-b.CHGCAR.gz")
    density = read_density(tmp_path / "chgcar" / "ZnO-b.CHGCAR.gz")
    np.testing.assert_allclose(density.values[0], values, rtol=1e-6)
    assert [path.name for path in (tmp_path / "chgcar").iterdir()] == ["ZnO-b.CHGCAR.gz"]


def test_the_shipped_dataset_is_what_its_manifest_says() -> None:
    manifest = json.loads((pack.HERE / "manifest.json").read_text())
    content = {name: (pack.HERE / name).read_bytes() for name in manifest["sha256"]}
    assert pack.version_of(content, pack.HERE / "manifest.json")["hash"] == manifest["hash"]
    crystals = pack.packed(pack.HERE)
    assert len(crystals) == manifest["n"]
    assert sum(len(data) for data in content.values()) < 60e6
    for name, (record, density) in crystals.items():
        electrons = density.astype(float).mean() * record["targets"]["volume"]
        assert electrons == pytest.approx(record["valence_electrons"], rel=1e-3), name
    molecules_file = json.loads((pack.HERE / "molecules.json").read_text())
    records = [record for record, _ in crystals.values()]
    before = [record["targets"]["formation_energy"] for record in records]
    pack.set_formation_energies(records, molecules_file)
    after = [record["targets"]["formation_energy"] for record in records]
    assert [e is None for e in after] == [e is None for e in before]
    np.testing.assert_allclose(
        [e for e in after if e is not None], [e for e in before if e is not None], atol=1e-9
    )


# Flavours


def test_flavours_are_of_enough_packed_crystals_of_every_family() -> None:
    records = flavours.crystals()
    names = [record["name"] for record in records]
    assert len(set(names)) == len(names) >= 60
    assert set(flavours.ALWAYS) <= set(names)
    families = [record["family"] for record in records if record["name"] not in flavours.ALWAYS]
    shares = [families.count(family) for family in set(families)]
    assert max(shares) - min(shares) <= 1
    with_variant = [
        name
        for record, name in zip(records, names, strict=True)
        if set(record["species"]) & set(flavours.LARGE_CORES)
    ]
    assert len(with_variant) >= 25
