"""Predicting what was not trained: fit on the sets trained so far, expect mean and spread for any set.

>>> from taskgroup.grouping import Candidate
>>> from taskgroup.grouping.predict import SetProcess
>>> trained = [Candidate(("a",), {"a": 1.0}), Candidate(("a", "b"), {"a": 0.8, "b": 0.9})]
>>> trained += [Candidate(("b",), {"b": 1.0}), Candidate(("a", "c"), {"a": 0.7, "c": 1.0})]
>>> expected = SetProcess().fit(trained).predict([Candidate(("a", "b", "c"), {})])
>>> bool(expected.mean[0, 0] < 0.9 and expected.spread[0, 0] > 0)
True

A new predictor is a subclass of `GainPredictor` with two methods; `taskgroup.grouping.predict.testing` holds its tests.
"""

from taskgroup.grouping.predict._base import GainPredictor, Prediction, SetArrays
from taskgroup.grouping.predict._baselines import EarlyStopping, PairMeans, SubsetMeans
from taskgroup.grouping.predict._linear import BoostedAffinity, RidgeOnSets
from taskgroup.grouping.predict._networks import Network, Observation
from taskgroup.grouping.predict._process import SetProcess
from taskgroup.grouping.predict._score import PredictorScore, score_predictor
from taskgroup.grouping.predict._skill_predictor import SkillPredictor
from taskgroup.grouping.predict.skills import SkillModel, SkillPosterior

__all__ = [
    "BoostedAffinity",
    "EarlyStopping",
    "GainPredictor",
    "Network",
    "Observation",
    "PairMeans",
    "Prediction",
    "PredictorScore",
    "RidgeOnSets",
    "SetArrays",
    "SetProcess",
    "SkillModel",
    "SkillPosterior",
    "SkillPredictor",
    "SubsetMeans",
    "score_predictor",
]
