"""Mutated density files, property tables and structures: all may be refused, but only with our own error, quickly.

    python tools/fuzz.py --count 100000 --seed 0

Each input is drawn from its seed, so a failure is repeated by ``--seed S --count 1``. The exit code is 1 where an input
raised another error, took longer than two seconds or more than 500 MB, or killed the process that read it.
"""

import argparse
import faulthandler
import gzip
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path

from fuzz_seeds import TABLES, atoms_of_siesta, density_seeds, structure_lines

from taskgroup.errors import TaskgroupError

_SECONDS = 2.0
_MEGABYTES = 500.0
# An input that hangs ends its process after so long; on a busy machine others may take minutes too.
_HANGS = 120
# Inputs that one process reads before another one begins.
_CHUNK = 2000
# Two of three inputs are densities: they have more formats.
_KINDS = ("density", "density", "table", "density", "density", "table", "structures")
_BIG_NUMBERS = [b"99999", b"-1", b"0", b"1e300", b"-1e308", b"2147483647", b"65536 65536 65536"]
_TOKENS = [
    b",", b";", b"\t", b"|", b'"', b"'", b"\n", b"\r", b"\r\n", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"nan", b"inf",
    b"-inf", b"1e999", b"1,234", b"1.234,5", b"--", b"Na", b"(", b")", b"[", b"]", b"{", b"}", b"(eV^99)", b"(G Pa)",
    b" / ", b"%", b"unit", b"id", b"=1+2", b"\x1b[2J", b"\xc3\x28", b"1_000", b"0x10", "−5".encode(), "½".encode(),
    "١".encode(), b"true", b"1" * 400, b"****", b"1D+01", b"0.3-101", b"1.0-2.0",
    b"\x78\x9c", b"ustar", b"[" * 300, b"sep=;", b"#", b"Unnamed: 0", b"electrons", b"9" * 30 + b"-",
]  # fmt: skip
Mutation = Callable[[bytes, random.Random], bytes]


def _insert(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content) + 1)
    return content[:at] + draw.choice(_TOKENS) + content[at:]


def _replace_byte(content: bytes, draw: random.Random) -> bytes:
    if not content:
        return content
    at = draw.randrange(len(content))
    return content[:at] + bytes([draw.randrange(256)]) + content[at + 1 :]


def _cut(content: bytes, draw: random.Random) -> bytes:
    start, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    return content[:start] + content[end:]


def _repeat(content: bytes, draw: random.Random) -> bytes:
    start, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    return content[:end] + content[start:end] * draw.randrange(1, 20) + content[end:]


def _swap_lines(content: bytes, draw: random.Random) -> bytes:
    lines = content.split(b"\n")
    draw.shuffle(lines)
    return b"\n".join(lines)


def _encode(content: bytes, draw: random.Random) -> bytes:
    text = content.decode("latin-1")
    return text.encode(draw.choice(["utf-16", "utf-16-le", "utf-8-sig", "utf-32"]))


def _compress(content: bytes, draw: random.Random) -> bytes:
    packed = gzip.compress(content)
    return packed if draw.random() < 0.5 else _cut(packed, draw)


def _write_number(content: bytes, draw: random.Random) -> bytes:
    """Replace one word by a number that no file means."""
    words = content.split(b" ")
    words[draw.randrange(len(words))] = draw.choice(_BIG_NUMBERS)
    return b" ".join(words)


_MUTATIONS: list[tuple[Mutation, int]] = [
    (_insert, 8),
    (_replace_byte, 6),
    (_cut, 4),
    (_repeat, 3),
    (_write_number, 3),
    (_swap_lines, 1),
    (_encode, 1),
    (_compress, 1),
]


@dataclass
class Outcome:
    """What became of some inputs: failures by seed, and the most seconds and megabytes that one took, with its seed."""

    n_inputs: int = 0
    failures: dict[int, str] = field(default_factory=dict)
    slowest: tuple[float, int] = (0.0, -1)
    largest: tuple[float, int] = (0.0, -1)

    def add(self, other: "Outcome") -> None:
        """Take in what became of other inputs."""
        self.n_inputs += other.n_inputs
        self.failures |= other.failures
        self.slowest = max(self.slowest, other.slowest)
        self.largest = max(self.largest, other.largest)


@cache
def _seeds(kind: str) -> list[tuple[str, bytes]]:
    if kind == "density":
        return sorted(density_seeds().items())
    if kind == "table":
        return sorted(TABLES.items())
    return [("s.jsonl", structure_lines())]


