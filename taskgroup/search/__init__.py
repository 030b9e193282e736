"""The joint search: Optuna proposes hyper-parameters and a grouping, the cache answers or networks are trained.

config      what a study file may say            space      what a trial may choose
plan        grouping + recipe of each group      propose    clustering settings -> grouping (affinities: from what)
results     the cache of everything trained      executors  where networks are trained (worker: by whom)
objective   evaluates a plan                     loop       the search loop (trials: with Optuna)
pruning     which groups to stop                 learning   skill against training rows
assemble    the exact best of everything trained finalise   train again, choose (release: test, export)
study       the life of a study                  transfer   who helped whom, of a whole run
lanes       small networks trained at once       compare    groupings with and without a search, on test rows
"""

from taskgroup.search.config import StudyConfig, load_study
from taskgroup.search.executors import Executor
from taskgroup.search.results import ResultStore
from taskgroup.search.study import Study, StudyHooks

__all__ = ["Executor", "ResultStore", "Study", "StudyConfig", "StudyHooks", "load_study"]
