"""All conformance classes: subclass the one of your extension point in a test module, and pytest runs its tests.

    from taskgroup.testing import BalancerConformance

    class TestMyBalancer(BalancerConformance):
        ...

Each class says in its docstring what to set. Needs pytest.
"""

from taskgroup.affinity.testing import MeasureConformance
from taskgroup.densities.testing import FileReaderConformance, ReaderConformance
from taskgroup.execution.testing import ExecutorConformance
from taskgroup.grouping.predict.testing import PredictorConformance
from taskgroup.grouping.testing import ClustererConformance
from taskgroup.models.testing import BackboneConformance, ViewConformance
from taskgroup.training.testing import BalancerConformance

__all__ = [
    "BackboneConformance",
    "BalancerConformance",
    "ClustererConformance",
    "ExecutorConformance",
    "FileReaderConformance",
    "MeasureConformance",
    "PredictorConformance",
    "ReaderConformance",
    "ViewConformance",
]
