"""What `taskgroup doctor` looks at."""

import importlib.metadata
import importlib.util
import os
import platform

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
_OPTIONAL = {
    "ase": "reading ASE and GPAW objects",
    "onnxruntime": "ONNX export and serving",
    "optuna_dashboard": "taskgroup ui",
    "mp_api": "taskgroup data fetch-mp",
}


def findings() -> list[tuple[str, str]]:
    """Pairs (what, found): versions, device, threads, optional packages."""
    import torch

    from taskgroup import __version__

    found = [("taskgroup", __version__), ("python", platform.python_version())]
    found += [(name, importlib.metadata.version(name)) for name in _REQUIRED]
    for name, purpose in _OPTIONAL.items():
        there = importlib.util.find_spec(name) is not None
        found.append((name, "installed" if there else f"not installed (for {purpose})"))
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found.append(("device", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"))
    else:
        found.append(
            ("device", f"CPU, {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
        )
    return found
