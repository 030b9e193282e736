"""Target graphs, their clusterings, and the exact choice of groups: what should be learned together.

>>> from taskgroup.grouping import Grouping
>>> grouping = Grouping.from_partition([["volume", "density"], ["band_gap"]])
>>> print(grouping.merge("volume", "band_gap"))
{band_gap, density, volume}
"""

from taskgroup.grouping.grouping import Group, Grouping

__all__ = ["Group", "Grouping"]
