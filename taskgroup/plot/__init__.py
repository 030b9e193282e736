"""Figures on matplotlib's Axes: of affinities and groupings, and of what a study gave.

>>> import taskgroup as tg
>>> data = tg.load_dataset("crystals")
>>> axes = tg.plot.affinity(data.targets, measure="spearman")
>>> axes.figure.savefig("affinity.pdf")  # doctest: +SKIP

- Every function takes the table it draws, or an object with a method that gives it: ``gains(study)`` draws
  ``study.gains()``.
- Every function draws on the ``ax`` given, or on a new figure, and returns the Axes.
- Under ``with tg.plot.paper("aps"):`` new figures have the column width and the fonts of a journal.
"""

from taskgroup.plot.gains import gains
from taskgroup.plot.graph import target_graph
from taskgroup.plot.heat_map import affinity, transfer_matrix
from taskgroup.plot.history import learning_curve, search, training_curves
from taskgroup.plot.parity import parity, parity_grid
from taskgroup.plot.slices import explanation
from taskgroup.plot.style import PAPERS, Paper, find_paper, hidden_axes, paper, save

__all__ = [
    "PAPERS",
    "Paper",
    "affinity",
    "explanation",
    "find_paper",
    "gains",
    "hidden_axes",
    "learning_curve",
    "paper",
    "parity",
    "parity_grid",
    "save",
    "search",
    "target_graph",
    "training_curves",
    "transfer_matrix",
]
