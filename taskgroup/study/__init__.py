"""The life of a study: search, assemble, train again, test once, export; and what may be asked of it afterwards.

study           run and resume
finalise        assemble, train again, choose
release         the bundle, and the one look at the test rows
compare         groupings with and without a search, on test rows
learning_curve  test skill against training rows
transfer        which target helped which
"""

from taskgroup.study.study import Study, StudyHooks

__all__ = ["Study", "StudyHooks"]
