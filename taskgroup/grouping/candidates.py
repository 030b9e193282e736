"""What the solver is given and what it answers: candidate sets, and the choice made among them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from taskgroup.errors import GroupingError
from taskgroup.grouping.grouping import Group, Grouping


@dataclass(frozen=True)
class Candidate:
    """One trained (or predicted) network: the set it was trained on and what it reaches on each task.

    Args:
        tasks: the task names of the set; kept sorted.
        scores: task -> loss or score. A task of the set without a score is a helper this network cannot serve.
        cost: what running the network costs, in the unit of the budget, >= 0.
        key: any text that tells this network from others with the same tasks (a job key, "row 7").

    Raises:
        GroupingError: an empty set, a task named twice, a score outside the set or not finite, a bad cost.
    """

    tasks: tuple[str, ...]
    scores: Mapping[str, float] = field(hash=False)
    cost: float = 1.0
    key: str = ""

    def __post_init__(self) -> None:
        tasks = tuple(sorted(self.tasks))
        object.__setattr__(self, "tasks", tasks)
        object.__setattr__(
            self, "scores", {task: float(self.scores[task]) for task in sorted(self.scores)}
        )
        object.__setattr__(self, "cost", float(self.cost))
        where = f"set '{' '.join(tasks)}'" + (f" ({self.key})" if self.key else "")
        if not tasks:
            raise GroupingError(f"{where}: a set must name at least one task, found none")
        if len(set(tasks)) < len(tasks):
            twice = next(a for a, b in zip(tasks, tasks[1:], strict=False) if a == b)
            raise GroupingError(f"{where}: a task must be named once, found '{twice}' twice")
        for task, value in self.scores.items():
            if task not in tasks:
                raise GroupingError(f"{where}: scores must be of tasks in the set, found '{task}'")
            if not math.isfinite(value):
                raise GroupingError(
                    f"{where}: the score of '{task}' must be a finite number, found {value}"
                )
        if not (math.isfinite(self.cost) and self.cost >= 0):
            raise GroupingError(f"{where}: cost must be a number >= 0, found {self.cost}")


@dataclass(frozen=True)
class SolvedGroup:
    """One chosen network: the tasks it was trained on, those it serves, its cost and the key of its candidate."""

    tasks: tuple[str, ...]
    serves: tuple[str, ...]
    cost: float
    key: str = ""


@dataclass(frozen=True)
class Solution:
    """The chosen networks.

    Attributes:
        groups: the chosen networks, each serving at least one task.
        total: weighted sum of ``per_task``.
        per_task: task -> value from the network that serves it (relative to the task alone under ``normalise``).
        cost: summed cost of the groups.
        gap: relative distance between the total and the proven bound; 0.0 = proven best.
    """

    groups: tuple[SolvedGroup, ...]
    total: float
    per_task: dict[str, float] = field(hash=False)
    cost: float
    gap: float

    def grouping(self) -> Grouping:
        """The choice as a Grouping; tasks a network was trained on but does not serve are its helpers."""
        return Grouping(Group(group.tasks, group.serves) for group in self.groups)

    def to_dict(self) -> dict[str, object]:
        """The JSON shape of ``taskgroup solve --format json``; a group has a ``key`` where its candidate has one."""
        groups = [
            {
                "tasks": list(g.tasks),
                "serves": list(g.serves),
                "cost": g.cost,
                **({"key": g.key} if g.key else {}),
            }
            for g in self.groups
        ]
        return {
            "groups": groups,
            "total": self.total,
            "per_task": dict(self.per_task),
            "cost": self.cost,
            "gap": self.gap,
        }

    def to_modnet(self) -> list[list[list[str]]]:
        """MODNet's nested ``targets``: one entry a group, holding its served tasks, each a property of its own.

        The whole list describes one MODNet with a shared trunk and a branch a group; ``[entry]`` describes one
        network a group. Helpers are left out, since MODNet trains each target in one branch only.
        """
        return [[[task] for task in group.serves] for group in self.groups]
