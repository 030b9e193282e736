"""What a study asks for: the study file, the search space, and the plan of one trial.

config    study files: find, read, override, check
sections  the sections of a study file, with their help texts
space     what a trial may choose
plan      a grouping with one recipe per group, and the rows it is trained on
"""

from taskgroup.spec.config import StudyConfig, load_study

__all__ = ["StudyConfig", "load_study"]
