"""Files are whole or absent, lines are whole or skipped, and a lock belongs to one process."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from taskgroup.errors import RunError
from taskgroup.files import (
    append_line,
    atomic_path,
    csv_text,
    drop_torn_line,
    held_lock,
    is_disk_full,
    plain_json,
    read_json,
    read_whole_lines,
    write_frame,
    write_json,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path):
    path = tmp_path / "made" / "file.json"
    write_json(path, {"a": 1})

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert read_json(path) == {"a": 1}
    assert [entry.name for entry in path.parent.iterdir()] == ["file.json"]


def test_a_number_that_json_does_not_have_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_what_is_not_json_is_named(tmp_path: Path):
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(RunError, match=r"bad\.json: must be JSON"):
        read_json(tmp_path / "bad.json")


def test_lines_come_back_with_their_offsets(tmp_path: Path):
    path = tmp_path / "lines"
    starts = [append_line(path, text.encode(), durable=True) for text in ("one", "two", "three")]
    assert list(read_whole_lines(path)) == list(
        zip(starts, [b"one\n", b"two\n", b"three\n"], strict=True)
    )
    assert list(read_whole_lines(path, starts[2])) == [(starts[2], b"three\n")]


def test_a_torn_line_stays_apart_from_the_next_one(tmp_path: Path):
    path = tmp_path / "lines"
    path.write_bytes(b"whole\nto")
    assert [line for _, line in read_whole_lines(path)] == [b"whole\n"]
    start = append_line(path, b"next")
    assert path.read_bytes() == b"whole\nto\nnext\n"
    assert path.read_bytes()[start:] == b"next\n"


@pytest.mark.parametrize(
    "content", [b"", b"torn", b"one\n", b"one\ntorn", b"one\n" + b"x" * 200_000]
)
def test_a_torn_line_is_dropped(tmp_path: Path, content: bytes):
    path = tmp_path / "lines"
    path.write_bytes(content)
    drop_torn_line(path)
    assert path.read_bytes() == content[: content.rfind(b"\n") + 1]


def test_a_lock_is_held_once_and_freed_by_a_kill(tmp_path: Path):
    path = tmp_path / "run" / "lock"
    code = (
        "import sys, time\nfrom taskgroup.files import held_lock\n"
        "with held_lock(sys.argv[1], 'taken'):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(RunError, match="taken"), held_lock(path, "taken"):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with held_lock(path, "taken"):
        pass


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path):
    path = tmp_path / "file.json"
    code = (
        "import sys\nfrom taskgroup.files import write_json\n"
        "for i in range(200):\n    write_json(sys.argv[1], [int(sys.argv[2])] * 2000)"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(path), str(number)]) for number in (1, 2)
    ]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            assert json.loads(path.read_text()) in ([1] * 2000, [2] * 2000)
        time.sleep(0.01)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.json"]


def test_plain_json_holds_what_json_can_hold():
    content = {
        1: (np.float32(0.5), np.int64(3), float("nan")),
        "nested": [{"infinite": -math.inf, "text": "NaN", "none": None, "true": True}],
        "undefined": np.float64("nan"),
    }
    plain = plain_json(content)
    assert plain == {
        "1": [0.5, 3, None],
        "nested": [{"infinite": None, "text": "NaN", "none": None, "true": True}],
        "undefined": None,
    }
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_a_full_disk_is_known_by_its_number_or_by_its_words():
    assert is_disk_full(OSError(errno.ENOSPC, "x"))
    assert is_disk_full(OSError(errno.EFBIG, "x"))
    assert is_disk_full(ValueError(f"I/O error: {os.strerror(errno.ENOSPC)} (os error 28)"))
    assert not is_disk_full(OSError(errno.EACCES, "x"))
    assert not is_disk_full(ValueError("x"))


def test_a_frame_written_as_csv_runs_nothing_in_a_spreadsheet(tmp_path):
    frame = pd.DataFrame({"name": ["=1+2", None], "-cmd": [-1.5, 2.0]}, index=["@id", "mp-1"])
    text = csv_text(frame.rename_axis("id"), index=True)
    assert text == "id,name,'-cmd\n'@id,'=1+2,-1.5\nmp-1,,2.0\n"
    write_frame(tmp_path / "table.csv", frame.rename_axis("id"), index=True)
    assert (tmp_path / "table.csv").read_text() == text
