"""Grouping as scikit-learn estimators: for pipelines, cross-validation, and data that are no densities.

>>> import numpy as np
>>> from sklearn.linear_model import Ridge
>>> from taskgroup.estimators import GroupedRegressor
>>> random = np.random.default_rng(0)
>>> X = random.normal(size=(60, 4))
>>> Y = np.c_[X[:, 0], X[:, 0] + 0.1 * X[:, 1], X[:, 3]]
>>> model = GroupedRegressor(Ridge(), n_candidates=4).fit(X, Y)
>>> model.predict(X).shape, sorted(model.grouping_.targets)
((60, 3), ['y0', 'y1', 'y2'])
"""

from taskgroup.estimators.density_regressor import DensityRegressor
from taskgroup.estimators.grouped_regressor import GroupedRegressor

__all__ = ["DensityRegressor", "GroupedRegressor"]
