"""The exact choice of the best grouping out of every group that was trained, whatever trial it came from."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from taskgroup.errors import InfeasibleError
from taskgroup.grouping import Candidate, Group, Grouping, Solution, solve
from taskgroup.spec.objective import ObjectiveConfig
from taskgroup.spec.plan import Plan, Recipe, Repeat, StudyData
from taskgroup.spec.sections import AssemblyConfig
from taskgroup.tracking import TrialRecord
from taskgroup.training import GroupResult

# A larger assembly counts as better only if its value is: sums of the same skills differ in the last digits.
_TOLERANCE = 1e-12
_ALL_COUNT = ObjectiveConfig()


@dataclass(frozen=True)
class TrainedGroup:
    """A trained group as the solver sees it, its recipe, keys of its results (one per repeat) and mean seconds."""

    candidate: Candidate
    recipe: Recipe
    keys: tuple[str, ...]
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class ScoredPlan:
    """A plan with the validation skill of each target: of an assembly, or of a trial.

    ``keys`` are those of the results it is made of; ``name`` is that of its record; ``value`` is what the study
    optimises, on the rows and seeds the groups were chosen by.
    """

    name: str
    plan: Plan
    skills: Mapping[str, float]
    keys: tuple[str, ...]
    value: float

    def record(self, number: int) -> TrialRecord:
        """Return the record of an assembly: all its networks were trained before, in trials."""
        return TrialRecord(
            number=number,
            kind="assembled",
            name=self.name,
            grouping=self.plan.grouping,
            objective=self.value,
            skills=dict(self.skills),
            gains={},
            settings={},
            state="COMPLETE",
            fail_kind=None,
            fail_reason=None,
            keys=self.keys,
            n_cached=len(self.keys),
            seconds=0.0,
            plan=self.plan.to_dict(),
        )


def trained_groups(
    results: Iterable[GroupResult], data: StudyData, repeats: Collection[Repeat]
) -> list[TrainedGroup]:
    """Return the groups an assembly may use: those trained with every repeat (a seed and a validation fold each).

    Their scores are skills, averaged over the repeats and clipped below at -1.
    """
    results_of_group: dict[tuple, dict[Repeat, GroupResult]] = defaultdict(dict)
    for result in results:
        job = result.job
        repeat = job.seed, job.split["validation_fold"]
        if repeat in repeats and _belongs_to(data, result):
            results_of_group[job.targets, job.model, job.training][repeat] = result
    groups = []
    for (targets, model, training), results_of_repeat in results_of_group.items():
        if len(results_of_repeat) < len(repeats):
            continue
        in_order = [results_of_repeat[repeat] for repeat in sorted(repeats)]
        skills = [result.skills for result in in_order]
        keys = tuple(result.key for result in in_order)
        candidate = Candidate(tasks=targets, scores=_mean_scores(targets, skills), key=keys[0])
        seconds = sum(result.seconds for result in in_order) / len(in_order)
        groups.append(TrainedGroup(candidate, Recipe(model, training), keys, seconds))
    return groups


def _belongs_to(data: StudyData, result: GroupResult) -> bool:
    """Return whether a result is one of this study's dataset, split and targets."""
    job = result.job
    if not set(data.targets.names).issuperset(job.targets):
        return False
    expected = data.job(job.targets, Recipe.of_job(job), job.seed, job.split["validation_fold"])
    return result.key == expected.key


def _mean_scores(
    targets: Sequence[str], skills: Sequence[Mapping[str, float | None]]
) -> dict[str, float]:
    """Return the mean skill of each target over repeats, clipped below at -1.

    A skill that is undefined in every repeat (labels of one class only) is worth nothing: 0.
    """
    scores = {}
    for target in targets:
        defined = [of_repeat[target] for of_repeat in skills if of_repeat[target] is not None]
        scores[target] = max(-1.0, sum(defined) / len(defined)) if defined else 0.0
    return scores


def assemble(
    groups: Sequence[TrainedGroup],
    config: AssemblyConfig,
    networks: int | None = None,
    objective: ObjectiveConfig = _ALL_COUNT,
) -> ScoredPlan:
    """Return the grouping of most skill of at most ``networks`` networks (default: the study's ``max_networks``).

    Prices are in its value, but do not decide: ``front`` leaves out the networks that are not worth theirs.

    Raises InfeasibleError: no choice of trained groups serves every target with so few networks.
    """
    pool = {group.candidate.key: group for group in groups}
    targets = {target for group in groups for target in group.candidate.tasks}
    weights = objective.weights_of(sorted(targets))
    while True:
        solution = solve(
            [group.candidate for group in pool.values()],
            groups=networks or config.max_networks,
            disjoint=config.disjoint,
            weights=weights,
            higher_is_better=True,
        )
        # A grouping holds each set of targets once: of two recipes for one set, the weaker leaves the pool.
        weaker = _weaker_duplicates(solution)
        if not weaker:
            return _scored_plan(solution, pool, objective)
        for key in weaker:
            del pool[key]


def _scored_plan(
    solution: Solution, pool: Mapping[str, TrainedGroup], objective: ObjectiveConfig
) -> ScoredPlan:
    """Return the grouping the solver chose, with the recipes and results of its groups."""
    trained_of_targets: dict[tuple[str, ...], TrainedGroup] = {}
    groups = []
    for network in solution.groups:
        group = Group(tuple(network.tasks), tuple(network.serves))
        trained_of_targets[group.targets] = pool[network.key]
        groups.append(group)
    grouping = Grouping(tuple(groups))
    recipes: list[Recipe] = []
    keys: list[str] = []
    # In the order of the grouping, which is not that of the solver.
    for group in grouping.groups:
        trained = trained_of_targets[group.targets]
        recipes.append(trained.recipe)
        keys.extend(trained.keys)
    name = f"assembled-{len(grouping)}"
    plan = Plan(grouping, tuple(recipes))
    skills = dict(solution.per_task)
    seconds = [trained.seconds for trained in trained_of_targets.values()]
    return ScoredPlan(name, plan, skills, tuple(keys), objective.value(skills, seconds))


def _weaker_duplicates(solution: Solution) -> list[str]:
    """Return the keys of chosen networks whose set of targets was chosen twice, all but the one serving most."""
    networks_of_targets = defaultdict(list)
    for network in solution.groups:
        networks_of_targets[tuple(sorted(network.tasks))].append(network)
    weaker = []
    for networks in networks_of_targets.values():
        by_service = sorted(networks, key=lambda network: -len(network.serves))
        weaker += [network.key for network in by_service[1:]]
    return weaker


def front(
    groups: Sequence[TrainedGroup],
    config: AssemblyConfig,
    most: int,
    objective: ObjectiveConfig = _ALL_COUNT,
) -> list[ScoredPlan]:
    """Return the best assembly of at most 1, 2, ... ``most`` networks, as far as more networks are better."""
    largest = min(config.max_networks or most, most)
    assemblies: list[ScoredPlan] = []
    for networks in range(1, largest + 1):
        try:
            best = assemble(groups, config, networks, objective)
        except InfeasibleError:
            continue
        if not assemblies or best.value > assemblies[-1].value + _TOLERANCE:
            assemblies.append(best)
    return assemblies