def mutated(seed: int) -> tuple[str, str, bytes]:
    """Return kind, name and content of the mutated file of a seed."""
    draw = random.Random(seed)
    kind = draw.choice(_KINDS)
    name, content = draw.choice(_seeds(kind))
    mutations, weights = zip(*_MUTATIONS, strict=True)
    for mutation in draw.choices(mutations, weights, k=draw.randrange(1, 9)):
        content = mutation(content, draw)
    return kind, name, content


def _read(kind: str, path: Path) -> None:
    # imported here, so that printing the help takes no time
    from taskgroup.datasets import read_properties
    from taskgroup.densities import read_density, read_structures, standardise

    if kind == "density":
        path.with_suffix(".XV").write_bytes(atoms_of_siesta())
        # a CHG holds several configurations
        frame = -1 if path.name == "CHG" else None
        standardise(read_density(path, frame=frame), n=8)
    elif kind == "table":
        read_properties(path)
    else:
        list(read_structures(path))


def failure_of(seed: int, folder: Path) -> str:
    """Read the file of a seed; return '' where it is read or refused in one line, else what is wrong."""
    kind, name, content = mutated(seed)
    path = folder / name
    path.write_bytes(content)
    try:
        _read(kind, path)
    except TaskgroupError as error:
        if "\n" in str(error):
            return f"{name}: a message of several lines: {error!r:.300}"
    except Exception:  # noqa: BLE001 - what this program looks for
        return f"{name}: {traceback.format_exc()}"
    return ""


def outcome_of(seeds: range, folder: Path, last_seed: Path | None = None) -> Outcome:
    """Read the files of these seeds. ``last_seed`` is written before each, for a process that dies."""
    outcome = Outcome(len(seeds))
    # libraries warn of what they repair
    warnings.simplefilter("ignore")
    for seed in seeds:
        if last_seed is not None:
            last_seed.write_text(str(seed))
            faulthandler.dump_traceback_later(_HANGS, exit=True)
        before = _reset_peak()
        # of this process, so that other work on the machine does not count
        start = time.process_time()
        failure = failure_of(seed, folder)
        seconds = time.process_time() - start
        megabytes = _peak_memory() - before
        outcome.slowest = max(outcome.slowest, (seconds, seed))
        outcome.largest = max(outcome.largest, (megabytes, seed))
        if not failure and seconds > _SECONDS:
            failure = f"took {seconds:.1f} s"
        if not failure and megabytes > _MEGABYTES:
            failure = f"took {megabytes:.0f} MB"
        if failure:
            outcome.failures[seed] = failure
    faulthandler.cancel_dump_traceback_later()
    return outcome


def _reset_peak() -> float:
    """Forget the most memory that this process had (Linux), and return what it has, in MB."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _peak_memory()
    return _memory("VmRSS:")


def _peak_memory() -> float:
    return _memory("VmHWM:")


def _memory(name: str) -> float:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    return int(status.partition(name)[2].split()[0]) / 1024


def _chunk_outcome(seeds: range, place: str) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        return outcome_of(seeds, Path(folder), Path(place))


def fuzz(first: int, count: int, tell: Callable[[Outcome], None]) -> Outcome:
    """Read ``count`` files in processes of their own; one that dies is a failure of the file it read."""
    total = Outcome()
    end = first + count
    with tempfile.TemporaryDirectory() as folder:
        last_seed = Path(folder) / "seed"
        while first < end:
            seeds = range(first, min(first + _CHUNK, end))
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                try:
                    total.add(pool.submit(_chunk_outcome, seeds, str(last_seed)).result())
                    first = seeds.stop
                except BrokenProcessPool:
                    dead = int(last_seed.read_text())
                    reason = f"{mutated(dead)[1]}: killed the process, or hung for {_HANGS} s"
                    total.add(Outcome(dead + 1 - first, {dead: reason}))
                    first = dead + 1
            tell(total)
    return total


def main() -> int:
    """Read many mutated files and print each failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shown: set[int] = set()

    def tell(outcome: Outcome) -> None:
        for seed, failure in outcome.failures.items():
            if seed not in shown:
                print(f"seed {seed}: {failure}", flush=True)
                shown.add(seed)

    total = fuzz(options.seed, options.count, tell)
    print(
        f"{total.n_inputs} inputs, {len(total.failures)} failures; "
        f"slowest {total.slowest[0]:.2f} s (seed {total.slowest[1]}), "
        f"most memory {total.largest[0]:.0f} MB (seed {total.largest[1]})"
    )
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main())
