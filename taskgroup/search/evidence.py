"""What the networks of a study tell the skill model."""

from functools import lru_cache

from taskgroup.grouping.predict import Network, Observation
from taskgroup.spec.plan import Recipe
from taskgroup.training import GroupResult
from taskgroup.training.metrics import LEAST_SKILL

# Different recipes of one study: more than any keeps in use at a time.
_RECIPES = 4096


def network_of(targets: tuple[str, ...], recipe: Recipe) -> Network:
    """Return the network that these targets and this recipe make, as the skill model knows it."""
    return Network(targets, _items(recipe))


@lru_cache(maxsize=_RECIPES)
def _items(recipe: Recipe) -> tuple:
    # Any network will do: it flattens the recipe.
    return Network(("any",), recipe.to_dict()).recipe


def observation_of(result: GroupResult) -> Observation:
    """Return a result as the skill model sees it: skills clipped below at -1, undefined ones worth nothing."""
    job = result.job
    scores = {}
    for target, skill in result.skills.items():
        scores[target] = 0.0 if skill is None else max(LEAST_SKILL, skill)
    network = network_of(job.targets, Recipe.of_job(job))
    return Observation(network, scores, seed=job.seed, fold=job.split["validation_fold"])
