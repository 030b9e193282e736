"""Data at scale: CHGCARs into a store, stores of many crystals, and training from a store larger than memory.

    python benchmarks/ingest.py [--repeats 3] [--grids 24 36 48 64] [--files CHGCAR ...] [--crystals 250 500 1000 2000]
                                [--folder DIR] [--parts files processes stores epochs] [--json]

- files: what ``ingest`` takes for a CHGCAR, all in all, against pymatgen's ``Chgcar.from_file`` alone, on one core, in
  turns. CHGCARs are made here (promolecules, compressed as usual); ``--files`` adds others.
- processes: densities a second of two processes against one, start-up left out.
- stores: promolecular crystals of 2 to 5 atoms at 32^3, each step in a process of its own. With ``--folder`` stores
  stay, and those that are there are not built again. ``--crystals 10000 100000`` takes four minutes on two cores.
- epochs: training from prepared rows in a file whose pages were all dropped before the epoch, against rows in memory,
  in turns. A memory of no size at all: a smaller part of the file would be read again in a machine that has some.

Ratios are medians (lowest-highest).
"""

import argparse
import ctypes
import itertools
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

N_FILES = 128  # of each size
N_PROCESS_FILES = 512
EPOCHS = (
    (8, 8, 1000),
    (16, 8, 250),
    (16, 8, 1000),
    (32, 8, 250),
)  # grid points an axis, width, crystals
N_EPOCHS = 5
VALENCE_ELECTRONS = 12
BATCH = 64
_MS_SYNC, _MADV_PAGEOUT = 4, 21  # of Linux 5.4
_FCC = 0.5 * (1 - np.eye(3))
_CUBIC = np.eye(3)
PROTOTYPES = (
    (_FCC, "AB", ((0, 0, 0), (0.5, 0.5, 0.5))),  # rock salt
    (_FCC, "AB", ((0, 0, 0), (0.25, 0.25, 0.25))),  # zinc blende
    (_CUBIC, "AB", ((0, 0, 0), (0.5, 0.5, 0.5))),  # caesium chloride
    (_FCC, "ABB", ((0, 0, 0), (0.25, 0.25, 0.25), (0.75, 0.75, 0.75))),  # fluorite
    (
        _CUBIC,
        "ABCCC",
        ((0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)),
    ),  # perovskite
)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {"ratio": statistics.median(values), "ratio_low": min(values), "ratio_high": max(values)}


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def make_chgcar(path: Path, grid: int) -> None:
    """An fcc aluminium cell of four atoms, with their valence electrons on this many points an axis."""
    from pymatgen.io.vasp.inputs import Poscar
    from pymatgen.io.vasp.outputs import Chgcar

    from taskgroup.densities import promolecule

    places = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    density = promolecule((4.05 * np.eye(3), ["Al"] * 4, places), n=grid)
    values = density.values[0] * density.volume * VALENCE_ELECTRONS / density.charge
    Chgcar(Poscar(density.structure), {"total": values}).write_file(path)


