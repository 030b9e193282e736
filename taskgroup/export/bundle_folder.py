"""A bundle on disk: the grouping, its networks, units, provenance; loading it runs no code of its own.

    bundle.json         BundleSpec, the groups with their network files, versions, sha256 of every file and of itself
    networks/*.safetensors   one network per group and member (a member is a seed); see network_file
    reference.safetensors    a few densities with their predictions; see reference
    seen_ids.json       ids of the rows the networks have seen
    README.md           model card, for people; it may be edited

- It is written beside its place and renamed: a bundle is whole or not there.
- The hashes find damage and careless edits; they are no signature.
- The versions and reference predictions find a program that computes something else from the same files.
- Older formats stay loadable as far as their networks can be built; a newer one is refused by its number.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taskgroup import __version__
from taskgroup.errors import BundleError, InputError
from taskgroup.export.bundle import Bundle, Members, ReferenceInputs
from taskgroup.export.card import model_card
from taskgroup.export.network_file import read_network, write_network
from taskgroup.export.reference import (
    BundleCheck,
    compare_reference,
    read_reference_inputs,
    version_changes,
    write_reference,
)
from taskgroup.export.spec import BundleSpec
from taskgroup.files import plain_json
from taskgroup.grouping import Group
from taskgroup.models import MultiTaskNetwork, meaning

_log = logging.getLogger(__name__)

# 1: without versions and reference predictions. 2: with both. 3: reference inputs of several shapes, a spacing.
FORMAT_VERSION = 3


def save_bundle(
    path: str | Path,
    spec: BundleSpec,
    members: Members,
    reference: ReferenceInputs | None = None,
) -> Path:
    """Write a bundle folder, whole or not at all. An older bundle there is replaced, any other content is refused.

    ``reference`` are densities whose predictions are stored too (see ``choose_inputs``), so that a later version can
    tell whether the bundle still means the same; without them only versions are stored.
    """
    folder = Path(path)
    bundle = Bundle(spec, members, reference)
    if folder.exists() and not (folder.is_dir() and _is_replaceable(folder)):
        raise BundleError(
            f"{folder}: must be a new folder or a bundle to replace, but something else is there."
        )
    with _replaced_folder(folder) as draft:
        _write(draft, bundle)
    return folder


def load_bundle(path: str | Path, check: bool = True) -> Bundle:
    """Load a bundle folder. Every file is compared with its checksum.

    With ``check``, its reference inputs are predicted again (a few densities on the CPU, mostly below a second), and a
    bundle that now predicts other numbers than it did is refused. ``check=False`` accepts the new numbers, and saves
    the time where the same bundle is loaded often. Raises BundleError, one line, where anything is amiss.
    """
    folder = Path(path)
    content = _read_content(folder)
    bundle = _load(folder, content)
    if check:
        result = _check(folder, content, bundle)
        if not result.holds:
            raise BundleError(f"{folder}: {result.problem()}.")
        if result.changes:
            _log.warning(
                "%s: reference predictions are as they were, although versions have changed: %s",
                folder,
                "; ".join(map(str, result.changes)),
            )
    return bundle


def check_bundle(path: str | Path) -> BundleCheck:
    """Return how versions and reference predictions of a bundle folder compare with today's code.

    Raises BundleError where the bundle cannot be loaded.
    """
    folder = Path(path)
    content = _read_content(folder)
    return _check(folder, content, _load(folder, content))


def _check(folder: Path, content: Mapping[str, Any], bundle: Bundle) -> BundleCheck:
    networks = _network_files(content)
    now = {
        file: meaning(network.config)
        for group, files in networks.items()
        for file, network in zip(files, bundle.members[group], strict=True)
    }
    n_inputs = 0 if bundle.reference is None else len(bundle.reference.densities)
    return BundleCheck(
        written_by=str(content.get("taskgroup")),
        changes=version_changes(content.get("meaning", {}), now),
        deviations=compare_reference(folder, bundle),
        n_inputs=n_inputs,
    )


def _load(folder: Path, content: Mapping[str, Any]) -> Bundle:
    _check_files(folder, content["files"])
    try:
        seen_ids = tuple(json.loads((folder / "seen_ids.json").read_text(encoding="utf-8")))
        spec = BundleSpec.from_dict(content["spec"], seen_ids)
        files_by_group = _network_files(content)
    except InputError as error:
        raise BundleError(f"{folder}: {error}") from error
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise BundleError(f"{folder}: bundle.json lacks or misspells {error}.") from error
    for names in files_by_group.values():
        for name in names:
            if name not in content["files"]:
                raise BundleError(f"{folder}: bundle.json gives no sha256 for {name}.")
    members = {group: _networks(folder, names) for group, names in files_by_group.items()}
    return Bundle(spec, members, read_reference_inputs(folder))


def _networks(folder: Path, names: Sequence[str]) -> tuple[MultiTaskNetwork, ...]:
    return tuple(read_network(folder / name) for name in names)


def _network_files(content: Mapping[str, Any]) -> dict[Group, list[str]]:
    """Return the network files of each group."""
    files = {}
    for entry in content["groups"]:
        files[Group(tuple(entry["targets"]), tuple(entry["serves"]))] = entry["members"]
    return files


def _check_files(folder: Path, checksums: Mapping[str, str]) -> None:
    """Raise BundleError where a file is missing or differs from its checksum."""
    for name, expected in checksums.items():
        file = folder / name
        if not file.is_file():
            raise BundleError(f"{folder}: bundle.json names {name}, but that file is missing.")
        if _sha256(file.read_bytes()) != expected:
            raise BundleError(
                f"{file}: must have the sha256 {expected[:12]}… of bundle.json, but was altered."
            )


@contextmanager
def _replaced_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``folder`` when the block ends without an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield draft
        # mkdtemp makes folders that only their owner may read.
        draft.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            os.replace(folder, old)
            shutil.rmtree(old)
        os.replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write(folder: Path, bundle: Bundle) -> None:
    groups, meaning_by_file = _write_networks(folder, bundle)
    (folder / "seen_ids.json").write_text(json.dumps(bundle.spec.seen_ids), encoding="utf-8")
    write_reference(folder, bundle)
    files = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            files[file.relative_to(folder).as_posix()] = _sha256(file.read_bytes())
    content = {
        "format_version": FORMAT_VERSION,
        "taskgroup": __version__,
        "spec": plain_json(bundle.spec.to_dict()),
        "groups": groups,
        "meaning": meaning_by_file,
        "files": files,
    }
    content["sha256"] = _content_hash(content)
    text = json.dumps(content, indent=1, allow_nan=False)
    (folder / "bundle.json").write_text(text, encoding="utf-8")
    card = model_card(bundle.spec, bundle.members)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _write_networks(
    folder: Path, bundle: Bundle
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Write all networks; return the groups with their files, and the meaning of each file."""
    (folder / "networks").mkdir()
    groups = []
    meaning_by_file = {}
    for number, group in enumerate(bundle.spec.grouping.groups):
        names = []
        for member, network in enumerate(bundle.members[group]):
            name = f"networks/group{number}-member{member}.safetensors"
            write_network(folder / name, network)
            meaning_by_file[name] = meaning(network.config)
            names.append(name)
        groups.append(
            {"targets": list(group.targets), "serves": list(group.serves), "members": names}
        )
    return groups, meaning_by_file


