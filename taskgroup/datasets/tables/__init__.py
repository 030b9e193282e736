"""Property tables: files of many formats, their ids, units and numbers.

formats (raw: headers and cells of text) -> parts (ids, labels) -> properties (targets)
"""

from taskgroup.datasets.tables.asked import TargetsAsked
from taskgroup.datasets.tables.parts import LeftOut
from taskgroup.datasets.tables.properties import Properties, Tables, read_properties

__all__ = ["LeftOut", "Properties", "Tables", "TargetsAsked", "read_properties"]
