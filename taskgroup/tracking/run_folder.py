"""Where runs lie."""

import os
from pathlib import Path

from taskgroup.errors import RunError, did_you_mean


def runs_folder() -> Path:
    """``runs`` under TASKGROUP_HOME, or under the working directory."""
    return Path(os.environ.get("TASKGROUP_HOME", ".")) / "runs"


def find_run(run: str | Path) -> Path:
    """A run folder by its path, or by the name of its study in ``runs_folder``. Raises RunError where there is none."""
    for folder in (Path(run), runs_folder() / run):
        if (folder / "study.json").exists():
            return folder
    known = [path.parent.name for path in runs_folder().glob("*/study.json")]
    hint = did_you_mean(str(run), known) if known else f"nor is there a run in {runs_folder()}"
    raise RunError(f"{run}: a run folder holds study.json, but there is none here; {hint}")