def _read_content(folder: Path) -> dict[str, Any]:
    """Return the content of bundle.json. Raises BundleError: missing, damaged, altered or newer."""
    path = folder / "bundle.json"
    if not path.is_file():
        hint = ""
        if (folder / "export" / "bundle.json").exists():
            hint = f" Did you mean {folder / 'export'}?"
        raise BundleError(
            f"{folder}: a bundle is a folder with bundle.json, but there is none here.{hint}"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, files = content["format_version"], content.get("files")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BundleError(
            f"{path}: must be the JSON of a bundle, but it cannot be read ({error})."
        ) from error
    if not isinstance(version, int) or version > FORMAT_VERSION:
        writer = content.get("taskgroup")
        raise BundleError(
            f"{path}: format_version must be at most {FORMAT_VERSION}, but it is {version} "
            f"(written by taskgroup {writer}); upgrade taskgroup."
        )
    if content.get("sha256") != _content_hash(content):
        raise BundleError(f"{path}: must have the sha256 it gives for itself, but was altered.")
    if not isinstance(files, dict) or any(map(_leads_outside, files)):
        raise BundleError(f"{path}: files must name files inside the bundle, but do not.")
    return content


def _leads_outside(name: str) -> bool:
    path = Path(name)
    return path.is_absolute() or ".." in path.parts


def _is_replaceable(folder: Path) -> bool:
    return (folder / "bundle.json").exists() or not any(folder.iterdir())


def _content_hash(content: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in content.items() if name != "sha256"}
    return _sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
