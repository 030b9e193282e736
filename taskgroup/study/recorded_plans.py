"""The plans that a run has stored, and those of runs and bundles of older versions, which have stored none.

An older record holds the keys of its networks and its settings, an older bundle the jobs of its networks. Reading plans
out of these happens here and nowhere else.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from taskgroup.execution.results import ResultStore
from taskgroup.export.bundle import Bundle
from taskgroup.grouping import Grouping
from taskgroup.models import ModelConfig
from taskgroup.spec.plan import Plan, Recipe
from taskgroup.tracking import TrialRecord
from taskgroup.training import GroupJob, TrainConfig


def recorded_plan(record: TrialRecord, store: ResultStore) -> Plan:
    """Return the plan of a recorded trial; ``store`` holds the networks of its run."""
    if record.plan is not None:
        return Plan.from_dict(record.plan)
    results = [store.get(key) for key in record.keys]
    jobs = [result.job for result in results if result is not None]
    plan = _plan_of_jobs(record.grouping, jobs)
    if plan is not None:
        return plan
    # This version gives the networks other keys. What a trial was asked for still stands in its settings.
    return Plan.uniform(record.grouping, _recipe_of_settings(record.settings))


def bundle_plan(bundle: Bundle) -> Plan:
    """Return the plan of a bundle that a study has released."""
    provenance = bundle.spec.provenance
    if "plan" in provenance:
        return Plan.from_dict(provenance["plan"])
    jobs = [GroupJob.from_dict(group["members"][0]) for group in provenance["groups"]]
    return _plan_of_jobs(bundle.spec.grouping, jobs)


def _plan_of_jobs(grouping: Grouping, jobs: Iterable[GroupJob]) -> Plan | None:
    """Return the plan whose groups were trained by these jobs; None where a group is missing."""
    recipe_of_targets = {job.targets: Recipe.of_job(job) for job in jobs}
    recipes = [recipe_of_targets.get(group.targets) for group in grouping.groups]
    if None in recipes:
        return None
    return Plan(grouping, tuple(recipes))


def _recipe_of_settings(settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe in the flat settings of a record; what they do not say has today's default."""
    sections: dict[str, dict[str, Any]] = {"model": {}, "training": {}}
    for name, value in settings.items():
        section, _, field = name.removeprefix("hp/").partition(".")
        if name.startswith("hp/") and section in sections:
            sections[section][field] = value
    return Recipe(
        ModelConfig.model_validate(sections["model"]),
        TrainConfig.model_validate(sections["training"]),
    )
