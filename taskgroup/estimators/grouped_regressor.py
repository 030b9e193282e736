"""Grouping of the targets of any feature matrix, with any regressor of scikit-learn that takes several outputs."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.model_selection import KFold, check_cv
from sklearn.utils import Tags, check_array, get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from taskgroup.affinity import affinity_matrix
from taskgroup.datasets import Target, TargetTable
from taskgroup.errors import ConfigError
from taskgroup.estimators.candidate_sets import candidate_sets
from taskgroup.estimators.cross_validation import SetScores, gains_frame, set_scores
from taskgroup.grouping import Candidate, Group, Grouping, solve

# Sets of targets that are tried beside each target alone, in units of the number of targets.
_SETS_PER_TARGET = 2
# With fewer complete rows a joint model has nothing to learn from, so such a set is not tried.
_FEWEST_ROWS = 10


class GroupedRegressor(MetaEstimatorMixin, RegressorMixin, BaseEstimator):
    """Learn together the targets that gain by it, each group by a model of its own.

    The targets' graph proposes groups, cross-validation on the rows given to ``fit`` measures them beside each target
    alone, and the exact solver chooses the grouping of highest mean R2. Labels may be missing (NaN): a group learns
    from the rows that have all its labels, so that what joining costs in rows is measured with it. Targets are
    standardised, so that none outweighs the others in a joint loss.

    The cross-validated gains are those the choice was made by, and too good for that reason; ``cross_val_score`` of
    this estimator is an honest measure.

    Parameters
    ----------
    estimator: regressor for several outputs; default: ``ExtraTreesRegressor``.
    measure: relation of labels that the graph is made of, see ``taskgroup.affinity.MEASURES``.
    method: how the graph is clustered, see ``taskgroup.grouping.CLUSTERERS``.
    cv: folds of the inner cross-validation: a number, a splitter, or an iterable of splits.
    n_candidates: joint sets of targets that are tried; default: twice the number of targets.
    max_models: models at most; default: no limit.
    random_state: of the folds, the clustering, and an estimator that has one.

    Attributes
    ----------
    grouping_: the chosen Grouping; targets are called as the columns of ``y``, or ``y0``, ``y1``, ...
    affinity_: Affinity of the targets that the graph was made of.
    gains_: DataFrame with the cross-validated R2 of each target grouped and alone, and its gain with 95 % interval.
    scores_: DataFrame of every set tried: its targets, its rows, and the R2 of each target in it.
    models_: the fitted model of each group.
    n_features_in_: number of features.
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        measure: str = "spearman",
        method: str = "louvain",
        cv: Any = 5,
        n_candidates: int | None = None,
        max_models: int | None = None,
        random_state: int | None = 0,
    ) -> None:
        self.estimator = estimator
        self.measure = measure
        self.method = method
        self.cv = cv
        self.n_candidates = n_candidates
        self.max_models = max_models
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Choose the groups and train a model for each; ``X`` [rows, features], ``y`` [rows] or [rows, targets]."""
        names = _names(y)
        X = validate_data(self, X, y="no_validation", **_X_RULES)
        labels = self._checked_labels(y, n_rows=X.shape[0])
        self._is_single = labels.ndim == 1
        labels = labels.reshape(len(labels), -1)
        self.target_names_ = names or tuple(f"y{number}" for number in range(labels.shape[1]))
        table = _table(self.target_names_, labels)
        self.affinity_ = affinity_matrix(table, self.measure)
        self._choose(X, table)
        self.models_ = {}
        self._scales = {}
        for group in self.grouping_.groups:
            self.models_[group], self._scales[group] = self._fit_group(X, table, group)
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return predictions [rows, targets] in the order of ``y``; [rows] where that was one column."""
        check_is_fitted(self, "models_")
        X = validate_data(self, X, reset=False, **_X_RULES)
        predicted = np.empty((X.shape[0], len(self.target_names_)))
        for group, model in self.models_.items():
            mean, scale = self._scales[group]
            of_group = model.predict(X).reshape(X.shape[0], -1) * scale + mean
            for name in group.serves:
                column = self.target_names_.index(name)
                predicted[:, column] = of_group[:, group.targets.index(name)]
        return predicted[:, 0] if self._is_single else predicted

    def _choose(self, X: Any, table: TargetTable) -> None:
        """Set the grouping, and what it was chosen by."""
        singles = Grouping.singles(table.names)
        self.scores_ = self.gains_ = None
        self.grouping_ = singles
        if len(table.names) == 1:
            return
        count = self.n_candidates
        if count is None:
            count = _SETS_PER_TARGET * len(table.names)
        joint = candidate_sets(self.affinity_, self.method, count, self.random_state or 0)
        scored = self._score_sets(X, table, [*(g.targets for g in singles.groups), *joint])
        candidates = [Candidate(s.targets, s.clipped()) for s in scored.values()]
        solution = solve(candidates, groups=self.max_models, higher_is_better=True)
        self.grouping_ = solution.grouping()
        self.scores_ = SetScores.frame(scored.values())
        self.gains_ = gains_frame(self.grouping_, scored, self.random_state or 0)

    def _score_sets(
        self, X: Any, table: TargetTable, sets: Iterable[tuple[str, ...]]
    ) -> Mapping[tuple[str, ...], SetScores]:
        splitter = self.cv
        if isinstance(splitter, int):
            splitter = KFold(splitter, shuffle=True, random_state=self.random_state)
        folds = list(check_cv(splitter).split(np.arange(len(table))))
        scored = {}
        for targets in sets:
            rows = _complete_rows(table, targets)
            if len(targets) == 1 or len(rows) >= _FEWEST_ROWS:
                fit = self._fitter(table, targets)
                scored[targets] = set_scores(X, table, targets, folds, fit)
        return scored

    def _fitter(self, table: TargetTable, targets: tuple[str, ...]) -> Any:
        """Return what trains a set on some rows and predicts all targets of it for others."""

        def fit_and_predict(X: Any, train: NDArray, test: NDArray) -> NDArray[np.float64]:
            rows = np.intersect1d(_complete_rows(table, targets), train)
            model, (mean, scale) = self._fit_rows(X, table, targets, rows)
            return model.predict(X[test]).reshape(len(test), -1) * scale + mean

        return fit_and_predict

    def _fit_group(self, X: Any, table: TargetTable, group: Group) -> tuple[Any, Any]:
        return self._fit_rows(X, table, group.targets, _complete_rows(table, group.targets))

    def _fit_rows(
        self, X: Any, table: TargetTable, targets: tuple[str, ...], rows: NDArray
    ) -> tuple[Any, tuple[NDArray, NDArray]]:
        """Return a model of the standardised labels of some rows, and their means and scales."""
        if not len(rows):
            raise ConfigError(f"y: no row to learn {', '.join(targets)} from has all labels")
        labels = table.select(targets).values[rows]
        mean, scale = labels.mean(axis=0), labels.std(axis=0)
        # A constant target is predicted by its mean.
        scale = np.where(scale > 0, scale, 1.0)
        standardised = (labels - mean) / scale
        if len(targets) == 1:
            standardised = standardised[:, 0]
        return self._new_estimator().fit(X[rows], standardised), (mean, scale)

    def _new_estimator(self) -> Any:
        estimator = clone(self._estimator_or_default())
        if "random_state" in estimator.get_params() and self.random_state is not None:
            estimator.set_params(random_state=self.random_state)
        return estimator

    def _estimator_or_default(self) -> Any:
        return ExtraTreesRegressor() if self.estimator is None else self.estimator

    def _checked_labels(self, y: ArrayLike, n_rows: int) -> NDArray[np.float64]:
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        rules = {"ensure_all_finite": "allow-nan", "ensure_2d": False, "input_name": "y"}
        labels = check_array(y, dtype=np.float64, estimator=self, **rules)
        if len(labels) != n_rows:
            raise ValueError(
                f"y: must have a row for each of the {n_rows} rows of X, found {len(labels)}"
            )
        return labels

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        of_estimator = get_tags(self._estimator_or_default())
        tags.input_tags.sparse = of_estimator.input_tags.sparse
        tags.input_tags.allow_nan = of_estimator.input_tags.allow_nan
        tags.target_tags.multi_output = True
        tags.target_tags.required = True
        return tags


# X goes on as it is: what it may hold is for the estimator to say.
_X_RULES: dict[str, Any] = {"accept_sparse": "csr", "ensure_all_finite": False}


def _names(y: Any) -> tuple[str, ...]:
    """Return the names of the columns of a data frame (or the name of a series), none for an array.

    Letters that a target's name may not have become ``_``.
    """
    columns = getattr(y, "columns", None)
    if columns is None:
        name = getattr(y, "name", None)
        columns = () if name is None else (name,)
    return tuple(re.sub(r"[^\w.\-]+", "_", str(name)).strip("_") for name in columns)


def _table(names: tuple[str, ...], labels: NDArray[np.float64]) -> TargetTable:
    specs = tuple(Target(name) for name in names)
    return TargetTable(specs, tuple(map(str, range(len(labels)))), labels)


def _complete_rows(table: TargetTable, targets: Iterable[str]) -> NDArray[np.int64]:
    """Return the rows that have every label of some targets."""
    return np.flatnonzero(np.isfinite(table.select(targets).values).all(axis=1))
