"""A bundle as an MLflow model: a folder that MLflow loads, shows and serves."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from taskgroup import __version__
from taskgroup.export.bundle_folder import load_bundle
from taskgroup.export.served import COLUMNS

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

    from taskgroup.export.spec import BundleSpec


def save_pyfunc(bundle_dir: str | Path, path: str | Path) -> None:
    """Write a bundle folder as an MLflow pyfunc model to ``path``, which must not be there yet.

    The model is made from code, so that loading it unpickles nothing. Its signature names inputs and outputs, with
    units; see ``taskgroup.export.served`` for what a request holds.
    """
    import pandas as pd

    with warnings.catch_warnings():
        # MLflow warns of its own type hints when it is imported.
        warnings.simplefilter("ignore", UserWarning)
        from mlflow.pyfunc import save_model

    spec = load_bundle(bundle_dir, check=False).spec
    with _quiet_mlflow():
        save_model(
            str(path),
            python_model=str(files("taskgroup.export").joinpath("pyfunc_model.py")),
            artifacts={"bundle": str(bundle_dir)},
            pip_requirements=[f"taskgroup-materials=={__version__}"],
            signature=_signature(spec),
            # Shown on the model's page; MLflow warns without one.
            input_example=pd.DataFrame({"path": ["calcs/CHGCAR"]}),
            metadata=_metadata(spec),
        )


def description(bundle_dir: str | Path) -> str:
    """Return what a bundle predicts in Markdown: the verdict, and a table of targets with units and test skill."""
    spec = load_bundle(bundle_dir, check=False).spec
    lines = [spec.provenance.get("verdict", str(spec.grouping)), ""]
    lines += ["| target | unit | skill on test rows |", "|---|---|---|"]
    metrics = spec.metrics.get("test", {})
    for name in spec.grouping.targets:
        skill = metrics.get(name, {}).get("skill")
        number = "" if skill is None else f"{skill:.3f}"
        lines.append(f"| {name} | {spec.target(name).unit or '–'} | {number} |")
    lines += ["", f"Takes {spec.density.kind} densities:", ""]
    lines += [f"- `{name}`: {meaning}" for name, (_, meaning) in COLUMNS.items()]
    return "\n".join(lines)


def _signature(spec: "BundleSpec") -> "ModelSignature":
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    inputs = [ColSpec(kind, name, required=False) for name, (kind, _) in COLUMNS.items()]
    outputs = [ColSpec("string", "id")]
    for suffix in ("", "_std"):
        for name in spec.grouping.targets:
            unit = spec.target(name).unit
            header = f"{name}{suffix} [{unit}]" if unit else f"{name}{suffix}"
            outputs.append(ColSpec("double", header))
    coverage = ParamSpec("coverage", "double", 0.0)
    return ModelSignature(Schema(inputs), Schema(outputs), ParamSchema([coverage]))


def _metadata(spec: "BundleSpec") -> dict[str, object]:
    units = {name: spec.target(name).unit for name in spec.grouping.targets}
    return {"study": spec.name, "units": units, "grouping": str(spec.grouping)}


@contextmanager
def _quiet_mlflow() -> Iterator[None]:
    """Keep away MLflow's progress messages."""
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
