"""Property tables: files of many formats, their ids, units and numbers.

formats (raw: headers and cells of text) -> parts (ids, labels) -> properties (targets)
"""

from taskgroup.datasets.tables.asked import TargetsAsked
from taskgroup.datasets.tables.parts import LeftOut
from taskgroup.datasets.tables.properties import Properties, as_target_table, read_properties

__all__ = [
    "LeftOut",
    "Properties",
    "TargetsAsked",
    "as_target_table",
    "read_properties",
]
