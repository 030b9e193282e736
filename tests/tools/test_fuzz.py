"""Some thousand of the mutated files of ``tools/fuzz.py``."""

import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def fuzz(monkeypatch):
    for package in ("h5py", "netCDF4"):
        pytest.importorskip(package)
    monkeypatch.syspath_prepend(str(TOOLS))
    import fuzz

    yield fuzz
    for name in ("fuzz", "fuzz_seeds"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("first", range(0, 5000, 1000))
def test_mutated_files_are_read_or_refused_in_one_line(fuzz, first: int, tmp_path: Path) -> None:
    outcome = fuzz.outcome_of(range(first, first + 1000), tmp_path)
    assert outcome.failures == {}


def test_a_sound_file_of_each_format_is_read(fuzz, tmp_path: Path) -> None:
    for kind in ("density", "table", "structures"):
        for name, content in fuzz._seeds(kind):
            path = tmp_path / name
            path.write_bytes(content)
            fuzz._read(kind, path)
