"""Target graphs, their clusterings, and the exact choice of groups: what should be learned together.

>>> from taskgroup.grouping import Grouping
>>> grouping = Grouping.from_partition([["volume", "density"], ["band_gap"]])
>>> print(grouping.merge("volume", "band_gap"))
{band_gap, density, volume}
"""

from taskgroup.grouping._clusterer import Clusterer
from taskgroup.grouping._sparsifiers import SPARSIFIERS
from taskgroup.grouping.cluster import CLUSTERERS, cluster, find_clusterer
from taskgroup.grouping.graph import target_graph
from taskgroup.grouping.grouping import Group, Grouping

__all__ = [
    "CLUSTERERS",
    "SPARSIFIERS",
    "Clusterer",
    "Group",
    "Grouping",
    "cluster",
    "find_clusterer",
    "target_graph",
]
