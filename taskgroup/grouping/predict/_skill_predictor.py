"""The skill model behind the interface of all gain predictors."""

import numpy as np

from taskgroup.grouping.predict._base import GainPredictor, SetArrays
from taskgroup.grouping.predict._networks import Network, Observation
from taskgroup.grouping.predict.skills import SkillModel


class SkillPredictor(GainPredictor):
    """`SkillModel` as a `GainPredictor`: the recipe of a network is its cost, networks that differ in key are repeats.

    Works for losses and skills alike. The spread is that of one more training, noise included.
    """

    def _learn(self, trained: SetArrays) -> None:
        standard = self._standard(trained.values)
        observations = []
        for row, network in enumerate(_networks(trained)):
            known = zip(self.tasks, standard[row], strict=True)
            scores = {task: float(value) for task, value in known if np.isfinite(value)}
            observations.append(Observation(network, scores, seed=row))
        # Values come in spreads from the level of each task, so the spread to assume is one.
        self._model = SkillModel(prior_spread=1.0).fit(observations)

    def _expect(self, queries: SetArrays) -> tuple[np.ndarray, np.ndarray]:
        posterior = self._model.posterior(_networks(queries))
        spread = posterior.single_spread()
        return self.level + self.spread * posterior.mean, self.spread * spread


def _networks(arrays: SetArrays) -> list[Network]:
    networks = []
    for member, cost in zip(arrays.member, arrays.cost, strict=True):
        tasks = tuple(task for task, inside in zip(arrays.tasks, member, strict=True) if inside)
        networks.append(Network(tasks, {"cost": float(cost)}))
    return networks
