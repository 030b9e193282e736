"""Views: what a network sees of a stored density, one class per module."""

from taskgroup.models.views.atoms import AtomView
from taskgroup.models.views.base import View
from taskgroup.models.views.cartesian import CartesianView
from taskgroup.models.views.crystal_batch import AtomBatch, CrystalBatch
from taskgroup.models.views.distribution import DistributionView
from taskgroup.models.views.fractional import FractionalView
from taskgroup.models.views.grid import GridView
from taskgroup.models.views.peaks import PeakView
from taskgroup.models.views.rows import PreparedRows

__all__ = [
    "AtomBatch",
    "AtomView",
    "CartesianView",
    "CrystalBatch",
    "DistributionView",
    "FractionalView",
    "GridView",
    "PeakView",
    "PreparedRows",
    "View",
]
