"""A bundle in formats that other programs run: torch.export (pt2) and ONNX.

A program is one file per group. Inputs ``density`` [B, C, n, n, n] in e/Å^3, standardised as ``programs.json`` says,
and ``lattice`` [B, 3, 3] in Å; of a bundle that is given the atoms also ``numbers`` [B, K], int64, 0 in places without
an atom, and fractional ``positions`` [B, K, 3]. Outputs ``values`` and ``stds`` [B, T] in the units of
``programs.json``, which also names inputs and targets. Batches may have any size.
"""

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from taskgroup.datasets import Target
from taskgroup.datasets.target import GREATEST_PREDICTION, LEAST_PREDICTION
from taskgroup.errors import MissingDependency
from taskgroup.export.bundle import Bundle
from taskgroup.files import read_json, write_json
from taskgroup.grouping import Group
from taskgroup.models import AtomBatch, CrystalBatch

ProgramFormat = Literal["pt2", "onnx"]

INDEX_FILE = "programs.json"

# Atoms of the two crystals that programs are traced with, 0 for a place without one.
_EXAMPLE_NUMBERS = [[11, 17, 0], [14, 14, 8]]
# Edge in Å of the cubic cell that programs are traced with; any cell of a usual size does.
_EXAMPLE_EDGE = 5.0
# Points per axis of programs of bundles whose grids follow a spacing: 0.2 Å in cells of 6.4 Å.
_PROGRAM_GRID = 32


class GroupProgram(nn.Module):
    """All members of one group as one module: what ``Bundle.predict`` computes, in tensors throughout."""

    def __init__(self, bundle: Bundle, group: Group) -> None:
        super().__init__()
        networks = bundle.members[group]
        self.members = nn.ModuleList(networks)
        self.sigma = bundle.spec.density.sigma
        self.targets = [bundle.spec.target(name) for name in group.serves]
        output_names = [target.name for target in networks[0].targets]
        self.columns = [output_names.index(name) for name in group.serves]
        residuals = [bundle.spec.residuals.get(name) or 0.0 for name in group.serves]
        self.register_buffer("residual", torch.tensor(residuals))
        self.eval()

    def forward(
        self,
        density: Tensor,
        lattice: Tensor,
        numbers: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return values and standard deviations [B, T] in units."""
        atoms = None
        if numbers is not None and positions is not None:
            atoms = AtomBatch(numbers, positions)
        predicted = self._predicted(CrystalBatch(density, lattice, atoms, self.sigma))
        values = []
        stds = []
        for i, target in enumerate(self.targets):
            learnt = _to_learnt(target, predicted[:, :, i])
            mean = learnt.mean(0)
            variance = torch.zeros_like(mean)
            if len(self.members) > 1:
                variance = learnt.var(0)
            half_width = torch.sqrt(variance + self.residual[i] ** 2)
            high = _to_units(target, mean + half_width)
            low = _to_units(target, mean - half_width)
            values.append(_to_units(target, mean))
            stds.append((high - low) / 2)
        return torch.stack(values, dim=-1), torch.stack(stds, dim=-1)

    def _predicted(self, crystals: CrystalBatch) -> Tensor:
        """Return predictions [members, B, T] in units; members with equal views share the prepared rows."""
        rows_by_view: dict[str, Any] = {}
        outputs = []
        for member in self.members:
            key = member.view.key
            if key not in rows_by_view:
                rows_by_view[key] = member.view.prepare(crystals)
            outputs.append(member.decode(member(rows_by_view[key], crystals.lattice.float())))
        return torch.stack(outputs)[:, :, self.columns]


def export_programs(bundle: Bundle, folder: str | Path, form: ProgramFormat) -> list[Path]:
    """Write one program per group and ``programs.json``, and return their paths.

    Raises MissingDependency where ONNX is asked for and not installed.
    """
    if form == "onnx":
        _need_onnx()
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    programs = []
    for number, group in enumerate(bundle.spec.grouping.groups):
        path = out / f"group{number}.{form}"
        example = _example(bundle)
        _export(GroupProgram(bundle, group), path, form, example)
        units = {name: bundle.units[name] for name in group.serves}
        programs.append(
            {
                "file": path.name,
                "inputs": list(example),
                "targets": list(group.serves),
                "units": units,
            }
        )
        paths.append(path)
    index = out / INDEX_FILE
    density = asdict(bundle.spec.density) | {"grid": _program_grid(bundle)}
    density.pop("spacing")
    content = {
        "density": density,
        "programs": _programs_of_other_formats(index, form) + programs,
    }
    write_json(index, content, indent=1)
    return [*paths, index]


def _programs_of_other_formats(index: Path, form: ProgramFormat) -> list[dict[str, Any]]:
    if not index.exists():
        return []
    programs = read_json(index)["programs"]
    return [program for program in programs if not program["file"].endswith(f".{form}")]


def _export(
    program: GroupProgram, path: Path, form: ProgramFormat, example: dict[str, Tensor]
) -> None:
    batch = torch.export.Dim.DYNAMIC
    shapes = {name: {0: batch} for name in example}
    for name in example.keys() & {"numbers", "positions"}:
        # crystals have any number of atoms
        shapes[name] = {0: batch, 1: batch}
    with torch.no_grad(), warnings.catch_warnings():
        # Torch's tracing warns about its own internals.
        warnings.simplefilter("ignore")
        inputs = tuple(example.values())
        exported = torch.export.export(program, inputs, dynamic_shapes=shapes, strict=False)
        if form == "pt2":
            torch.export.save(exported, path)
            return
        torch.onnx.export(
            exported,
            (),
            path,
            dynamo=True,
            verbose=False,
            external_data=False,
            input_names=list(example),
            output_names=["values", "stds"],
        )


def _example(bundle: Bundle) -> dict[str, Tensor]:
    """Return a batch of two to trace with: a batch of one would be taken for a constant."""
    n = _program_grid(bundle)
    density = torch.rand(2, bundle.spec.density.n_channels, n, n, n)
    example = {"density": density, "lattice": torch.eye(3).repeat(2, 1, 1) * _EXAMPLE_EDGE}
    if bundle.uses_atoms:
        example["numbers"] = torch.tensor(_EXAMPLE_NUMBERS)
        example["positions"] = torch.rand(*example["numbers"].shape, 3)
    return example


def _program_grid(bundle: Bundle) -> int:
    """Return the points per axis of a program's densities, which have one shape for all crystals."""
    return bundle.spec.density.grid or _PROGRAM_GRID


def _to_learnt(target: Target, values: Tensor) -> Tensor:
    """``Target.forward`` in tensors."""
    if target.transform == "log10":
        return torch.log10(values.clamp(LEAST_PREDICTION, GREATEST_PREDICTION))
    if target.transform == "signed_log":
        return values.sign() * torch.log10(1 + values.abs())
    return values


def _to_units(target: Target, values: Tensor) -> Tensor:
    """``Target.inverse`` in tensors."""
    if target.transform == "log10":
        return torch.pow(10.0, values)
    if target.transform == "signed_log":
        return values.sign() * (torch.pow(10.0, values.abs()) - 1)
    return values


def _need_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            "ONNX export needs the packages onnx and onnxscript: pip install 'taskgroup-materials[onnx]'"
        ) from error
