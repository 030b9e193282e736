"""One model of everything trained: the skill that any set of targets is expected to reach under any recipe.

>>> from taskgroup.grouping.predict import Network, Observation, SkillModel
>>> alone, pair = Network(("a",)), Network(("a", "b"))
>>> results = [Observation(alone, {"a": 0.5 + 0.01 * seed}, seed) for seed in range(3)]
>>> results += [Observation(pair, {"a": 0.7 + 0.01 * seed, "b": 0.4}, seed) for seed in range(3)]
>>> posterior = SkillModel().fit(results).posterior([alone, pair])
>>> bool(posterior.mean[1, 0] > posterior.mean[0, 0])
True
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from taskgroup.errors import GroupingError, did_you_mean
from taskgroup.grouping.predict._evidence import TargetSample, Variances, learn_variances
from taskgroup.grouping.predict._kernel import Rows, SkillKernel
from taskgroup.grouping.predict._networks import Network, Observation, all_tasks
from taskgroup.grouping.predict._process_of_target import TargetProcess

# Spread of a target's skill over networks before any is seen, and how many results this guess is worth.
_PRIOR_SPREAD = 0.1
_PRIOR_WEIGHT = 3.0
# Networks that failed to learn are clipped at so many robust standard deviations below the median: how badly a
# training failed says nothing of other networks.
_CLIP = 6.0
_MAD_TO_DEVIATION = 1.4826
# Variances are learned on at most so many results of a target (cubic cost), and again after such a growth.
_SAMPLE = 100
_GROWTH = 1.4
# Features of a target's process. Beyond so many different networks the process is approximate.
_CAPACITY = 256
_JITTER = 1e-9


@dataclass(frozen=True)
class SkillPosterior:
    """Skill that networks are expected to reach with new seeds.

    Attributes:
        tasks: names of the targets.
        networks: the networks, in the order asked for.
        n_trained: how many results the model has seen of each network.
        mean: expected skill [networks, tasks]; NaN where a target is not in the network.
        covariances: for each target the covariance [members, members] between the networks that hold it.
        noise: variance between two trainings of one network that differ in seed alone, [tasks].
    """

    tasks: tuple[str, ...]
    networks: tuple[Network, ...]
    n_trained: np.ndarray
    mean: np.ndarray
    covariances: tuple[np.ndarray, ...]
    noise: np.ndarray

    @cached_property
    def member(self) -> np.ndarray:
        """Whether a network holds a target, [networks, tasks]."""
        return np.isfinite(self.mean)

    @cached_property
    def spread(self) -> np.ndarray:
        """Standard deviations of the expected skills [networks, tasks]; NaN where a target is not in the network."""
        spread = np.full(self.mean.shape, np.nan)
        for task, covariance in enumerate(self.covariances):
            variance = np.maximum(np.diag(covariance), 0.0)
            spread[self.member[:, task], task] = np.sqrt(variance)
        return spread

    @cached_property
    def _roots(self) -> list[np.ndarray]:
        """Square roots of the covariances: most of the cost of a draw."""
        return [_root(covariance) for covariance in self.covariances]

    def single_spread(self) -> np.ndarray:
        """Return standard deviations [networks, tasks] of one more training: noise included."""
        return np.sqrt(self.spread**2 + self.noise)

    def sample(self, n_draws: int, seed: int = 0) -> np.ndarray:
        """Return draws [draws, networks, tasks] of the expected skills; NaN where a target is not in the network."""
        random = np.random.default_rng(seed)
        draws = np.full((n_draws, *self.mean.shape), np.nan)
        for task, root in enumerate(self._roots):
            rows = np.flatnonzero(self.member[:, task])
            normal = random.standard_normal((n_draws, len(rows)))
            draws[:, rows, task] = self.mean[rows, task] + normal @ root.T
        return draws


class SkillModel:
    """Gaussian process per target over sets of targets and recipes, with the effects of folds and the noise of seeds.

    A result is the sum of effects of the helpers, of the recipe, of what only like sets and like recipes share, of the
    validation fold, and of noise. The variances of these parts are shared by the targets, their scale and the noise
    are each target's own; all are learned by marginal likelihood, the noise mostly from repeats.

    Cost, with N results, T targets and capacity M = 256: a posterior of Q networks costs T (M^3 + Q M^2 + Q^2), a new
    result T M^2, and learning the variances again, which happens whenever N has grown by 40 per cent, T (N M^2 + 100^3)
    times a constant. So the cost per result stays bounded however many there are.

    Args:
        prior_spread: spread of a target's skill over networks to assume before there are results.
        capacity: number of different networks per target up to which the posterior is exact.
    """

    def __init__(self, prior_spread: float = _PRIOR_SPREAD, capacity: int = _CAPACITY) -> None:
        self._prior_spread = prior_spread
        self._capacity = capacity
        self._variances: Variances | None = None
        self._clear()

    def _clear(self) -> None:
        self.tasks: tuple[str, ...] = ()
        self._observations: list[Observation] = []
        self._counts: dict[Network, int] = {}
        self._processes: list[TargetProcess] = []
        self._n_learned = 0

    def fit(self, observations: Iterable[Observation]) -> Self:
        """Learn from results, forgetting earlier ones. Raises GroupingError where there is none."""
        self._clear()
        self._variances = None
        return self.update(observations)

    def update(self, observations: Iterable[Observation]) -> Self:
        """Learn from further results."""
        new = list(observations)
        self._observations += new
        if not self._observations:
            raise GroupingError("a skill model must be fitted on at least one result, found none")
        for observation in new:
            network = observation.network
            self._counts[network] = self._counts.get(network, 0) + 1
        if self._must_learn(new):
            self._learn()
        else:
            self._add(new)
        return self

    @property
    def n_observations(self) -> int:
        """Number of results seen."""
        return len(self._observations)

    def posterior(self, networks: Sequence[Network], fold: int | None = None) -> SkillPosterior:
        """Return what networks, trained or not, are expected to reach with new seeds.

        Args:
            networks: of targets seen in training, with any recipe.
            fold: a validation fold whose effect is to be included; default: folds on average.

        Raises GroupingError for a target that no result has.
        """
        rows = self._rows(networks)
        place = None if fold is None else self._fold_places.get(fold, -1)
        mean = np.full(rows.member.shape, np.nan)
        covariances = []
        for task, process in enumerate(self._processes):
            members = np.flatnonzero(rows.member[:, task])
            standard, covariance = process.expect(rows[members], place)
            mean[members, task] = self._level[task] + self._spread[task] * standard
            covariances.append(self._spread[task] ** 2 * covariance)
        noise = np.array([process.noise for process in self._processes])
        counts = [self._counts.get(network, 0) for network in networks]
        return SkillPosterior(
            self.tasks, tuple(networks), np.array(counts, dtype=int), mean, tuple(covariances),
            self._spread**2 * noise,
        )  # fmt: skip

    def posterior_mean(self, networks: Sequence[Network]) -> np.ndarray:
        """Return the ``mean`` of the posterior of networks, [networks, tasks], in a fraction of its time.

        Raises GroupingError for a target that no result has.
        """
        rows = self._rows(networks)
        mean = np.full(rows.member.shape, np.nan)
        for task, process in enumerate(self._processes):
            members = np.flatnonzero(rows.member[:, task])
            standard = process.expect_mean(rows[members])
            mean[members, task] = self._level[task] + self._spread[task] * standard
        return mean

    def _rows(self, networks: Sequence[Network]) -> Rows:
        for network in networks:
            for task in network.tasks:
                if task not in self.tasks:
                    raise GroupingError(
                        f"no trained network holds the target '{task}', {did_you_mean(task, self.tasks)}"
                    )
        return self._kernel.rows(networks)

    def _must_learn(self, new: Sequence[Observation]) -> bool:
        if len(self._observations) >= _GROWTH * self._n_learned:
            return True
        known_names = set(self._kernel.scale.names) | self._constant_names
        for observation in new:
            if observation.fold not in self._fold_places:
                return True
            if not set(observation.network.tasks) <= set(self.tasks):
                return True
            # A hyper-parameter that did not vary before needs a part of its own in the kernel.
            for name, value in observation.network.recipe:
                if name not in known_names or self._constants.get(name, value) != value:
                    return True
        return False

    def _learn(self) -> None:
        """Choose scales and variances anew and build the processes of all targets."""
        networks = list(self._counts)
        self.tasks = all_tasks(networks)
        recipes = list(dict.fromkeys(network.recipe for network in networks))
        self._kernel = SkillKernel(self.tasks, recipes)
        self._constants = dict(recipes[0]) if recipes else {}
        for name in self._kernel.scale.names:
            self._constants.pop(name, None)
        self._constant_names = set(self._constants)
        folds = sorted({observation.fold for observation in self._observations})
        self._fold_places = {fold: place for place, fold in enumerate(folds)}
        self._standardise()
        gathered = _Gathered.of(self._observations, self._kernel, self._fold_places)
        values = [self._standard(task, gathered.values[:, task]) for task in range(len(self.tasks))]
        samples = [
            _sample(gathered, task, values[task], self._kernel) for task in range(len(self.tasks))
        ]
        start = self._variances
        self._variances = learn_variances(samples, self._kernel.prior_medians, start)
        self._processes = [self._new_process(task) for task in range(len(self.tasks))]
        for task, process in enumerate(self._processes):
            gathered.add_to(process, task, values[task])
        self._n_learned = len(self._observations)

    def _new_process(self, task: int) -> TargetProcess:
        variances = self._variances
        scale = variances.scale[task]
        return TargetProcess(
            self._kernel,
            task,
            scale * variances.parts[:-1],
            scale * variances.parts[-1],
            variances.noise[task],
            len(self._fold_places),
            self._capacity,
        )

    def _add(self, new: Sequence[Observation]) -> None:
        if not new:
            return
        gathered = _Gathered.of(new, self._kernel, self._fold_places)
        for task, process in enumerate(self._processes):
            gathered.add_to(process, task, self._standard(task, gathered.values[:, task]))

    def _standardise(self) -> None:
        """Set level, spread and lowest credible value of each target."""
        by_task: dict[str, list[float]] = {task: [] for task in self.tasks}
        for observation in self._observations:
            for task, value in observation.scores.items():
                by_task[task].append(value)
        level, spread, lowest = [], [], []
        for task in self.tasks:
            values = np.array(by_task[task])
            if not len(values):
                raise GroupingError(
                    f"every target needs a score in at least one result, but '{task}' has none"
                )
            median = float(np.median(values))
            deviation = _MAD_TO_DEVIATION * float(np.median(np.abs(values - median)))
            floor = median - _CLIP * max(deviation, self._prior_spread)
            residuals = np.maximum(values, floor) - median
            variance = _PRIOR_WEIGHT * self._prior_spread**2 + float(residuals @ residuals)
            level.append(median)
            spread.append(np.sqrt(variance / (_PRIOR_WEIGHT + len(values))))
            lowest.append(floor)
        self._level, self._spread = np.array(level), np.array(spread)
        self._lowest = np.array(lowest)

    def _standard(self, task: int, values: np.ndarray) -> np.ndarray:
        """Return values of a target in spreads from its level, failed trainings clipped; NaN stays."""
        return (np.maximum(values, self._lowest[task]) - self._level[task]) / self._spread[task]


@dataclass(frozen=True)
class _Gathered:
    """Results as arrays, a row each: the place of its network among ``networks``, its fold, and its values or NaN."""

    networks: Rows
    places: np.ndarray
    folds: np.ndarray
    values: np.ndarray

    @classmethod
    def of(
        cls, observations: Sequence[Observation], kernel: SkillKernel, fold_places: dict[int, int]
    ) -> "_Gathered":
        place_of: dict[Network, int] = {}
        column = {task: i for i, task in enumerate(kernel.tasks)}
        values = np.full((len(observations), len(kernel.tasks)), np.nan)
        places = np.empty(len(observations), dtype=int)
        folds = np.empty(len(observations), dtype=int)
        for row, observation in enumerate(observations):
            places[row] = place_of.setdefault(observation.network, len(place_of))
            folds[row] = fold_places[observation.fold]
            for task, value in observation.scores.items():
                values[row, column[task]] = value
        return cls(kernel.rows(list(place_of)), places, folds, values)

    def repeats(self, values: np.ndarray) -> "_Repeats":
        """Group the known values of one target by network and fold."""
        known = np.isfinite(values)
        n_folds = int(self.folds.max()) + 1
        pairs = self.places[known] * n_folds + self.folds[known]
        different, which, counts = np.unique(pairs, return_inverse=True, return_counts=True)
        sums = np.bincount(which, values[known], len(different))
        squares = np.bincount(which, (values[known] - (sums / counts)[which]) ** 2, len(different))
        return _Repeats(different // n_folds, different % n_folds, sums, counts, squares)

    def add_to(self, process: TargetProcess, task: int, values: np.ndarray) -> None:
        """Hand the results of one target to its process, those of most promise first: they get features first."""
        repeats = self.repeats(values)
        if not len(repeats.places):
            return
        in_order = repeats.places[_order_of_features(repeats)]
        _, first = np.unique(in_order, return_index=True)
        process.extend(self.networks[in_order[np.sort(first)]])
        rows = self.networks[repeats.places]
        process.add(rows, repeats.folds, repeats.sums, repeats.counts)


@dataclass(frozen=True)
class _Repeats:
    """Repeats of networks on folds: their places, sum and number of values, sum of squares around the mean."""

    places: np.ndarray
    folds: np.ndarray
    sums: np.ndarray
    counts: np.ndarray
    squares: np.ndarray


def _order_of_features(repeats: _Repeats) -> np.ndarray:
    """Return an order in which good networks and random ones take turns.

    Decisions are between good networks, so these should be exact; the random ones keep the rest of the space known.
    """
    best_first = np.argsort(-repeats.sums / repeats.counts, kind="stable")
    at_random = np.random.default_rng(0).permutation(len(best_first))
    turns = np.stack([best_first, at_random], axis=1).ravel()
    _, first = np.unique(turns, return_index=True)
    return turns[np.sort(first)]


def _sample(
    gathered: _Gathered, task: int, values: np.ndarray, kernel: SkillKernel
) -> TargetSample:
    """Return at most a hundred results of a target, all repeats of the chosen networks among them."""
    repeats = gathered.repeats(values)
    order = np.random.default_rng(task).permutation(len(repeats.places))
    chosen = np.sort(order[:_SAMPLE])
    rows = gathered.networks[repeats.places[chosen]]
    folds = repeats.folds[chosen]
    same_fold = (folds[:, None] == folds[None, :]).astype(float)
    components = np.concatenate([kernel.components(rows, rows, task), same_fold[None]])
    return TargetSample(
        components,
        repeats.sums[chosen] / repeats.counts[chosen],
        repeats.counts[chosen],
        # Repeats of all networks tell the noise, those outside the sample too: they cost nothing.
        float(repeats.squares.sum()),
        int((repeats.counts - 1).sum()),
    )


def _root(covariance: np.ndarray) -> np.ndarray:
    """Return a square root of a covariance, which may be singular up to rounding."""
    if not len(covariance):
        return covariance
    jitter = _JITTER * max(float(np.diag(covariance).max()), 1e-300)
    try:
        return np.linalg.cholesky(covariance + jitter * np.eye(len(covariance)))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        return vectors * np.sqrt(np.maximum(values, 0.0))
