"""Networks on charge densities as an estimator of scikit-learn: densities or files in, properties out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from taskgroup.datasets import Dataset, Split, Target, TargetTable
from taskgroup.densities import DEFAULT_SPACING, Density, read_density, standard_form
from taskgroup.errors import ConfigError
from taskgroup.grouping import Group, Grouping, cluster, target_graph

if TYPE_CHECKING:
    import pandas as pd

    from taskgroup.export import Bundle
    from taskgroup.models import ModelConfig
    from taskgroup.training import Fit, TrainConfig

# One fold of these tells a network which epoch was its best; it is not trained on.
_FOLDS = 5
_NAME = "density-regressor"


class DensityRegressor(RegressorMixin, BaseEstimator):
    """Multi-task networks on charge densities, one per group of targets.

    ``fit`` and ``predict`` take what ``Bundle.predict`` takes: densities (``tg.Density``, or of pymatgen) and files
    that hold one, in a list or an object array. Labels may be missing (NaN). Densities are brought to their standard
    form first, so this is an estimator for hundreds of them; thousands belong into a store and a Study, which also
    searches the grouping.

    Parameters
    ----------
    grouping: ``together``, ``singles``, a Grouping, or the name of a clustering method (``louvain``, ...) for the graph
        of the targets.
    model: ModelConfig, or a mapping of its settings.
    training: TrainConfig, or a mapping of its settings.
    targets: a Target for each column of ``y``, for units, kinds and transforms; default: regression of the columns.
    grid, spacing, sigma: points per axis or, where that is None, their spacing (Å), and the Gaussian width (Å) of the
        standard form.
    random_state: seed of the networks and of the rows that they are validated on.
    device: where to compute; default: a GPU if there is one.

    Attributes
    ----------
    grouping_: the Grouping that was trained.
    bundle_: the Bundle of the trained networks; ``tg.export.save_bundle`` writes it.
    validation_skills_: skill of each target on the rows that its network was validated on.
    """

    def __init__(
        self,
        grouping: str | Grouping = "together",
        *,
        model: "ModelConfig | Mapping[str, Any] | None" = None,
        training: "TrainConfig | Mapping[str, Any] | None" = None,
        targets: Sequence[Target] | None = None,
        grid: int | None = None,
        spacing: float = DEFAULT_SPACING,
        sigma: float = 0.2,
        random_state: int = 0,
        device: str | None = None,
    ) -> None:
        self.grouping = grouping
        self.model = model
        self.training = training
        self.targets = targets
        self.grid = grid
        self.spacing = spacing
        self.sigma = sigma
        self.random_state = random_state
        self.device = device

    def fit(self, X: Iterable[Any], y: ArrayLike) -> Self:
        """Train one network per group; ``X`` are densities or files, ``y`` [rows] or [rows, targets] in units."""
        densities = [_read(source) for source in X]
        labels = np.asarray(y, dtype=np.float64)
        self._is_single = labels.ndim == 1
        table = _table(self.targets, _columns(y, labels), labels.reshape(len(labels), -1))
        if len(densities) != len(table):
            raise ConfigError(
                f"y: must have a row for each of {len(densities)} densities, found {len(table)}"
            )
        spacing = self.spacing if self.grid is None else None
        dataset = _dataset(densities, table, self.grid, spacing, self.sigma)
        self.target_names_ = table.names
        self.grouping_ = self._grouping_of(dataset)
        split = _split(dataset, self.random_state)
        fitted = self._train(dataset, split)
        validated = dataset.learnt_targets.rows(split.validation)
        self.bundle_ = self._bundle(dataset, fitted, _residuals(fitted, validated))
        self.validation_skills_ = {}
        for group, fit in fitted:
            for name in group.serves:
                self.validation_skills_[name] = fit.result.skills[name]
        return self

    def predict(self, X: Iterable[Any]) -> NDArray[np.float64]:
        """Return predictions [rows, targets] in the order of ``y``; [rows] where that was one column."""
        frame = self.predict_frame(X)
        predicted = frame[list(self.target_names_)].to_numpy(dtype=np.float64)
        return predicted[:, 0] if self._is_single else predicted

    def predict_frame(self, X: Iterable[Any]) -> "pd.DataFrame":
        """Return predictions with units and standard deviations, as ``Bundle.predict`` does."""
        check_is_fitted(self, "bundle_")
        return self.bundle_.predict(list(X), device=self.device)

    def _grouping_of(self, dataset: Dataset) -> Grouping:
        if isinstance(self.grouping, Grouping):
            return self.grouping
        names = dataset.targets.names
        if len(names) == 1 or self.grouping == "together":
            return Grouping.together(names)
        if self.grouping == "singles":
            return Grouping.singles(names)
        graph = target_graph(dataset.learnt_targets)
        return cluster(graph, self.grouping, seed=self.random_state)

    def _train(self, dataset: Dataset, split: Split) -> "list[tuple[Group, Fit]]":
        """Return each group with its trained network."""
        # Imported here, since it loads torch.
        from taskgroup.training import GroupJob, fit

        model, training = self._settings()
        fitted = []
        for group in self.grouping_.groups:
            job = GroupJob(
                group.targets,
                model,
                training,
                self.random_state,
                _NAME,
                dataset.hash,
                _fold(self.random_state),
            )
            fitted.append((group, fit(dataset, split, job, device=self.device)))
        return fitted

    def _bundle(
        self,
        dataset: Dataset,
        fitted: "Sequence[tuple[Group, Fit]]",
        residuals: dict[str, float],
    ) -> "Bundle":
        from taskgroup.export import Bundle, BundleSpec, DensityFormat

        spec = BundleSpec(
            name=_NAME,
            grouping=self.grouping_,
            targets=dataset.targets.specs,
            density=DensityFormat.of(dataset),
            dataset={"name": _NAME, "version": "", "hash": dataset.hash},
            split=_fold(self.random_state),
            seen_ids=dataset.ids,
            residuals=residuals,
        )
        return Bundle(spec, {group: (fit.network,) for group, fit in fitted})

    def _settings(self) -> "tuple[ModelConfig, TrainConfig]":
        from taskgroup.models import ModelConfig
        from taskgroup.training import TrainConfig

        model = ModelConfig.model_validate(self.model or {})
        training = TrainConfig.model_validate(self.training or {})
        return model, training

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        # X holds densities, so that none of scikit-learn's checks on matrices applies.
        tags.input_tags.two_d_array = False
        tags.target_tags.multi_output = True
        tags.no_validation = True
        return tags


def _read(source: Any) -> Density:
    return source if isinstance(source, Density) else read_density(source)


def _columns(y: Any, labels: NDArray[np.float64]) -> tuple[str, ...]:
    if hasattr(y, "columns"):
        return tuple(map(str, y.columns))
    if getattr(y, "name", None) is not None:
        return (str(y.name),)
    count = 1 if labels.ndim == 1 else labels.shape[1]
    return tuple(f"y{number}" for number in range(count))


def _table(
    targets: Sequence[Target] | None, names: Sequence[str], labels: NDArray[np.float64]
) -> TargetTable:
    specs = tuple(targets or map(Target, names))
    ids = tuple(f"row-{number}" for number in range(len(labels)))
    return TargetTable(specs, ids, labels)


def _split(dataset: Dataset, seed: int) -> Split:
    """Return one fold to validate on; nothing is tested here, so the test fold is trained on too."""
    split = dataset.splits("random", _FOLDS, seed).split(0, 1)
    return Split(np.union1d(split.train, split.test), split.validation, split.test[:0])


def _fold(seed: int) -> dict[str, Any]:
    """Return the split as jobs and bundles record it."""
    return {"by": "random", "folds": _FOLDS, "seed": seed, "test_fold": 0, "validation_fold": 1}


def _residuals(fitted: "Sequence[tuple[Group, Fit]]", table: TargetTable) -> dict[str, float]:
    """Return the error of each regression target; ``table`` are the rows that the networks were validated on."""
    from taskgroup.export import residual_scale

    residuals = {}
    for group, fit in fitted:
        for name in group.serves:
            column = group.targets.index(name)
            predicted = fit.predictions[:, column]
            scale = residual_scale(table.spec(name), table.column(name), predicted)
            if scale is not None:
                residuals[name] = scale
    return residuals


def _dataset(
    densities: Sequence[Density],
    table: TargetTable,
    grid: int | None,
    spacing: float | None,
    sigma: float,
) -> Dataset:
    """Return densities in standard form with their labels. Raises ConfigError: none, or of several kinds."""
    kinds = {density.kind for density in densities}
    if len(kinds) != 1:
        raise ConfigError(f"X: must hold densities of one kind, found {sorted(kinds) or 'none'}")
    n_channels = min(density.n_channels for density in densities)
    standard = [standard_form(density, grid, sigma, spacing=spacing)[0] for density in densities]
    systems = ["-".join(sorted(set(density.species))) for density in standard]
    return Dataset.from_arrays(
        _NAME,
        table.ids,
        table,
        [density.values[:n_channels] for density in standard],
        [density.lattice for density in standard],
        formulas=systems,
        chemical_systems=systems,
        species=[density.species for density in standard],
        frac_coords=[density.frac_coords for density in standard],
        spacing=spacing,
        sigma=sigma,
        kind=kinds.pop(),
    )
