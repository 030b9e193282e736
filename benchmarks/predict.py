"""Predictions per second of a bundle, and the time from a cold start to the first answer.

    python benchmarks/predict.py [--repeats 5] [--batch 32] [--members 3] [--device cpu] [--json]

A bundle of untrained networks of the default backbone (three targets in two groups) predicts standardised densities.
"one by one" is the peer: each density and each member by itself, from the density to the answer. "batched" is what
``Bundle.predict`` does; "onnx" runs the exported programs in ONNX Runtime, where that is installed. Rates are densities
per second; all run in turns. The cold start is a new process: import, load the bundle, read a CHGCAR, predict.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from taskgroup.datasets import Dataset, TargetScaler, load_dataset
from taskgroup.export import Bundle, BundleSpec, DensityFormat, save_bundle
from taskgroup.export._predict import predict_crystals
from taskgroup.export.formats import export_programs
from taskgroup.grouping import Group, Grouping
from taskgroup.models import CrystalBatch, ModelConfig, MultiTaskNetwork

SIZES = ((8, 8), (16, 8), (16, 16), (32, 8))  # grid points an axis, width
ONNX_SIZE = (16, 16)  # writing the programs of one takes a minute
GROUPING = Grouping((Group(("band_gap", "bulk_modulus")), Group(("volume",))))
_SINGLE = 16  # densities predicted one by one
_COLD = """
import json, sys, time
started = time.perf_counter()
import taskgroup, torch, pymatgen.io.vasp, taskgroup.export
imported = time.perf_counter()
bundle = taskgroup.load_bundle(sys.argv[1])
loaded = time.perf_counter()
bundle.predict([sys.argv[2]])
first = time.perf_counter()
bundle.predict([sys.argv[2]])
again = time.perf_counter()
print(json.dumps({"import_s": imported - started, "load_s": loaded - imported, "first_s": first - loaded,
                  "next_s": again - first}))
"""


def make_bundle(dataset: Dataset, grid: int, width: int, members: int) -> Bundle:
    """A bundle of untrained networks."""
    networks = {}
    for group in GROUPING.groups:
        table = dataset.targets.select(group.targets)
        scaler = TargetScaler.fit(table.specs, table.values)
        config = ModelConfig(grid=grid, width=width)
        networks[group] = [
            MultiTaskNetwork(config, table.specs, scaler, dataset.n_channels)
            for _ in range(members)
        ]
    targets = tuple(dataset.targets.spec(name) for name in GROUPING.targets)
    about = {"name": dataset.name, "version": dataset.version, "hash": dataset.hash}
    spec = BundleSpec(
        "benchmark", GROUPING, targets, DensityFormat.of(dataset), about, {"id": "none"}, (), {}
    )
    return Bundle(
        spec, {group: [network.eval() for network in found] for group, found in networks.items()}
    )


def write_chgcar(dataset: Dataset, path: Path) -> None:
    """One row of the dataset as VASP would write it."""
    from pymatgen.io.vasp import Chgcar, Poscar

    structure, density = dataset.structure(0), dataset.densities(np.array([0]))[0]
    values = {
        key: part * structure.volume for key, part in zip(("total", "diff"), density, strict=False)
    }
    Chgcar(Poscar(structure), values).write_file(path)


def onnx_runner(bundle: Bundle, folder: Path) -> Callable[[np.ndarray, np.ndarray], None] | None:
    """Predicts with ONNX Runtime; None where it is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    paths = [path for path in export_programs(bundle, folder, "onnx") if path.suffix == ".onnx"]
    sessions = [
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for path in paths
    ]

    def run(densities: np.ndarray, lattices: np.ndarray) -> None:
        for session in sessions:
            session.run(None, {"density": densities, "lattice": lattices.astype(np.float32)})

    return run


def measure(
    dataset: Dataset, grid: int, width: int, folder: Path, arguments: argparse.Namespace
) -> dict[str, object]:
    """Rates at one size."""
    bundle, device = (
        make_bundle(dataset, grid, width, arguments.members),
        torch.device(arguments.device),
    )
    same_shape = np.flatnonzero((dataset.shapes == dataset.shapes[0]).all(axis=1))
    rows = same_shape[: arguments.batch or (32 if device.type == "cpu" else 128)]
    densities, lattices = dataset.densities(rows), dataset.lattices[rows]
    crystals = CrystalBatch.of(densities, lattices)
    networks = [network for group in bundle.members.values() for network in group]

    def one_by_one() -> None:
        for row in range(min(_SINGLE, len(rows))):
            crystal = crystals[row : row + 1].to(device)
            for network in networks:
                network.to(device).predict(crystal).cpu()

    ways = {
        "one_by_one": one_by_one,
        "batched": lambda: predict_crystals(bundle, crystals, device),
    }
    if (
        (grid, width) == ONNX_SIZE
        and device.type == "cpu"
        and (onnx := onnx_runner(bundle, folder / "onnx"))
    ):
        ways["onnx"] = lambda: onnx(densities, lattices)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(arguments.repeats + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if repeat:  # the first one warms up
                count = min(_SINGLE, len(rows)) if name == "one_by_one" else len(rows)
                rates[name].append(count / (time.perf_counter() - started))
    row: dict[str, object] = {"grid": grid, "width": width, "networks": len(networks)}
    row |= {f"{name}_per_s": statistics.median(values) for name, values in rates.items()}
    for name in ways.keys() - {"one_by_one"}:
        ratios = [a / b for a, b in zip(rates[name], rates["one_by_one"], strict=True)]
        row[f"{name}_ratio"] = [statistics.median(ratios), min(ratios), max(ratios)]
    return row


def cold_start(dataset: Dataset, folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds of a new process; the least of the repeats, since only other work adds to it."""
    bundle = make_bundle(dataset, 16, 16, arguments.members)
    save_bundle(folder / "bundle", bundle.spec, bundle.members)
    write_chgcar(dataset, folder / "CHGCAR")
    command = [sys.executable, "-c", _COLD, str(folder / "bundle"), str(folder / "CHGCAR")]
    runs = [
        subprocess.run(command, capture_output=True, text=True, check=True)
        for _ in range(arguments.repeats)
    ]
    found = [json.loads(run.stdout) for run in runs]
    return {name: min(times[name] for times in found) for name in found[0]}


def _line(row: dict[str, object]) -> str:
    cells = [
        f"{row['grid']:>4}  {row['width']:>5}  {row['networks']:>8}  {row['one_by_one_per_s']:>10.1f}"
    ]
    for name in ("batched", "onnx"):
        if f"{name}_per_s" in row:
            middle, low, high = row[f"{name}_ratio"]
            cells.append(f"{row[f'{name}_per_s']:>8.1f}  {middle:.2f}, {low:.2f}-{high:.2f}")
    return "  ".join(cells)


def main() -> None:
    """Measure all sizes and the cold start, and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--batch", type=int, default=None, help="densities at a time; default: as Bundle.predict"
    )
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    dataset = load_dataset("crystals")
    shown = sys.stderr if arguments.json else sys.stdout
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cold = cold_start(dataset, folder, arguments)
        print(
            "  ".join(f"{key} {value:.2f}" for key, value in cold.items()), file=shown, flush=True
        )
        print("grid  width  networks  one by one  batched, ratio  onnx, ratio", file=shown)
        rows = []
        for grid, width in SIZES:
            rows.append(measure(dataset, grid, width, folder, arguments))
            print(_line(rows[-1]), file=shown, flush=True)
    if arguments.json:
        print(json.dumps({"cold": cold, "rates": rows}))


if __name__ == "__main__":
    main()
