"""Mutated property tables: the reader may refuse them, but only with our own error, quickly.

    python tools/fuzz_tables.py --count 100000 --seed 0

Each mutation is drawn from its seed, so a failure is repeated by ``--seed S --count 1``. The exit code is 1 where an
input raised another error, or took longer than two seconds.
"""

import argparse
import gzip
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from taskgroup.datasets import read_properties
from taskgroup.errors import TaskgroupError

_SECONDS = 2.0
_SEEDS = {
    "t.csv": b"id,formula,K (GPa),gap [eV],metal\n,,GPa,eV,\nm1,NaCl,1.5,0.5,yes\nm2,Si,2.25,,no\nm3,Na,n/a,3,yes\n",
    "u.csv": b"id;K;gap\nm1;100,5;1,1\nm2;200,25;0\nm3;1.234,5;2\n",
    "v.tsv": "Größe\tK / eV\nÄ\t1\nÖ\t2\n".encode("latin-1"),
    "w.json": b'[{"id": "a", "K": 1.5, "m": true}, {"id": "b", "K": null, "m": false}]',
    "x.json": b'{"K": {"0": 1, "1": 2}, "id": {"0": "a", "1": "b"}}',
    "y.jsonl": b'{"jid": "a", "K": 1e3}\n{"jid": "b", "K": "na"}\n',
    "z.txt": b"# made by hand\nm-1,1.25\nm-2,3\n",
}
_TOKENS = [
    b",", b";", b"\t", b"|", b'"', b"'", b"\n", b"\r", b"\r\n", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"nan", b"inf",
    b"-inf", b"1e999", b"1,234", b"1.234,5", b"--", b"Na", b"(", b")", b"[", b"]", b"{", b"}", b"(eV^99)", b"(G Pa)",
    b" / ", b"%", b"unit", b"id", b"=1+2", b"\x1b[2J", b"\xc3\x28", b"1_000", b"0x10", "−5".encode(), "½".encode(),
    "١".encode(), b"true", b"1" * 400, b"[" * 300, b"sep=;", b"#", b"Unnamed: 0", b"electrons", b"9" * 30 + b"-",
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


_MUTATIONS: list[tuple[Mutation, int]] = [
    (_insert, 8),
    (_replace_byte, 6),
    (_cut, 4),
    (_repeat, 3),
    (_swap_lines, 1),
    (_encode, 1),
    (_compress, 1),
]


def mutated_table(seed: int) -> tuple[str, bytes]:
    """Return name and content of the mutated table of a seed."""
    draw = random.Random(seed)
    name, content = draw.choice(sorted(_SEEDS.items()))
    mutations, weights = zip(*_MUTATIONS, strict=True)
    for mutation in draw.choices(mutations, weights, k=draw.randrange(1, 9)):
        content = mutation(content, draw)
    return name, content


def failure_of(seed: int, folder: Path) -> str:
    """Read the table of a seed; return '' where it is read or refused in one line and in time, else what is wrong."""
    name, content = mutated_table(seed)
    path = folder / name
    path.write_bytes(content)
    # of this process, so that other work on the machine does not count
    start = time.process_time()
    try:
        read_properties(path)
    except TaskgroupError as error:
        if "\n" in str(error):
            return f"a message of several lines: {error!r:.300}"
    except Exception:  # noqa: BLE001 - what this program looks for
        return traceback.format_exc()
    seconds = time.process_time() - start
    return f"took {seconds:.1f} s" if seconds > _SECONDS else ""


def main() -> int:
    """Read many mutated tables and print each failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    n_failures = 0
    with tempfile.TemporaryDirectory() as place:
        for seed in range(options.seed, options.seed + options.count):
            failure = failure_of(seed, Path(place))
            if failure:
                n_failures += 1
                print(f"seed {seed}: {failure}")
    print(f"{options.count} tables, {n_failures} failures")
    return 1 if n_failures else 0


if __name__ == "__main__":
    sys.exit(main())
