"""Wheel and sdist: their metadata is sound, and the wheel works outside the checkout."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("build", reason="build is not installed")
pytest.importorskip("hatchling", reason="hatchling is not installed")
pytest.importorskip("twine", reason="twine is not installed")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    return wheel, sdist


def test_twine_finds_no_fault(packages) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, packages)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_they_hold_what_a_user_needs_and_nothing_private(packages) -> None:
    wheel, sdist = packages
    names = set(zipfile.ZipFile(wheel).namelist())
    needed = {
        "taskgroup/py.typed",
        "taskgroup/_configs/studies/quickstart.yaml",
        "taskgroup/_configs/search_spaces/peaks.yaml",
        "taskgroup/export/pyfunc_model.py",
        "taskgroup/tracking/report.html.j2",
    }
    assert needed <= names
    assert all(name.startswith(("taskgroup/", "taskgroup_materials-")) for name in names)
    with tarfile.open(sdist) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "taskgroup/__init__.py"} <= files
    assert not any(name.startswith(("runs/", "site/", ".venv")) for name in files)


def test_the_wheel_works_outside_the_checkout(packages, tmp_path) -> None:
    target = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", str(target), str(packages[0])], check=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = os.environ | {"PYTHONPATH": str(target)}
    code = (
        "import taskgroup; print(taskgroup.__file__)\n"
        "from taskgroup.spec import load_study; print(load_study('quickstart').name)\n"
        "print(len(taskgroup.load_dataset('crystals')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=elsewhere,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    place, study, n_rows = done.stdout.split()
    assert place.startswith(str(target))
    assert study == "quickstart"
    assert int(n_rows) > 600
