"""The life of a study: search, assemble, train again, test once, export; and what may be asked of it afterwards.

study           the public object: run, resume, join, read
conduct         a study from its first trial to its bundle
session         one process that searches
finalise        assemble, train again, choose
refit           training a plan again, and the bundle of its networks
release         the one look at the test rows, and the exported bundle
recorded_plans  plans of records and bundles, those of older versions included
compare         groupings with and without a search, on test rows
side_by_side    several studies on the test rows they share
imported        results of others as a run, out of tables and Optuna studies
learning_curve  test skill against training rows
transfer        which target helped which
"""

from taskgroup.study.study import Study, StudyHooks

__all__ = ["Study", "StudyHooks"]
