"""The exact choice of the best grouping out of every group that was trained, whatever trial it came from."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from taskgroup.errors import InfeasibleError
from taskgroup.grouping import Candidate, Group, Grouping, Solution, solve
from taskgroup.spec.config import AssemblyConfig
from taskgroup.spec.plan import Plan, Recipe, Repeat, StudyData
from taskgroup.training import GroupResult, mean_skill
from taskgroup.training.result import Skills


@dataclass(frozen=True)
class Assembly:
    """A plan put together from trained groups: its mean validation skill, and the skill of each target."""

    plan: Plan
    skills: dict[str, float]
    keys: tuple[str, ...]

    @property
    def value(self) -> float:
        """The mean skill over targets, on the rows and seeds the groups were chosen by."""
        return mean_skill(self.skills)


@dataclass(frozen=True)
class TrainedGroup:
    """A trained group as the solver sees it, its recipe, and the results (one a repeat) behind it."""

    candidate: Candidate
    recipe: Recipe
    keys: tuple[str, ...]


def trained_groups(
    results: Iterable[GroupResult], data: StudyData, repeats: Collection[Repeat]
) -> list[TrainedGroup]:
    """The groups an assembly may use: those trained with every repeat, a seed and a validation fold each.

    Scores are skills averaged over the repeats and clipped below at -1.
    """
    known = set(data.targets.names)
    gathered: dict[tuple, dict[Repeat, tuple[str, Skills]]] = defaultdict(dict)
    for result in results:
        job = result.job
        repeat = job.seed, job.split["validation_fold"]
        if repeat in repeats and known.issuperset(job.targets):
            expected = data.job(job.targets, Recipe(job.model, job.training), *repeat)
            if result.key == expected.key:
                gathered[job.targets, job.model, job.training][repeat] = result.key, result.skills
    found = []
    for (targets, model, training), of_repeat in gathered.items():
        if len(of_repeat) == len(repeats):
            chosen = [of_repeat[repeat] for repeat in sorted(repeats)]
            keys = tuple(key for key, _ in chosen)
            scores = {target: _mean([skills[target] for _, skills in chosen]) for target in targets}
            found.append(
                TrainedGroup(
                    Candidate(tasks=targets, scores=scores, key=keys[0]),
                    Recipe(model, training),
                    keys,
                )
            )
    return found


def assemble(
    groups: Sequence[TrainedGroup], config: AssemblyConfig, networks: int | None = None
) -> Assembly:
    """The best grouping of at most ``networks`` networks (default: the study's inference budget).

    Raises InfeasibleError: no choice of trained groups serves every target within the budget.
    """
    pool = {group.candidate.key: group for group in groups}
    while True:
        solution = solve(
            [group.candidate for group in pool.values()],
            groups=networks or config.max_networks,
            disjoint=config.disjoint,
            higher_is_better=True,
        )
        repeated = _worse_twins(solution)
        if not repeated:
            break
        for key in repeated:  # one set of targets is one network: its weaker recipe leaves
            del pool[key]
    chosen = {tuple(sorted(group.tasks)): group for group in solution.groups}
    grouping = Grouping(
        tuple(Group(tuple(group.tasks), tuple(group.serves)) for group in solution.groups)
    )
    trained = [pool[chosen[group.targets].key] for group in grouping.groups]
    plan = Plan(grouping, tuple(group.recipe for group in trained))
    return Assembly(
        plan, dict(solution.per_task), tuple(key for group in trained for key in group.keys)
    )


def front(groups: Sequence[TrainedGroup], config: AssemblyConfig, most: int) -> list[Assembly]:
    """The best assembly of at most 1, 2, ... ``most`` networks, as far as more networks are better."""
    found: list[Assembly] = []
    for networks in range(1, min(config.max_networks or most, most) + 1):
        try:
            best = assemble(groups, config, networks)
        except InfeasibleError:
            continue
        if not found or best.value > found[-1].value + 1e-12:
            found.append(best)
    return found


def _mean(skills: Sequence[float | None]) -> float:
    """Mean over repeats, clipped below at -1; a skill that does not exist (one class only) is worth nothing."""
    known = [skill for skill in skills if skill is not None]
    return max(-1.0, sum(known) / len(known)) if known else 0.0


def _worse_twins(solution: Solution) -> list[str]:
    """Keys of chosen networks whose set of targets stands in the choice twice, all but the one serving most."""
    by_set = defaultdict(list)
    for group in solution.groups:
        by_set[tuple(sorted(group.tasks))].append(group)
    return [
        g.key for twins in by_set.values() for g in sorted(twins, key=lambda g: -len(g.serves))[1:]
    ]
