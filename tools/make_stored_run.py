"""Make the run folder of this version that the tests read for ever: ``tests/data/<version>/run``.

    python tools/make_stored_run.py

A study of a tiny dataset with tiny networks, run to its end; kept is what later versions must be able to read: the
records, the report's inputs and the bundle (``export``). Databases, network files of the search and artifacts are not.
Run it once per released version, before the release, and commit the result.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import taskgroup
from taskgroup.datasets import write_store
from taskgroup.spec.config import load_study
from taskgroup.study import Study

ROOT = Path(__file__).parents[1]
STORED = ROOT / "tests" / "data"
KEPT = (
    "study.json",
    "trials.jsonl",
    "final.json",
    "test_predictions.csv",
    "affinity",
    "transfer",
    "export",
)

# Networks of a few hundred weights: the files must stay small enough for git.
SPACE = {
    "grouping": {
        "sparsifier": "threshold",
        "threshold": {"choices": [0.2, 0.6]},
        "method": "louvain",
    },
    "model": {
        "backbone": "descriptors",
        "widths": [],
        "fields": ["density"],
        "width": 2,
        "features": 4,
        "head_width": 2,
    },
    "training": {"epochs": 4, "batch_size": 16, "lr": {"choices": [0.01, 0.003]}},
}


def main() -> None:
    """Run the study in a temporary folder and keep what later versions must read."""
    sys.path.insert(0, str(ROOT / "tests"))
    from conftest import small_dataset

    target = STORED / taskgroup.__version__ / "run"
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "small"
        write_store(store, small_dataset())
        content = {
            "name": "stored",
            "dataset": str(store),
            "space": SPACE,
            "split": {"by": "formula"},
            "search": {"n_trials": 5, "startup_trials": 3},
            "refit": {"top": 1, "members": 3},
            "executor": {"kind": "inline", "threads": 1},
        }
        run = Path(folder) / "run"
        Study(load_study(content, ()), run).run()
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in KEPT:
            keep(run / name, target / name)
    hide_path(target / "study.json", str(store))
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"{target}: {size / 1000:.0f} kB")


def keep(source: Path, target: Path) -> None:
    """Copy a file or a folder."""
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


def hide_path(path: Path, store: str) -> None:
    """Replace the path of the temporary dataset."""
    path.write_text(path.read_text().replace(store, "small"))


if __name__ == "__main__":
    main()
