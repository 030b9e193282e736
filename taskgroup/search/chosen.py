"""The choice of a study as a trial of its Optuna study."""

import logging
from typing import Any

from taskgroup.search.storage import TrialStorage, searched_space
from taskgroup.spec.config import StudyConfig
from taskgroup.spec.dotted import BACKBONE, BACKBONE_NAME
from taskgroup.spec.parameter import as_list, encode
from taskgroup.spec.plan import Plan, Recipe
from taskgroup.spec.space import EXPECTED, PROPOSAL, Space
from taskgroup.tracking import FinalRecord

_log = logging.getLogger(__name__)


def mark_chosen(storage: TrialStorage, config: StudyConfig, final: FinalRecord) -> None:
    """Add the choice to the Optuna study, as a trial with the attribute ``chosen``; once.

    Its value is that with new seeds. Its networks may have different recipes: the parameters are those of the network
    that serves most targets.
    """
    plan = Plan.from_dict(final.plan)
    _, recipe = max(plan, key=lambda pair: len(pair[0].serves))
    space = searched_space(config)
    try:
        storage.add_chosen(_params(recipe, space), space, final)
    except ValueError as error:
        # The space was changed since the network was trained.
        _log.warning("the choice is no trial of the Optuna study: %s", error)


def _params(recipe: Recipe, space: Space) -> dict[str, Any]:
    """Return the parameters of a space that a recipe comes from."""
    params = space.encode(space.baseline())
    if space.learns:
        params[f"grouping.{PROPOSAL}"] = EXPECTED
    for name in space.parameters():
        section, _, setting = name.partition(".")
        if section == "model":
            value = _model_setting(recipe, setting)
        elif section == "training":
            value = getattr(recipe.training, setting)
        else:
            continue
        if value is not None:
            params[name] = encode(as_list(value))
    return params


def _model_setting(recipe: Recipe, name: str) -> Any:
    """Return a setting of the model or of its backbone; None where the backbone has no such setting."""
    if name in (BACKBONE, BACKBONE_NAME):
        return recipe.model.backbone.name
    if name in type(recipe.model).model_fields:
        return getattr(recipe.model, name)
    return getattr(recipe.model.backbone, name.removeprefix(f"{BACKBONE}."), None)
