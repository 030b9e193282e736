"""Programs in other formats give the bundle's numbers; a registered model too."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from taskgroup.datasets import TargetScaler
from taskgroup.export import Bundle
from taskgroup.export.formats import GroupProgram, export_programs
from taskgroup.grouping import Group, Grouping
from taskgroup.models import AtomBatch, ModelConfig, MultiTaskNetwork


@pytest.fixture(scope="module")
def together(make_together, dataset):
    """One member with a lean view: tracing all fields of several members takes minutes."""
    return make_together(dataset, 1, fields=("density", "gradient"), widths=(), descriptors=False)


@pytest.fixture(scope="module")
def make_together(bundle):
    """A bundle of one group, so that tracing is done once a format."""

    def make(dataset, members, backbone="resnet3d", **view):
        group = Group(bundle.targets)
        specs = [bundle.spec.target(name) for name in group.targets]
        scaler = TargetScaler.fit(specs, dataset.targets.select(group.targets).values)
        networks = []
        for seed in range(members):
            torch.manual_seed(seed)
            config = ModelConfig(
                backbone=backbone, width=4, stages=1, grid=4, features=8, head_width=4, **view
            )
            networks.append(MultiTaskNetwork(config, specs, scaler, 1).eval())
        return Bundle(replace(bundle.spec, grouping=Grouping((group,))), {group: networks})

    return make


@pytest.fixture(scope="module")
def programs(together, tmp_path_factory):
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("programs")
    for form in ("pt2", "onnx"):
        export_programs(together, folder, form)
    return folder


def assert_same_as_bundle(bundle, dataset, run) -> None:
    """``run(density, lattice)`` -> values, stds of all targets; on a batch of a size the example did not have."""
    frame = bundle.predict(dataset, rows=range(5))
    values, stds = run(dataset.densities(range(5)), dataset.lattices[:5].astype(np.float32))
    np.testing.assert_allclose(values, frame[list(bundle.targets)], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        stds, frame[[f"{name}_std" for name in bundle.targets]], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("members", [1, 3])
def test_a_program_computes_what_the_bundle_does(make_together, dataset, members) -> None:
    bundle = make_together(dataset, members)
    (group,) = bundle.members
    program = GroupProgram(bundle, group)

    def run(density, lattice):
        with torch.no_grad():
            return program(torch.tensor(density), torch.tensor(lattice))

    assert_same_as_bundle(bundle, dataset, run)


def test_a_program_leaves_out_helpers(bundle, dataset) -> None:
    group = bundle.spec.grouping.serving("metal")
    with torch.no_grad():
        values, _ = GroupProgram(bundle, group)(
            torch.tensor(dataset.densities()), torch.tensor(dataset.lattices, dtype=torch.float32)
        )
    np.testing.assert_allclose(values[:, 0], bundle.predict(dataset)["metal"], rtol=1e-5)
    assert values.shape == (len(dataset), 1)


def test_the_pt2_program_gives_the_numbers_of_the_bundle(programs, together, dataset) -> None:
    def run(density, lattice):
        with torch.no_grad():
            return torch.export.load(programs / "group0.pt2").module()(
                torch.tensor(density), torch.tensor(lattice)
            )

    assert_same_as_bundle(together, dataset, run)


def test_the_peaks_of_a_density_are_found_by_the_program_too(
    make_together, dataset, tmp_path
) -> None:
    bundle = make_together(dataset, 1, backbone="peaks", descriptors=False)
    export_programs(bundle, tmp_path, "pt2")
    program = torch.export.load(tmp_path / "group0.pt2").module()

    def run(density, lattice):
        with torch.no_grad():
            return program(torch.tensor(density), torch.tensor(lattice))

    assert_same_as_bundle(bundle, dataset, run)


def test_a_program_of_a_network_that_knows_the_atoms_takes_them(
    make_together, dataset, tmp_path
) -> None:
    species = [("Si",), ("Na", "Cl")] * (len(dataset) // 2)
    frac_coords = [np.arange(3.0 * len(atoms)).reshape(-1, 3) / 7 for atoms in species]
    dataset = replace(dataset, species=species, frac_coords=frac_coords)
    bundle = make_together(
        dataset, 1, backbone="peaks", descriptors=False, atoms="structure", lowpass=0.4
    )
    export_programs(bundle, tmp_path, "pt2")
    program = torch.export.load(tmp_path / "group0.pt2").module()
    atoms = AtomBatch.of(dataset.species[:5], dataset.frac_coords[:5])

    def run(density, lattice):
        with torch.no_grad():
            return program(
                torch.tensor(density), torch.tensor(lattice), atoms.numbers, atoms.positions
            )

    assert_same_as_bundle(bundle, dataset, run)


@pytest.mark.parametrize("form", ["pt2", "onnx"])
def test_programs_convolve_with_radial_kernels_as_the_bundle_does(
    make_together, dataset, tmp_path, form
) -> None:
    bundle = make_together(
        dataset,
        1,
        backbone="radial3d",
        reader=4,
        words=2,
        heads=1,
        stride=1,
        sigmas=(0.0, 0.4),
        descriptors=False,
    )
    assert_same_as_bundle(bundle, dataset, exported(bundle, tmp_path, form))


def exported(bundle, folder, form):
    """Return a function that runs the bundle's only program in a format."""
    if form == "onnx":
        pytest.importorskip("onnxscript")
        onnxruntime = pytest.importorskip("onnxruntime")
    export_programs(bundle, folder, form)
    if form == "onnx":
        session = onnxruntime.InferenceSession(folder / "group0.onnx")
        return lambda rho, cell: session.run(["values", "stds"], {"density": rho, "lattice": cell})
    program = torch.export.load(folder / "group0.pt2").module()

    def run(density, lattice):
        with torch.no_grad():
            return program(torch.tensor(density), torch.tensor(lattice))

    return run


def test_the_onnx_program_gives_the_numbers_of_the_bundle(programs, together, dataset) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(programs / "group0.onnx")
    assert_same_as_bundle(
        together,
        dataset,
        lambda rho, cell: session.run(["values", "stds"], {"density": rho, "lattice": cell}),
    )


def test_programs_of_all_formats_stand_in_one_list_with_units(programs, together) -> None:
    content = json.loads((programs / "programs.json").read_text())
    assert [program["file"] for program in content["programs"]] == ["group0.pt2", "group0.onnx"]
    assert all(program["units"] == together.units for program in content["programs"])
    assert content["density"] == {"kind": "valence", "grid": 8, "sigma": 0.2, "n_channels": 1}
