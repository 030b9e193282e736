"""Covariance of a target's expected skill between networks, as a sum of parts with one variance each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from taskgroup.grouping.predict._networks import Network
from taskgroup.grouping.predict._recipes import RecipeScale

# Sets that differ in this share of the other targets are alike to exp(-1).
_SET_LENGTH = 0.5
# Recipes whose hyper-parameters lie this far apart (root mean square, in parts of their ranges) are alike to exp(-1/2).
_RECIPE_LENGTH = 0.3

# Prior medians of the variances, in units of a target's variance over networks. They only matter while few networks
# are trained. A set of its own kind ("own_set", "cell") is rarer than an effect that helpers or recipes share.
_SET_PARTS = {"level": 1.0, "summed": 0.3, "averaged": 0.3, "like_set": 0.3, "own_set": 0.1}
_RECIPE_PARTS = {"like_recipe": 0.2, "set_by_recipe": 0.1, "cell": 0.05}
_HYPER_PARAMETER = 0.2


@dataclass(frozen=True)
class Rows:
    """Networks as arrays: ``member`` [networks, tasks] and ``codes`` [networks, hyper-parameters]."""

    member: np.ndarray
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.member)

    def __getitem__(self, chosen: np.ndarray) -> "Rows":
        return Rows(self.member[chosen], self.codes[chosen])


class SkillKernel:
    """Parts of the covariance between networks.

    For a target t, sets S and S' of its n possible helpers, and recipes r and r':

    - ``level``: 1, what all networks share;
    - ``summed``: |S & S'| / n, effects of helpers that add up;
    - ``averaged``: |S & S'| / (|S| |S'|), effects of helpers whose mean counts;
    - ``like_set``: exp(-|S ^ S'| / (n / 2)), what only like sets share;
    - ``own_set``: 1 where S = S', what only this set has;
    - one part per hyper-parameter: its effect for all sets;
    - ``like_recipe``: what only like recipes share;
    - ``set_by_recipe``: ``like_set`` times ``like_recipe``, a gain that depends on the recipe;
    - ``cell``: 1 where both are equal.
    """

    def __init__(self, tasks: Sequence[str], recipes: Sequence[tuple]) -> None:
        self.tasks = tuple(tasks)
        self.scale = RecipeScale(recipes)
        medians = dict(_SET_PARTS)
        if self.scale.names:
            medians |= dict.fromkeys(self.scale.names, _HYPER_PARAMETER)
            medians |= _RECIPE_PARTS
        self.parts = tuple(medians)
        self.prior_medians = np.array(list(medians.values()))

    def rows(self, networks: Sequence[Network]) -> Rows:
        """Return networks as arrays."""
        column = {task: i for i, task in enumerate(self.tasks)}
        member = np.zeros((len(networks), len(self.tasks)), dtype=bool)
        for row, network in enumerate(networks):
            for task in network.tasks:
                member[row, column[task]] = True
        return Rows(member, self.scale.encode([network.recipe for network in networks]))

    def components(self, left: Rows, right: Rows, task: int) -> np.ndarray:
        """Return the parts for a target, [parts, left, right]; every part is a covariance with variance 1 or less."""
        sets = self._set_parts(left.member, right.member, task)
        if not self.scale.names:
            return sets
        squares = self.scale.distances(left.codes, right.codes) ** 2
        effects = np.exp(-0.5 * squares / _RECIPE_LENGTH**2)
        like_recipe = np.exp(-0.5 * squares.mean(axis=0) / _RECIPE_LENGTH**2)
        same_recipe = squares.sum(axis=0) == 0
        like_set, own_set = sets[3], sets[4]
        joint = np.stack([like_recipe, like_set * like_recipe, own_set * same_recipe])
        return np.concatenate([sets, effects, joint])

    def _set_parts(self, left: np.ndarray, right: np.ndarray, task: int) -> np.ndarray:
        a = _helpers(left, task)
        b = _helpers(right, task)
        n_helpers = max(len(self.tasks) - 1, 1)
        sizes_a = a.sum(axis=1)[:, None]
        sizes_b = b.sum(axis=1)[None, :]
        shared = a @ b.T
        differing = sizes_a + sizes_b - 2 * shared
        return np.stack(
            [
                np.ones_like(shared),
                shared / n_helpers,
                # A target alone has no helpers, so nothing is shared and the divisor does not matter.
                shared / (np.maximum(sizes_a, 1) * np.maximum(sizes_b, 1)),
                np.exp(-differing / (_SET_LENGTH * n_helpers)),
                (differing == 0).astype(float),
            ]
        )

    def matrix(self, left: Rows, right: Rows, task: int, variances: np.ndarray) -> np.ndarray:
        """Return the covariance [left, right] for a target, given a variance per part.

        It is the sum of ``components``. Only sums over sets are computed for every pair of networks. Sets differ
        in few numbers of targets, and there are few different recipes, so the rest is looked up.
        """
        by_part = dict(zip(self.parts, variances, strict=True))
        a = _helpers(left.member, task)
        b = _helpers(right.member, task)
        n_helpers = max(len(self.tasks) - 1, 1)
        sizes_a = a.sum(axis=1)[:, None]
        sizes_b = b.sum(axis=1)[None, :]
        shared = a @ b.T
        differing = (sizes_a + sizes_b - 2 * shared).astype(int)
        divisors = np.maximum(sizes_a, 1) * np.maximum(sizes_b, 1)
        covariance = shared * (by_part["summed"] / n_helpers + by_part["averaged"] / divisors)
        like_set = np.exp(-np.arange(n_helpers + 1) / (_SET_LENGTH * n_helpers))
        of_difference = by_part["level"] + by_part["like_set"] * like_set
        of_difference[0] += by_part["own_set"]
        covariance += of_difference[differing]
        if self.scale.names:
            covariance += self._recipe_part(left.codes, right.codes, differing, like_set, by_part)
        return covariance

    def _recipe_part(
        self,
        left: np.ndarray,
        right: np.ndarray,
        differing: np.ndarray,
        like_set: np.ndarray,
        by_part: dict[str, float],
    ) -> np.ndarray:
        """Return what recipes add to the covariance; ``like_set`` is by the number of targets that differ."""
        left_recipes, left_places = _different(left)
        right_recipes, right_places = _different(right)
        squares = self.scale.distances(left_recipes, right_recipes) ** 2
        effects = np.exp(-0.5 * squares / _RECIPE_LENGTH**2)
        like_recipe = np.exp(-0.5 * squares.mean(axis=0) / _RECIPE_LENGTH**2)
        same_recipe = squares.sum(axis=0) == 0
        weights = np.array([by_part[name] for name in self.scale.names])
        alone = np.tensordot(weights, effects, axes=1) + by_part["like_recipe"] * like_recipe
        n_differences = len(like_set)
        # For each number of targets that differ and each pair of recipes.
        with_sets = like_set[:, None, None] * (by_part["set_by_recipe"] * like_recipe) + alone
        with_sets[0] += by_part["cell"] * same_recipe
        n_left, n_right = alone.shape
        places = left_places[:, None] * n_right + right_places[None, :]
        flat = with_sets.reshape(n_differences, n_left * n_right)
        return flat[differing, places]

    def diagonal(self, rows: Rows, task: int, variances: np.ndarray) -> np.ndarray:
        """Return the variance of each network for a target."""
        sizes = _helpers(rows.member, task).sum(axis=1)
        by_part = dict(zip(self.parts, variances, strict=True))
        constant = variances.sum() - by_part["summed"] - by_part["averaged"]
        summed = by_part["summed"] * sizes / max(len(self.tasks) - 1, 1)
        averaged = np.where(sizes > 0, by_part["averaged"] / np.maximum(sizes, 1), 0.0)
        return constant + summed + averaged


def _different(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different rows of encoded recipes, and the place of each row among them."""
    # NaN is no value, and not even equal to itself.
    comparable = np.where(np.isnan(codes), -np.inf, codes)
    _, first, places = np.unique(comparable, axis=0, return_index=True, return_inverse=True)
    return codes[first], places.reshape(len(codes))


def _helpers(member: np.ndarray, task: int) -> np.ndarray:
    """Return who learns along with a target, as numbers."""
    others = member.astype(float)
    others[:, task] = 0.0
    return others
