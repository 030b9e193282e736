"""Target graphs, their clusterings, and the exact choice of groups: what should be learned together.

>>> from taskgroup.grouping import Grouping
>>> grouping = Grouping.from_partition([["volume", "density"], ["band_gap"]])
>>> print(grouping.merge("volume", "band_gap"))
{band_gap, density, volume}
"""

from taskgroup.grouping._clusterer import Clusterer
from taskgroup.grouping._sparsifiers import SPARSIFIERS
from taskgroup.grouping.candidates import Candidate, Solution, SolvedGroup
from taskgroup.grouping.cluster import CLUSTERERS, cluster, find_clusterer
from taskgroup.grouping.graph import target_graph
from taskgroup.grouping.grouping import Group, Grouping
from taskgroup.grouping.next_sets import NextSets
from taskgroup.grouping.predict import GainPredictor
from taskgroup.grouping.solve import Rescored, evaluate, pareto, solve, solve_each
from taskgroup.grouping.stability import Stability, agreement, resample
from taskgroup.grouping.tables import SetTable, read_table

__all__ = [
    "CLUSTERERS",
    "SPARSIFIERS",
    "Candidate",
    "Clusterer",
    "GainPredictor",
    "Group",
    "Grouping",
    "NextSets",
    "Rescored",
    "SetTable",
    "Solution",
    "SolvedGroup",
    "Stability",
    "agreement",
    "cluster",
    "evaluate",
    "find_clusterer",
    "pareto",
    "read_table",
    "resample",
    "solve",
    "solve_each",
    "target_graph",
]
