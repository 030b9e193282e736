"""A bundle on disk: the grouping, its networks, units, provenance; loading it runs no code of its own.

    bundle.json         BundleSpec, the groups with their network files, sha256 of every file and of itself
    networks/*.safetensors   one network a group and member (a member is a seed); see network_file
    seen_ids.json       ids of the rows the networks have seen
    README.md           model card, for people; it may be edited

- It is written beside its place and renamed: a bundle is whole or not there.
- The hashes find damage and careless edits; they are no signature.
- Older formats stay loadable; a newer one is refused by its number.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskgroup import __version__
from taskgroup.errors import BundleError, InputError
from taskgroup.export.card import model_card
from taskgroup.export.network_file import read_network, write_network
from taskgroup.export.spec import BundleSpec
from taskgroup.files import plain_json
from taskgroup.grouping import Group
from taskgroup.models import MultiTaskNetwork

if TYPE_CHECKING:
    import pandas as pd

FORMAT_VERSION = 1
Members = Mapping[Group, Sequence[MultiTaskNetwork]]


@dataclass(frozen=True, eq=False)
class Bundle:
    """A grouping that predicts: ``members`` are the networks of each group, an ensemble over seeds.

    Made by ``load_bundle``, or from networks in memory. Raises BundleError where a group has no network, or a network
    was not trained on the targets of its group.
    """

    spec: BundleSpec
    members: Members

    def __post_init__(self) -> None:
        for group in self.spec.grouping.groups:
            networks = self.members.get(group, ())
            if not networks:
                raise BundleError(
                    f"bundle '{self.spec.name}': every group needs a network, but {group} has none."
                )
            for network in networks:
                names = sorted(target.name for target in network.targets)
                if names != list(group.targets):
                    raise BundleError(
                        f"bundle '{self.spec.name}': the network of {group} has the targets {names}."
                    )

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of what is predicted, sorted."""
        return self.spec.grouping.targets

    @property
    def units(self) -> dict[str, str]:
        """The unit of each target; a classification target is a probability, with none."""
        return {name: self.spec.target(name).unit for name in self.targets}

    def predict(self, inputs: Any, **options: Any) -> "pd.DataFrame":
        """Predictions with units and uncertainties; see ``taskgroup.export.predict``."""
        from taskgroup.export._predict import predict

        return predict(self, inputs, **options)


def save_bundle(path: str | Path, spec: BundleSpec, members: Members) -> Path:
    """Write a bundle folder, whole or not at all. An older bundle there is replaced, any other content is refused."""
    folder = Path(path)
    Bundle(spec, members)
    if folder.exists() and not (folder.is_dir() and _is_replaceable(folder)):
        raise BundleError(
            f"{folder}: must be a new folder or a bundle to replace, but something else is there."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(draft, spec, members)
        draft.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            os.replace(folder, old)
            shutil.rmtree(old)
        os.replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def load_bundle(path: str | Path) -> Bundle:
    """Load a bundle folder and check every file of it. Raises BundleError, one line, where anything is amiss."""
    folder = Path(path)
    content = _read_content(folder)
    for name, expected in content["files"].items():
        file = folder / name
        if not file.is_file():
            raise BundleError(f"{folder}: bundle.json names {name}, but that file is missing.")
        if _sha256(file.read_bytes()) != expected:
            raise BundleError(
                f"{file}: must have the sha256 {expected[:12]}… of bundle.json, but was altered."
            )
    try:
        seen = tuple(json.loads((folder / "seen_ids.json").read_text(encoding="utf-8")))
        spec = BundleSpec.from_dict(content["spec"], seen)
        files = {
            Group(tuple(g["targets"]), tuple(g["serves"])): g["members"] for g in content["groups"]
        }
    except (KeyError, TypeError, ValueError, OSError) as error:
        if isinstance(error, InputError):
            raise BundleError(f"{folder}: {error}") from error
        raise BundleError(f"{folder}: bundle.json lacks or misspells {error}.") from error
    unhashed = [name for names in files.values() for name in names if name not in content["files"]]
    if unhashed:
        raise BundleError(f"{folder}: bundle.json gives no sha256 for {unhashed[0]}.")
    return Bundle(
        spec,
        {
            group: tuple(read_network(folder / name) for name in names)
            for group, names in files.items()
        },
    )


def _write(folder: Path, spec: BundleSpec, members: Members) -> None:
    (folder / "networks").mkdir()
    groups = []
    for number, group in enumerate(spec.grouping.groups):
        names = [
            f"networks/group{number}-member{i}.safetensors" for i in range(len(members[group]))
        ]
        for name, network in zip(names, members[group], strict=True):
            write_network(folder / name, network)
        groups.append({"targets": group.targets, "serves": group.serves, "members": names})
    (folder / "seen_ids.json").write_text(json.dumps(spec.seen_ids), encoding="utf-8")
    written = sorted(file for file in folder.rglob("*") if file.is_file())
    files = {file.relative_to(folder).as_posix(): _sha256(file.read_bytes()) for file in written}
    content = {
        "format_version": FORMAT_VERSION,
        "taskgroup": __version__,
        "spec": plain_json(spec.to_dict()),
        "groups": groups,
        "files": files,
    }
    content["sha256"] = _content_hash(content)
    (folder / "bundle.json").write_text(
        json.dumps(content, indent=1, allow_nan=False), encoding="utf-8"
    )
    (folder / "README.md").write_text(model_card(spec, members), encoding="utf-8")


def _read_content(folder: Path) -> dict[str, Any]:
    path = folder / "bundle.json"
    if not path.is_file():
        hint = (
            f" Did you mean {folder / 'export'}?"
            if (folder / "export" / "bundle.json").exists()
            else ""
        )
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
        found = (
            f"it is {version} (written by taskgroup {content.get('taskgroup')}); upgrade taskgroup"
        )
        raise BundleError(f"{path}: format_version must be at most {FORMAT_VERSION}, but {found}.")
    if content.get("sha256") != _content_hash(content):
        raise BundleError(f"{path}: must have the sha256 it gives for itself, but was altered.")
    if not isinstance(files, dict) or any(
        Path(name).is_absolute() or ".." in Path(name).parts for name in files
    ):
        raise BundleError(f"{path}: files must name files inside the bundle, but do not.")
    return content


def _is_replaceable(folder: Path) -> bool:
    return (folder / "bundle.json").exists() or not any(folder.iterdir())


def _content_hash(content: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in content.items() if name != "sha256"}
    return _sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
