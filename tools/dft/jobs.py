"""Who computes what: names that are done, failed or packed are skipped, and files appear whole or not at all."""

import argparse
import gzip
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

Compute = Callable[
    [str, str, Any], tuple[dict[str, Any], np.ndarray]
]  # name, family, atoms -> record, density


class TookTooLong(Exception):
    """A crystal took longer than its time limit."""


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that all computing tools share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("out", type=Path, help="folder of NAME.json, NAME.npz and NAME.fail")
    parser.add_argument(
        "part", type=int, nargs="?", default=0, help="which share of the names (0 to parts - 1)"
    )
    parser.add_argument(
        "parts", type=int, nargs="?", default=1, help="into how many shares the names are dealt"
    )
    parser.add_argument(
        "--packed", type=Path, help="crystals.json.gz, whose names are not computed again"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="compute these names, whatever the share"
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="try names with a NAME.fail once more"
    )
    parser.add_argument(
        "--time-limit",
        type=int,
        default=400,
        metavar="SECONDS",
        help="of one crystal (default 400)",
    )
    return parser


def run(
    candidates: list[tuple[str, str, Any]], compute: Compute, options: argparse.Namespace
) -> None:
    """Compute what is pending, one after the other; a failure is recorded in NAME.fail and the next one begins."""
    options.out.mkdir(parents=True, exist_ok=True)
    for name, family, atoms in pending(candidates, options):
        start = time.time()
        try:
            with time_limit(options.time_limit):
                record, density = compute(name, family, atoms)
        except Exception as error:  # noqa: BLE001 - any failure of one crystal must not stop the others
            write_whole(options.out / f"{name}.fail", repr(error).encode())
            print(f"{name} failed: {repr(error)[:100]}", flush=True)
            continue
        record["seconds"] = time.time() - start
        save(options.out, record, density)
        print(summary(record), flush=True)


def pending(
    candidates: list[tuple[str, str, Any]], options: argparse.Namespace
) -> Iterator[tuple[str, str, Any]]:
    """This share's candidates that are neither packed, nor done, nor failed; looked up one by one as work goes on."""
    packed = packed_names(options.packed) if options.packed else set()
    for position, candidate in enumerate(candidates):
        name = candidate[0]
        chosen = name in options.only if options.only else position % options.parts == options.part
        done = (options.out / f"{name}.json").exists()
        failed = (options.out / f"{name}.fail").exists() and not options.retry_failed
        if chosen and name not in packed and not done and not failed:
            yield candidate


def packed_names(path: Path) -> set[str]:
    """The names in a packed dataset."""
    with gzip.open(path, "rt") as file:
        return {record["name"] for record in json.load(file)}


def save(folder: Path, record: dict[str, Any], density: np.ndarray) -> None:
    """NAME.npz, then NAME.json: a record without its density cannot be left behind. A failure before is forgotten."""
    name = record["name"]
    partial = folder / f".{name}.npz"
    np.savez_compressed(partial, density=density.astype(np.float32))
    os.replace(partial, folder / f"{name}.npz")
    write_whole(folder / f"{name}.json", json.dumps(record).encode())
    (folder / f"{name}.fail").unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(content)
    os.replace(partial, path)


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise TookTooLong after so many seconds."""

    def ring(*_: Any) -> None:
        raise TookTooLong(f"over {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def summary(record: dict[str, Any]) -> str:
    """One line about a computed crystal: its name and every plain number in its record."""
    numbers = [
        f"{key}={value:.4g}" for key, value in record.items() if isinstance(value, int | float)
    ]
    return " ".join([record["name"], *numbers])
