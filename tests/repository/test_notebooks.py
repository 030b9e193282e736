"""The notebooks run from start to end, and each begins with a badge and a cell that installs what is missing."""

import os
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples" / "notebooks").glob("*.ipynb"))

# Seconds a cell may take on a loaded machine.
_PATIENCE = 900


def test_there_are_five() -> None:
    assert len(NOTEBOOKS) == 5


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_output_and_can_be_opened_anywhere(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    title, install, *_ = notebook.cells
    assert title.source.startswith("# ")
    assert "colab-badge" in title.source
    assert "pip install --quiet taskgroup-materials" in install.source
    for cell in notebook.cells:
        assert not cell.get("outputs")


# A notebook that uses what another one made runs after it, in the same folder.
ROUNDS = [["1_grouping"], ["2_densities"], ["3_study", "4_predict"], ["5_solver"]]


def test_every_notebook_is_run() -> None:
    assert sorted(name for names in ROUNDS for name in names) == [path.stem for path in NOTEBOOKS]


@pytest.mark.filterwarnings("ignore")  # of Jupyter's own
@pytest.mark.parametrize("names", ROUNDS, ids="-".join)
def test_notebooks_run(names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    # The kernel is a process of its own, started in an empty folder.
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.delenv("TASKGROUP_HOME", raising=False)
    for name in names:
        notebook = nbformat.read(NOTEBOOKS[0].with_name(f"{name}.ipynb"), as_version=4)
        client = nbclient.NotebookClient(
            notebook,
            timeout=_PATIENCE,
            kernel_name="python3",
            resources={"metadata": {"path": str(tmp_path)}},
        )
        client.execute()
