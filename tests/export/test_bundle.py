"""A bundle comes back as it was, or is refused in one line."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from taskgroup.errors import BundleError, InputError
from taskgroup.export import Bundle, conformal_widths, load_bundle, residual_scale, save_bundle
from taskgroup.export.card import model_card
from taskgroup.grouping import Grouping
from taskgroup.models import ModelConfig, MultiTaskNetwork


def alter(folder: Path, change, seal: bool = True) -> None:
    """Change bundle.json; with ``seal`` it gets the checksum that fits, as a newer version would write it."""
    path = folder / "bundle.json"
    content = json.loads(path.read_text())
    change(content)
    if seal:
        rest = {name: value for name, value in content.items() if name != "sha256"}
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
        content["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(content))


def test_a_bundle_reads_back_equal_and_predicts_bit_for_bit_the_same(
    saved, bundle, dataset
) -> None:
    loaded = load_bundle(saved)
    assert loaded.spec == bundle.spec
    for group, networks in bundle.members.items():
        for ours, theirs in zip(networks, loaded.members[group], strict=True):
            assert ours.to_dict() == theirs.to_dict()
            assert all(
                torch.equal(a, theirs.state_dict()[name]) for name, a in ours.state_dict().items()
            )
    np.testing.assert_array_equal(loaded.predict(dataset), bundle.predict(dataset))


def test_the_folder_holds_json_safetensors_and_a_card_and_nothing_that_executes(saved) -> None:
    suffixes = {file.suffix for file in saved.rglob("*") if file.is_file()}
    assert suffixes == {".json", ".safetensors", ".md"}


def test_the_card_tells_targets_units_metrics_and_data(saved, bundle) -> None:
    card = (saved / "README.md").read_text()
    for word in (
        "modulus",
        "GPa",
        str(bundle.spec.grouping),
        bundle.spec.dataset["hash"],
        "0.5 [0.1, 0.8]",
        "mae 0.2",
    ):
        assert word in card


def test_the_card_names_backbone_and_hyper_parameters_and_the_verdict(bundle, tmp_path) -> None:
    group = bundle.spec.grouping.groups[0]
    entry = {"targets": list(group.targets), "members": [{"training": {"lr": 0.003}}]}
    provenance = {"verdict": "joining helps.", "groups": [entry]}
    spec = replace(bundle.spec, provenance=provenance)
    card = (save_bundle(tmp_path / "b", spec, bundle.members) / "README.md").read_text()
    assert "joining helps." in card
    assert "resnet3d" in card
    assert "lr 0.003" in card


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("density", "from its electron density alone."),
        ("structure", "from its electron density with the atoms that travel with it:"),
        ("structure_alone", "without its electron density (a yardstick"),
    ],
)
def test_the_card_says_whether_the_atoms_are_given(bundle, mode, words) -> None:
    members = {}
    for group, networks in bundle.members.items():
        config = ModelConfig(backbone="peaks", width=2, descriptors=False, atoms=mode)
        network = networks[0]
        members[group] = [MultiTaskNetwork(config, network.targets, network.scaler)]
    assert words in model_card(bundle.spec, members)


def test_editing_the_card_does_not_spoil_the_bundle(saved) -> None:
    (saved / "README.md").write_text("mine")
    load_bundle(saved)


def test_a_newer_format_is_refused_by_its_number(saved) -> None:
    alter(saved, lambda content: content.update(format_version=99))
    with pytest.raises(
        BundleError, match=r"format_version must be at most 3, but it is 99 .*upgrade"
    ):
        load_bundle(saved)


@pytest.mark.parametrize("name", ["networks/group0-member1.safetensors", "seen_ids.json"])
def test_an_altered_file_is_refused_by_name(saved, name) -> None:
    content = bytearray((saved / name).read_bytes())
    content[-1] ^= 1
    (saved / name).write_bytes(content)
    with pytest.raises(BundleError, match=rf"{name}: .*altered"):
        load_bundle(saved)


def test_a_missing_file_is_refused_by_name(saved) -> None:
    (saved / "networks/group1-member0.safetensors").unlink()
    with pytest.raises(BundleError, match=r"group1-member0\.safetensors, but that file is missing"):
        load_bundle(saved)


def test_an_edited_unit_is_noticed(saved) -> None:
    alter(saved, lambda content: content["spec"]["targets"][0].update(unit="eV"), seal=False)
    with pytest.raises(BundleError, match="altered"):
        load_bundle(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"format_version": "one"}', "\0\1"])
def test_a_damaged_bundle_json_is_refused(saved, text) -> None:
    (saved / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        load_bundle(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("spec"),
        lambda content: content.pop("groups"),
        lambda content: content.pop("files"),
        lambda content: content["spec"].pop("grouping"),
        lambda content: content["spec"]["targets"].pop(),
        lambda content: content["groups"].pop(),
        lambda content: content["groups"][0].update(members=["../outside.safetensors"]),
        lambda content: content["files"].update({"../outside": "0"}),
        lambda content: content["files"].pop("networks/group0-member0.safetensors"),
        lambda content: content["groups"][0].update(members=content["groups"][1]["members"]),
    ],
)
def test_a_bundle_json_that_lacks_or_contradicts_something_is_refused_in_one_line(
    saved, change
) -> None:
    alter(saved, change)
    with pytest.raises(BundleError) as caught:
        load_bundle(saved)
    assert "\n" not in str(caught.value)


def test_an_unknown_backbone_is_refused(saved) -> None:
    name = "networks/group0-member0.safetensors"
    with safe_open(saved / name, framework="pt") as file:
        description = file.metadata()["network"].replace("resnet3d", "resnet9000")
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    save_file(weights, saved / name, metadata={"network": description})
    digest = hashlib.sha256((saved / name).read_bytes()).hexdigest()
    alter(saved, lambda content: content["files"].update({name: digest}))
    with pytest.raises(BundleError, match="resnet9000") as caught:
        load_bundle(saved)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_bundle_is_refused_and_a_run_is_pointed_to_its_export(
    saved, tmp_path
) -> None:
    with pytest.raises(BundleError, match=r"folder with bundle\.json, but there is none here\.$"):
        load_bundle(tmp_path / "nothing")
    os.rename(saved, tmp_path / "export")
    with pytest.raises(BundleError, match=r"Did you mean .*export\?"):
        load_bundle(tmp_path)


def test_saving_replaces_a_bundle_but_nothing_else(saved, bundle, tmp_path) -> None:
    save_bundle(saved, replace(bundle.spec, name="second"), bundle.members)
    assert load_bundle(saved).spec.name == "second"
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter1").write_text("precious")
    with pytest.raises(BundleError, match="something else is there"):
        save_bundle(other, bundle.spec, bundle.members)
    assert (other / "chapter1").read_text() == "precious"
    with pytest.raises(BundleError, match="something else is there"):
        save_bundle(other / "chapter1", bundle.spec, bundle.members)


def test_a_save_that_fails_leaves_the_old_bundle_and_no_rubbish(saved, bundle, monkeypatch) -> None:
    from taskgroup.export import bundle_folder as module

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_network", full)
    with pytest.raises(OSError, match="No space"):
        save_bundle(saved, replace(bundle.spec, name="second"), bundle.members)
    assert load_bundle(saved).spec.name == "toy-study"
    assert list(saved.parent.iterdir()) == [saved]


def test_a_group_without_networks_or_with_those_of_another_is_refused(bundle) -> None:
    groups = bundle.spec.grouping.groups
    with pytest.raises(BundleError, match="has none"):
        Bundle(bundle.spec, {group: bundle.members[group] for group in groups[1:]})
    with pytest.raises(BundleError, match="has the targets"):
        Bundle(bundle.spec, dict.fromkeys(groups, bundle.members[groups[0]]))


def test_a_grouping_of_other_targets_is_refused(bundle) -> None:
    with pytest.raises(BundleError, match="must serve its targets"):
        replace(bundle.spec, grouping=Grouping.singles(["energy", "metal"]))


def test_the_residual_is_the_error_in_the_space_of_the_transform(bundle) -> None:
    truth, predicted = np.array([1.0, 10.0, 100.0, np.nan]), np.array([10.0, 100.0, 10.0, 5.0])
    assert residual_scale(bundle.spec.target("modulus"), truth, predicted) == pytest.approx(1.0)
    assert residual_scale(bundle.spec.target("energy"), [1.0, 2.0], [4.0, 6.0]) == pytest.approx(
        np.sqrt(12.5)
    )
    assert residual_scale(bundle.spec.target("metal"), [0.0, 1.0], [0.2, 0.9]) is None
    assert residual_scale(bundle.spec.target("energy"), [np.nan], [1.0]) is None


def test_conformal_intervals_cover_new_rows_as_often_as_they_say(bundle) -> None:
    """Many draws of 40 errors, skewed and heavy-tailed, and a new one: covered as said, and not much more often."""
    random, energy = np.random.default_rng(0), bundle.spec.target("energy")
    errors = random.standard_t(2, (4000, 41)) + random.exponential(3, (4000, 41))
    inside = {name: 0 for name in ("0.5", "0.68", "0.9", "0.95")}
    for *known, new in errors:
        for coverage, width in conformal_widths(energy, np.zeros(40), known).items():
            inside[coverage] += abs(new) <= width
    for coverage, count in inside.items():
        assert float(coverage) - 0.015 < count / len(errors) < float(coverage) + 1 / 41 + 0.015


def test_conformal_widths_are_in_the_space_of_the_transform_and_only_where_rows_suffice(
    bundle,
) -> None:
    widths = conformal_widths(
        bundle.spec.target("modulus"), np.full(9, 10.0), 10.0 ** np.arange(1, 10)
    )
    assert widths == {"0.5": 4, "0.68": 6, "0.9": 8}  # 0.95 needs 19 rows
    assert conformal_widths(bundle.spec.target("metal"), [0.0, 1.0], [0.2, 0.9]) is None


def test_bundle_errors_are_input_errors() -> None:
    assert issubclass(BundleError, InputError)
