"""Findings of `taskgroup doctor`: the machine, and whether a bundle still predicts what it did."""

import importlib.metadata
import importlib.util
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from taskgroup.machine import available_cores

_REQUIRED = (
    "torch",
    "optuna",
    "mlflow",
    "networkx",
    "pymatgen",
    "scikit-learn",
    "scipy",
    "torchjd",
    "zarr",
)

# On PyPI this name belongs to a backport of asyncio's task groups.
_FOREIGN = "taskgroup"

# Modules and what they are needed for.
_OPTIONAL = {
    "ase": "reading ASE and GPAW objects",
    "onnxruntime": "ONNX export and serving",
    "optuna_dashboard": "taskgroup ui",
    "mp_api": "taskgroup data fetch-mp",
}


def machine_findings() -> dict[str, str]:
    """Return versions, optional packages and the device by name."""
    from taskgroup import __version__

    findings = {"taskgroup": __version__, "python": platform.python_version()}
    findings |= _foreign_package()
    for name in _REQUIRED:
        findings[name] = importlib.metadata.version(name)
    for name, purpose in _OPTIONAL.items():
        findings[name] = "installed"
        if importlib.util.find_spec(name) is None:
            findings[name] = f"not installed (for {purpose})"
    findings["device"] = _device()
    return findings


def bundle_findings(path: Path) -> dict[str, Any]:
    """Return the comparison of a bundle with today's code as plain JSON."""
    from taskgroup.export import check_bundle
    from taskgroup.files import plain_json

    result = check_bundle(path)
    problem = None
    if not result.holds:
        problem = result.problem()
    return plain_json(asdict(result) | {"holds": result.holds, "problem": problem})


def bundle_lines(path: Path, findings: dict[str, Any]) -> list[str]:
    """Return the comparison of a bundle in words."""
    lines = [f"{path}: written by taskgroup {findings['written_by']}"]
    for change in findings["changes"]:
        lines.append(f"  {change['name']}: {change['written']} then, {change['now']} now")
    for target, deviation in findings["deviations"].items():
        size = "not a number" if deviation is None else f"{deviation:.1e}"
        lines.append(f"  {target}: predictions differ by {size} standard deviations")
    if findings["problem"]:
        lines.append(f"It {findings['problem']}.")
    elif findings["n_inputs"]:
        lines.append(f"It gives the same predictions for {findings['n_inputs']} reference inputs.")
    else:
        lines.append(
            "It has no reference predictions, so nothing can be compared; export it again to add them."
        )
    return lines


def _foreign_package() -> dict[str, str]:
    """Return a finding where the other project with our import name is installed: its files lie among ours."""
    try:
        version = importlib.metadata.version(_FOREIGN)
    except importlib.metadata.PackageNotFoundError:
        return {}
    advice = "pip uninstall taskgroup taskgroup-materials; pip install taskgroup-materials"
    return {"clash": f"{_FOREIGN} {version} is another project with our import name: {advice}"}


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    return f"CPU, {available_cores()} cores, torch uses {torch.get_num_threads()} threads"
