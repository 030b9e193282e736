"""A bundle proves that it still predicts what it did, or is refused in one line that says what changed."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from taskgroup.cli import main
from taskgroup.errors import BundleError
from taskgroup.export import (
    Bundle,
    ReferenceInputs,
    check_bundle,
    choose_inputs,
    load_bundle,
    reference,
    save_bundle,
)
from taskgroup.export import bundle_folder as folder_module
from taskgroup.export.reference import (
    TOLERANCE,
    TOLERANCE_OF_OTHER_VERSIONS,
    BundleCheck,
    VersionChange,
    version_changes,
)
from taskgroup.models.views import View


@pytest.fixture
def proven(bundle, dataset, tmp_path):
    """A bundle folder with reference predictions."""
    inputs = choose_inputs(dataset, 1)
    return save_bundle(tmp_path / "model", bundle.spec, bundle.members, inputs)


@pytest.fixture
def other_view(monkeypatch):
    """A version of taskgroup that prepares densities in a slightly different way."""

    def change(factor: float) -> None:
        for kind in _subclasses(View):
            if "prepare" in vars(kind):
                monkeypatch.setattr(kind, "prepare", _scaled(kind.prepare, factor))

    return change


def _subclasses(kind: type) -> set[type]:
    found = {kind}
    for child in kind.__subclasses__():
        found |= _subclasses(child)
    return found


def _scaled(prepare, factor):
    def scaled(self, crystals):
        return prepare(self, replace(crystals, density=crystals.density * factor))

    return scaled


def test_a_bundle_that_predicts_as_before_loads_and_its_reference_comes_with_it(
    proven, bundle, dataset
) -> None:
    loaded = load_bundle(proven)
    np.testing.assert_array_equal(loaded.reference.densities, choose_inputs(dataset, 1).densities)
    result = check_bundle(proven)
    assert (result.holds, result.changes, result.n_inputs) == (True, (), 3)
    assert set(result.deviations) == set(bundle.targets)
    assert max(result.deviations.values()) < TOLERANCE_OF_OTHER_VERSIONS / 10


def test_other_threads_and_batches_stay_far_within_the_tolerance(proven) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert max(check_bundle(proven).deviations.values()) < TOLERANCE_OF_OTHER_VERSIONS / 10
    finally:
        torch.set_num_threads(before)


def test_code_that_computes_something_else_is_refused_in_one_line(proven, other_view) -> None:
    other_view(100.0)
    with pytest.raises(
        BundleError, match=r"must predict what it did when taskgroup .* wrote it"
    ) as caught:
        load_bundle(proven)
    message = str(caught.value)
    assert "\n" not in message
    assert "standard deviations" in message
    assert "no recorded version differs" in message
    assert "--no-check" in message
    assert load_bundle(proven, check=False).targets == load_bundle(proven, check=False).targets
    assert not check_bundle(proven).holds


def test_the_versions_that_changed_are_named(proven, other_view, monkeypatch) -> None:
    other_view(100.0)
    monkeypatch.setattr(
        folder_module, "meaning", lambda config: {"view": {"name": "fractional", "version": 9}}
    )
    with pytest.raises(BundleError, match=r"view\.version: .* then, 9 now"):
        load_bundle(proven)


def test_a_changed_version_with_the_same_predictions_is_a_warning(
    proven, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(folder_module, "meaning", lambda config: {"plug-in": {"version": "0.3"}})
    with caplog.at_level(logging.WARNING):
        load_bundle(proven)
    assert "reference predictions are as they were" in caplog.text
    assert "plug-in.version: None then, 0.3 now" in caplog.text


def test_without_reference_predictions_a_changed_version_is_refused(
    bundle, tmp_path, monkeypatch
) -> None:
    folder = save_bundle(tmp_path / "bare", bundle.spec, bundle.members)
    assert load_bundle(folder).reference is None
    monkeypatch.setattr(folder_module, "meaning", lambda config: {"view": {"version": 9}})
    with pytest.raises(BundleError, match="has no reference predictions"):
        load_bundle(folder)


def test_a_prediction_that_is_no_number_any_more_is_a_change(proven, bundle, tmp_path) -> None:
    group = next(iter(bundle.members))
    broken = load_bundle(proven)
    with torch.no_grad():
        for parameter in broken.members[group][0].parameters():
            parameter.fill_(float("nan"))
    from taskgroup.export.reference import compare_reference

    assert np.inf in compare_reference(proven, broken).values()


def test_an_altered_reference_file_is_refused(proven) -> None:
    path = proven / "reference.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"reference\.safetensors: .*altered"):
        load_bundle(proven)


def test_reference_inputs_are_few_small_and_the_same_for_equal_datasets(
    make_dataset, monkeypatch
) -> None:
    dataset = make_dataset()
    chosen, again = choose_inputs(dataset, 1), choose_inputs(make_dataset(), 1)
    np.testing.assert_array_equal(chosen.densities, again.densities)
    volumes = np.linalg.det(chosen.lattices)
    all_volumes = np.linalg.det(dataset.lattices)
    assert volumes[1] == all_volumes.min()
    assert volumes[2] == all_volumes.max()
    assert {density.dtype for density in chosen.densities} == {np.dtype(np.float16)}
    monkeypatch.setattr(reference, "_MOST_BYTES", 2 * chosen.densities[0].nbytes)
    assert len(choose_inputs(dataset, 1).densities) == 2
    monkeypatch.setattr(reference, "_MOST_BYTES", 1)
    assert len(choose_inputs(dataset, 1).densities) == 1


def test_reference_inputs_may_have_grids_of_several_shapes(bundle, tmp_path) -> None:
    random = np.random.default_rng(0)
    densities = [
        random.uniform(0.1, 1, shape).astype(np.float16) for shape in ((1, 8, 8, 8), (1, 6, 9, 12))
    ]
    inputs = ReferenceInputs(densities, np.stack([4.0 * np.eye(3), np.diag([3.0, 4.5, 6.0])]))
    folder = save_bundle(tmp_path / "ragged", bundle.spec, bundle.members, inputs)
    result = check_bundle(folder)
    assert result.n_inputs == 2
    assert result.holds
    for stored, density in zip(load_bundle(folder).reference.densities, densities, strict=True):
        np.testing.assert_array_equal(stored, density)


def test_an_exported_copy_keeps_its_reference(proven, tmp_path) -> None:
    loaded = load_bundle(proven)
    copy = save_bundle(tmp_path / "copy", loaded.spec, loaded.members, loaded.reference)
    assert check_bundle(copy).n_inputs == 3


def test_a_bundle_of_the_first_format_loads_without_proof(bundle, tmp_path) -> None:
    folder = save_bundle(tmp_path / "old", bundle.spec, bundle.members)
    path = folder / "bundle.json"
    content = json.loads(path.read_text())
    del content["meaning"]
    content["format_version"] = 1
    content["sha256"] = folder_module._content_hash(content)
    path.write_text(json.dumps(content))
    assert isinstance(load_bundle(folder), Bundle)
    assert check_bundle(folder).n_inputs == 0


def test_version_changes_are_listed_once_however_many_networks_share_them() -> None:
    written = {"a": {"view": {"version": 1}}, "b": {"view": {"version": 1}}}
    now = {"a": {"view": {"version": 2}}, "b": {"view": {"version": 2}}}
    assert version_changes(written, now) == (VersionChange("view.version", 1, 2),)
    assert version_changes({}, now) == ()
    assert BundleCheck("0.1.0", (), {}, 0).holds


def call(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


def test_the_command_line_refuses_and_can_be_told_not_to(
    proven, other_view, dataset, capsys, monkeypatch
) -> None:
    from taskgroup.datasets.load import BUILT_IN

    monkeypatch.setitem(BUILT_IN, "crystals", lambda: dataset)
    assert call(capsys, "predict", proven, "crystals")[0] == 0
    other_view(100.0)
    code, out, err = call(capsys, "predict", proven, "crystals")
    assert (code, out) == (2, "")
    assert "must predict what it did" in err
    assert len(err.strip().splitlines()) == 1
    assert call(capsys, "predict", proven, "crystals", "--no-check")[0] == 0


def test_doctor_prints_the_comparison(proven, other_view, capsys) -> None:
    code, out, _ = call(capsys, "doctor", proven)
    assert code == 0
    assert "3 reference inputs" in out
    assert "same predictions" in out
    other_view(100.0)
    code, out, _ = call(capsys, "doctor", proven)
    assert code == 2
    assert "differ" in out
    code, out, _ = call(capsys, "doctor", proven, "--json")
    assert json.loads(out)["holds"] is False


def test_a_changed_version_explains_smaller_changes_than_another_machine_makes() -> None:
    change = (VersionChange("view.version", 1, 2),)
    small = {"a": (TOLERANCE + TOLERANCE_OF_OTHER_VERSIONS) / 2}
    assert BundleCheck("0.2.0", (), small, 3).holds
    assert not BundleCheck("0.2.0", change, small, 3).holds
    assert not BundleCheck("0.2.0", (), {"a": 2 * TOLERANCE}, 3).holds
