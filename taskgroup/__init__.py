"""Which properties of a material should one network learn together?

>>> import taskgroup as tg
>>> data = tg.load_dataset("crystals")
>>> graph = tg.target_graph(data.targets, measure="spearman", alpha=0.05)
>>> grouping = tg.cluster(graph, method="louvain", seed=0)
>>> sorted(grouping.targets) == sorted(data.targets.names)
True

Names are imported when first used, so that ``import taskgroup`` is fast and the command line answers at once.
"""

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_HOME = {
    "Density": "densities", "read_density": "densities", "standardise": "densities", "promolecule": "densities",
    "Dataset": "datasets", "Target": "datasets", "TargetTable": "datasets", "TargetScaler": "datasets",
    "Split": "datasets", "Splits": "datasets", "load_dataset": "datasets", "ingest": "datasets",
    "Affinity": "affinity", "affinity_matrix": "affinity",
    "Group": "grouping", "Grouping": "grouping", "target_graph": "grouping", "cluster": "grouping",
    "Candidate": "grouping", "NextSets": "grouping", "read_table": "grouping", "solve": "grouping",
    "ModelConfig": "models", "MultiTaskNetwork": "models",
    "TrainConfig": "training", "GroupJob": "training", "GroupResult": "training", "Hook": "training", "fit": "training",
    "load_bundle": "export",
    "Study": "study", "StudyConfig": "spec",
    "GroupedRegressor": "estimators", "DensityRegressor": "estimators",
}  # fmt: skip
# Modules that are names of their own: ``tg.plot.affinity(data.targets)``.
_MODULES = ("plot",)
__all__ = ["__version__", *_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"taskgroup.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'taskgroup' has no attribute '{name}'")
    return getattr(import_module(f"taskgroup.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