def make_inputs(folder: Path, chgcar: Path, copies: int) -> tuple[Path, Path]:
    """A folder with this CHGCAR under many ids, and a property table."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "in").mkdir(parents=True)
    for i in range(copies):
        shutil.copy(chgcar, folder / "in" / f"row-{i}_CHGCAR.gz")
    (folder / "table.csv").write_text(
        "id,x\n" + "".join(f"row-{i},{i * i}\n" for i in range(copies))
    )
    return folder / "in", folder / "table.csv"


def measure_files(name: str, chgcar: Path, folder: Path, repeats: int) -> dict[str, Any]:
    """One core: all of ingest against parsing alone, milliseconds a file."""
    from pymatgen.io.vasp.outputs import Chgcar

    from taskgroup.datasets import ingest

    place, table = make_inputs(folder, chgcar, N_FILES)
    files = sorted(place.iterdir())
    ours, theirs = [], []
    for _ in range(repeats + 1):
        shutil.rmtree(folder / "store", ignore_errors=True)
        theirs.append(seconds(lambda: [Chgcar.from_file(file) for file in files]) / N_FILES)
        ours.append(seconds(lambda: ingest(place, table, folder / "store", workers=1)) / N_FILES)
    ratios = [a / b for a, b in zip(ours[1:], theirs[1:], strict=True)]  # the first is warm-up
    times = {
        "pymatgen_ms": 1e3 * statistics.median(theirs[1:]),
        "ingest_ms": 1e3 * statistics.median(ours[1:]),
    }
    return {"file": name, **times, **spread(ratios)}


def measure_processes(chgcar: Path, folder: Path, repeats: int) -> dict[str, Any]:
    """Densities a second of one and two processes, from the end of the first part to the end of the last."""
    from taskgroup.datasets import ingest

    place, table = make_inputs(folder, chgcar, N_PROCESS_FILES)

    def rate(workers: int) -> float:
        shutil.rmtree(folder / "store", ignore_errors=True)
        ends: list[tuple[int, float]] = []
        ingest(
            place,
            table,
            folder / "store",
            workers=workers,
            progress=lambda n, of: ends.append((n, time.perf_counter())),
        )
        # ends[0] is the start; with two processes the first parts of both end together.
        (n_first, first), (n_last, last) = ends[2], ends[-1]
        return (n_last - n_first) / (last - first)

    rates = [(rate(1), rate(2)) for _ in range(repeats)]
    one, two = (statistics.median(r) for r in zip(*rates, strict=True))
    return {"one_per_s": one, "two_per_s": two, **spread([b / a for a, b in rates])}


def write_structures(folder: Path, n: int) -> None:
    """``structures.jsonl`` and ``table.csv`` of n crystals of five prototypes, any elements, any lattice constant."""
    from pymatgen.core import Element

    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    symbols = [Element.from_Z(z).symbol for z in range(1, 84)]
    prototypes = itertools.cycle(PROTOTYPES)
    with (
        (folder / "structures.jsonl").open("w") as structures,
        (folder / "table.csv").open("w") as table,
    ):
        table.write("id,volume,electrons\n,Å^3,\n")
        for i, (cell, motif, places) in zip(range(n), prototypes, strict=False):
            elements = dict(zip("ABC", random.choice(symbols, 3, replace=False), strict=True))
            lattice, species = (
                cell * random.uniform(3.8, 6.5),
                [str(elements[letter]) for letter in motif],
            )
            crystal = {
                "id": f"row-{i}",
                "lattice": lattice.tolist(),
                "species": species,
                "frac_coords": places,
            }
            structures.write(json.dumps(crystal) + "\n")
            table.write(
                f"row-{i},{abs(np.linalg.det(lattice)):.5f},{sum(Element(s).Z for s in species)}\n"
            )


def build(folder: Path) -> dict[str, Any]:
    """In a process of its own: build the store of the structures in a folder, with a process a core."""
    from taskgroup.datasets import promolecules

    peaks: list[float] = []

    def run() -> None:
        promolecules(
            folder / "structures.jsonl", folder / "table.csv", folder / "store", progress=watch
        )

    def watch(done: int, total: int) -> None:
        peaks.extend(_peak_mb(child.pid) for child in multiprocessing.active_children())

    wall = seconds(run)
    used = os.times()
    return {
        "build_s": wall,
        "build_cpu_s": used.user + used.system + used.children_user + used.children_system,
        "worker_peak_mb": max(peaks),
        "parent_peak_mb": _peak_mb(),
    }


def look(folder: Path) -> dict[str, Any]:
    """In a process of its own, nothing of the store in memory: open it, take a batch, then more in random order."""
    import fsspec  # noqa: F401 - imports are not what is timed
    import pyarrow.parquet  # noqa: F401

    from taskgroup.datasets import load_dataset

    files = [path for path in (folder / "store").rglob("*") if path.is_file()]
    for path in files:
        forget(path)
    started = time.perf_counter()
    dataset = load_dataset(folder / "store")
    opened = time.perf_counter()
    order = np.random.default_rng(0).permutation(len(dataset))
    dataset.read(order[:BATCH])
    first = time.perf_counter()
    batches = [order[at : at + BATCH] for at in range(BATCH, min(len(order), 33 * BATCH), BATCH)]
    took = seconds(lambda: [len(dataset.read(batch)) for batch in batches])
    size = sum(path.stat().st_size for path in files)
    return {
        "kb_per_crystal": size / len(dataset) / 1e3,
        "open_s": opened - started,
        "first_batch_s": first - started,
        "random_per_s": sum(map(len, batches)) / took,
        "open_peak_mb": _peak_mb(),
    }


def forget(path: Path) -> None:
    """Let the system drop what it keeps of a file in memory."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _peak_mb(process: int | str = "self") -> float:
    """Most memory a process has had. What ``getrusage`` says is no less than that of the process which started it."""
    status = Path(f"/proc/{process}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0]) / 1e6


def measure_store(n: int, folder: Path) -> dict[str, Any]:
    """Build and open a store of n crystals."""
    there = (folder / "store").exists()
    if not (folder / "structures.jsonl").exists():
        write_structures(folder, n)
    row: dict[str, Any] = {"crystals": n}
    for step in ("look",) if there else ("build", "look"):
        command = [sys.executable, __file__, "--step", step, str(folder)]
        row |= json.loads(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout
        )
    return row


def measure_epochs(store: Path, size: tuple[int, int, int]) -> dict[str, Any]:
    """Training rows a second from memory, and from a file of which no page is in memory when the epoch begins."""
    from taskgroup.datasets import load_dataset
    from taskgroup.models import ModelConfig
    from taskgroup.training import GroupJob, TrainConfig, device_rows, fit_epochs

    grid, width, crystals = size
    dataset = load_dataset(store).subset(np.arange(crystals))
    split_by = {"by": "random", "folds": 5, "seed": 0, "test_fold": 0, "validation_fold": 1}
    split = dataset.splits(by="random").split(test_fold=0, validation_fold=1)
    model, training = ModelConfig(grid=grid, width=width), TrainConfig(epochs=N_EPOCHS + 1)
    job = GroupJob(
        ("volume", "electrons"), model, training, 0, dataset.name, dataset.hash, split_by
    )

    def start(resident_bytes: int) -> tuple[Any, device_rows.DeviceRows]:
        device_rows._cache.clear()
        device_rows._RESIDENT_BYTES, device_rows._LONG = (
            resident_bytes,
            float("inf"),
        )  # nothing is taken from the kept rows
        epochs = fit_epochs(dataset, split, job)
        next(epochs)  # warm-up; rows of the file are prepared here
        return epochs, next(iter(device_rows._cache.values()))

    (memory, _), (disk, data) = start(1 << 62), start(0)
    ratios, rates, fetched = [], [], []
    for _ in range(N_EPOCHS):
        in_memory = next(memory).seconds
        drop_pages(data.rows)
        before = _bytes_read()
        from_disk = next(disk).seconds
        fetched.append(_bytes_read() - before)
        ratios.append(in_memory / from_disk)
        rates.append((len(split.train) / in_memory, len(split.train) / from_disk))
    one, other = (statistics.median(r) for r in zip(*rates, strict=True))
    names = {
        "grid": grid,
        "width": width,
        "crystals": crystals,
        "file_mb": data.rows.nbytes / 1e6,
    }
    return {
        **names,
        "read_mb": min(fetched) / 1e6,
        "memory_per_s": one,
        "disk_per_s": other,
        **spread(ratios),
    }


def drop_pages(rows: Any) -> None:
    """Let the system write out and forget every page of the mapped files of prepared rows."""
    libc = ctypes.CDLL(None, use_errno=True)
    for tensor in rows.tensors:
        pages = ctypes.c_void_p(tensor.data_ptr()), ctypes.c_size_t(tensor.nbytes)
        if libc.msync(*pages, _MS_SYNC) or libc.madvise(*pages, _MADV_PAGEOUT):
            raise OSError(ctypes.get_errno(), "pages cannot be dropped")


def _bytes_read() -> int:
    """What this process has had fetched from a disk."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["read_bytes"])


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """All that was asked for."""
    found: dict[str, list[dict[str, Any]]] = {}
    for grid in arguments.grids:
        make_chgcar(folder / f"{grid}_CHGCAR.gz", grid)
    made = [(f"{grid}^3", folder / f"{grid}_CHGCAR.gz") for grid in arguments.grids]
    if "files" in arguments.parts:
        files = [*made, *((path.name, path) for path in arguments.files)]
        found["files"] = [
            measure_files(name, path, folder / "files", arguments.repeats) for name, path in files
        ]
    if "processes" in arguments.parts:
        found["processes"] = [
            {
                "file": name,
                **measure_processes(path, folder / "processes", min(3, arguments.repeats)),
            }
            for name, path in made[1:2]
        ]
    if "stores" in arguments.parts:
        found["stores"] = [measure_store(n, folder / f"crystals-{n}") for n in arguments.crystals]
    if "epochs" in arguments.parts:
        n = max(crystals for _, _, crystals in EPOCHS)
        measure_store(n, folder / f"crystals-{n}")
        found["epochs"] = [
            measure_epochs(folder / f"crystals-{n}" / "store", size) for size in EPOCHS
        ]
    return found


def show(found: dict[str, list[dict[str, Any]]]) -> None:
    """One table a part."""
    from rich.console import Console
    from rich.table import Table

    for part, rows in found.items():
        names = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
        shown = [name for name in names if name not in ("ratio_low", "ratio_high")]
        table = Table(*shown, title=part, box=None)
        for row in rows:
            cells = {
                name: f"{value:.4g}" if isinstance(value, float) else str(value)
                for name, value in row.items()
            }
            if "ratio" in row:
                cells["ratio"] = (
                    f"{row['ratio']:.2f} ({row['ratio_low']:.2f}-{row['ratio_high']:.2f})"
                )
            table.add_row(*(cells.get(name, "-") for name in shown))
        Console().print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--grids", type=int, nargs="+", default=[24, 36, 48, 64])
    parser.add_argument("--files", type=Path, nargs="*", default=[])
    parser.add_argument("--crystals", type=int, nargs="+", default=[250, 500, 1000, 2000])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--parts", nargs="+", default=["files", "processes", "stores", "epochs"])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        step, folder = arguments.step
        print(json.dumps({"build": build, "look": look}[step](Path(folder))))
        return
    warnings.filterwarnings("ignore", category=UserWarning, module="pymatgen")
    with tempfile.TemporaryDirectory() as name:
        os.environ["TASKGROUP_CACHE"] = str(Path(name) / "cache")
        folder = arguments.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        found = measure(arguments, folder)
    if arguments.json:
        print(json.dumps(found))
    else:
        show(found)


if __name__ == "__main__":
    main()
