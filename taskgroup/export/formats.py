"""A bundle in formats that other programs run: torch.export (pt2), ONNX, and a model of the MLflow registry.

A program is one file a group. Inputs ``density`` [B, C, n, n, n] in e/Å^3, standardised as the bundle says, and
``lattice`` [B, 3, 3] in Å; outputs ``values`` and ``stds`` [B, T] in the units of ``programs.json``, which also names
the targets. Batches may have any size.
"""

import json
import logging
import tempfile
import warnings
from importlib.resources import files
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from taskgroup import __version__
from taskgroup.datasets import Target
from taskgroup.datasets.target import GREATEST_PREDICTION, LEAST_PREDICTION
from taskgroup.errors import MissingDependency
from taskgroup.export.bundle import Bundle
from taskgroup.grouping import Group

ProgramFormat = Literal["pt2", "onnx"]
_EXPERIMENT = "taskgroup/models"


class GroupProgram(nn.Module):
    """All members of one group as one module: what ``Bundle.predict`` computes, in tensors throughout."""

    def __init__(self, bundle: Bundle, group: Group) -> None:
        super().__init__()
        self.members = nn.ModuleList(bundle.members[group])
        self.targets = [bundle.spec.target(name) for name in group.serves]
        names = [target.name for target in bundle.members[group][0].targets]
        self.columns = [names.index(name) for name in group.serves]
        residuals = [bundle.spec.residuals.get(name) or 0.0 for name in group.serves]
        self.register_buffer("residual", torch.tensor(residuals))
        self.eval()

    def forward(self, density: Tensor, lattice: Tensor) -> tuple[Tensor, Tensor]:
        """Values and standard deviations [B, T] in units."""
        views = {member.view.key: member.view for member in self.members}
        rows = {key: view.prepare(density, lattice) for key, view in views.items()}
        each = [
            member.decode(member(rows[member.view.key], lattice.float())) for member in self.members
        ]
        outputs = torch.stack(each)[:, :, self.columns]
        learnt = torch.stack(
            [_to_learnt(t, outputs[:, :, i]) for i, t in enumerate(self.targets)], dim=-1
        )
        mean = learnt.mean(0)
        variance = learnt.var(0) if len(self.members) > 1 else torch.zeros_like(mean)
        half = torch.sqrt(variance + self.residual**2)
        values, stds = [], []
        for i, target in enumerate(self.targets):
            values.append(_to_units(target, mean[:, i]))
            low, high = (_to_units(target, mean[:, i] + sign * half[:, i]) for sign in (-1, 1))
            stds.append((high - low) / 2)
        return torch.stack(values, dim=-1), torch.stack(stds, dim=-1)


def export_programs(bundle: Bundle, folder: str | Path, form: ProgramFormat) -> list[Path]:
    """Write one program a group and ``programs.json``, and return their paths.

    Raises MissingDependency where ONNX is asked for and not installed.
    """
    if form == "onnx":
        _need_onnx()
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    written, description = [], []
    for number, group in enumerate(bundle.spec.grouping.groups):
        path = out / f"group{number}.{form}"
        _export(GroupProgram(bundle, group), path, form, _example(bundle))
        units = {name: bundle.units[name] for name in group.serves}
        description.append({"file": path.name, "targets": list(group.serves), "units": units})
        written.append(path)
    index = out / "programs.json"
    old = json.loads(index.read_text())["programs"] if index.exists() else []
    kept = [program for program in old if not program["file"].endswith(f".{form}")]
    density = vars(bundle.spec.density)
    index.write_text(
        json.dumps({"density": density, "programs": kept + description}, indent=1), encoding="utf-8"
    )
    return [*written, index]


def register_bundle(bundle_dir: str | Path, name: str, uri: str, artifacts: str | Path) -> int:
    """Register a bundle folder as an MLflow pyfunc model; the new version gets the alias ``champion``.

    The model takes a table with a column ``path`` (density files) and gives what ``Bundle.predict`` gives. It is made
    from code, so that loading it unpickles nothing. ``artifacts`` is the folder it is kept in, unless ``uri`` is a
    server, which chooses itself. Returns the version.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's, about type hints of its own
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        found = client.get_experiment_by_name(_EXPERIMENT)
        place = None if uri.startswith("http") else Path(artifacts).resolve().as_uri()
        experiment_id = (
            found.experiment_id if found else client.create_experiment(_EXPERIMENT, place)
        )
        run = client.create_run(experiment_id, run_name=name, tags={"kind": "registered"}).info
        with tempfile.TemporaryDirectory() as folder:
            _save_pyfunc(Path(bundle_dir), f"{folder}/model")
            client.log_artifacts(run.run_id, f"{folder}/model", "model")
    client.set_terminated(run.run_id)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(name, f"{run.artifact_uri}/model", run.run_id).version
    client.set_registered_model_alias(name, "champion", version)
    return int(version)


def _save_pyfunc(bundle_dir: Path, path: str) -> None:
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import save_model
    from mlflow.types import ColSpec, Schema

    save_model(
        path,
        python_model=str(files("taskgroup.export").joinpath("pyfunc_model.py")),
        artifacts={"bundle": str(bundle_dir)},
        pip_requirements=[f"taskgroup=={__version__}"],
        signature=ModelSignature(inputs=Schema([ColSpec("string", "path")])),
    )


def _export(
    program: GroupProgram, path: Path, form: ProgramFormat, example: tuple[Tensor, Tensor]
) -> None:
    batch = torch.export.Dim.DYNAMIC
    shapes = {"density": {0: batch}, "lattice": {0: batch}}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own tracing, about its internals
        exported = torch.export.export(program, example, dynamic_shapes=shapes, strict=False)
        if form == "pt2":
            torch.export.save(exported, path)
        else:
            names = {"input_names": ["density", "lattice"], "output_names": ["values", "stds"]}
            torch.onnx.export(
                exported, (), path, dynamo=True, verbose=False, external_data=False, **names
            )


def _example(bundle: Bundle) -> tuple[Tensor, Tensor]:
    wanted = bundle.spec.density
    density = torch.rand(2, wanted.n_channels, wanted.grid, wanted.grid, wanted.grid)
    return density, torch.eye(3).repeat(2, 1, 1) * 5


def _to_learnt(target: Target, values: Tensor) -> Tensor:
    """``Target.forward`` in tensors."""
    if target.transform == "log10":
        return torch.log10(values.clamp(LEAST_PREDICTION, GREATEST_PREDICTION))
    return (
        values.sign() * torch.log10(1 + values.abs())
        if target.transform == "signed_log"
        else values
    )


def _to_units(target: Target, values: Tensor) -> Tensor:
    """``Target.inverse`` in tensors."""
    if target.transform == "log10":
        return torch.pow(10.0, values)
    return (
        values.sign() * (torch.pow(10.0, values.abs()) - 1)
        if target.transform == "signed_log"
        else values
    )


def _need_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            "ONNX export needs the packages onnx and onnxscript: pip install 'taskgroup[onnx]'"
        ) from error
