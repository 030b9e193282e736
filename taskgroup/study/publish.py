"""The result of a study in MLflow: what explains it, its model, and versions of a registered model."""

from functools import partial
from pathlib import Path

from taskgroup.export.pyfunc_folder import description, save_pyfunc
from taskgroup.tracking import Tracker
from taskgroup.tracking.figures import save_figures

# Folders and files of a run that explain its result.
_EXPLANATIONS = ("affinity", "transfer", "figures", "report.html", "export/README.md")


def publish(folder: Path, tracker: Tracker) -> None:
    """Copy the affinities, the transfer report, the figures, the report and the model of a finished run to MLflow."""
    # Forms that MLflow's pages show.
    save_figures(folder, folder / "figures", formats=("svg", "png"))
    paths = [folder / name for name in _EXPLANATIONS]
    tracker.log_artifacts(*(path for path in paths if path.exists()))
    tracker.log_transfer()
    tracker.log_model(partial(save_pyfunc, folder / "export"))


def register_model(folder: Path, name: str) -> int:
    """Register the bundle of a finished run as a version of the model ``name`` in the run's MLflow; return the version.

    The version belongs to the run of the study's choice, and has the alias ``champion``. Raises RunError: MLflow does
    not answer.
    """
    tracker = Tracker.of_run(folder)
    tracker.sync()
    tracker.log_model(partial(save_pyfunc, folder / "export"))
    return tracker.register_model(name, description(folder / "export"))
