"""The value at the centre: which targets are learned together, and which network serves which target.

- A `Group` is one network: the targets it is trained on, and those of them it *serves*; the others are helpers.
- A `Grouping` serves every target exactly once. Without helpers it is a partition, with helpers an overlapping cover.
- Both are immutable, hashable and canonical: the order in which names were given never matters.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from taskgroup.errors import GroupingError, did_you_mean
from taskgroup.grouping._distances import rand_distance, variation_of_information

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, order=True)
class Group:
    """Targets trained in one network, and those of them that it serves (all of them unless said otherwise).

    Raises GroupingError where targets is empty, a name is repeated or not a text, or serves is not a non-empty part
    of targets.
    """

    targets: tuple[str, ...]
    serves: tuple[str, ...] = None  # type: ignore[assignment]  # None stands for all of targets

    def __post_init__(self) -> None:
        targets = _names(self.targets, "targets of a group")
        serves = targets if self.serves is None else _names(self.serves, "serves of a group")
        foreign = sorted(set(serves) - set(targets))
        if foreign:
            raise GroupingError(
                f"serves of a group must be among its targets {list(targets)}, but got {foreign}."
            )
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "serves", serves)

    @property
    def helpers(self) -> tuple[str, ...]:
        """The targets that are trained along but served by another group."""
        return tuple(name for name in self.targets if name not in self.serves)

    def __contains__(self, target: object) -> bool:
        return target in self.targets

    def __len__(self) -> int:
        return len(self.targets)

    def __str__(self) -> str:
        helpers = f" + {', '.join(self.helpers)}" if self.helpers else ""
        return f"{{{', '.join(self.serves)}{helpers}}}"


@dataclass(frozen=True, order=True)
class Grouping:
    """Groups that together serve every target exactly once.

    Groups are kept sorted by what they serve. Groups of equal targets are one network, so they become one group.

    >>> grouping = Grouping.from_partition([["volume", "density"], ["band_gap"]])
    >>> print(grouping)
    {band_gap} | {density, volume}
    >>> print(Grouping([Group(["band_gap"]), Group(["density", "volume", "band_gap"], serves=["density", "volume"])]))
    {band_gap} | {density, volume + band_gap}

    Raises GroupingError where there is no group, or a target is served twice or by no group.
    """

    groups: tuple[Group, ...]

    def __post_init__(self) -> None:
        # Groups of equal targets are one network.
        served_by_set: dict[tuple[str, ...], list[str]] = {}
        for group in self.groups:
            served_by_set.setdefault(group.targets, []).extend(group.serves)
        _check_served_once(served_by_set)
        groups = [Group(targets, tuple(serves)) for targets, serves in served_by_set.items()]
        groups.sort(key=lambda group: (group.serves, group.targets))
        object.__setattr__(self, "groups", tuple(groups))

    # -- constructors -------------------------------------------------------------------------------------------

    @classmethod
    def from_partition(cls, parts: Iterable[Iterable[str]]) -> "Grouping":
        """Return disjoint groups, each serving all of its targets."""
        return cls(tuple(Group(_sequence(part)) for part in parts))

    @classmethod
    def singles(cls, targets: Iterable[str]) -> "Grouping":
        """Return every target alone: the baseline that gains are measured against."""
        return cls.from_partition([name] for name in _names(_sequence(targets), "targets"))

    @classmethod
    def together(cls, targets: Iterable[str]) -> "Grouping":
        """Return all targets in one group."""
        return cls((Group(_sequence(targets)),))

    @classmethod
    def random(cls, targets: Iterable[str], k: int, seed: int) -> "Grouping":
        """Return a random partition into k groups whose sizes differ by at most one, whatever the order of targets."""
        names = _names(_sequence(targets), "targets")
        if not 1 <= k <= len(names):
            raise GroupingError(
                f"k must be between 1 and the number of targets ({len(names)}), but got {k}."
            )
        dealt = np.random.default_rng(seed).permutation(len(names))
        return cls.from_partition([names[i] for i in dealt[start::k]] for start in range(k))

    @classmethod
    def from_nested(cls, nested: Sequence) -> "Grouping":
        """Return the grouping in nested lists as MODNet takes them: one outer entry per group, of any depth inside.

        >>> print(Grouping.from_nested([[["S_300K", "S_800K"], ["refractive_index"]], [["gap"]]]))
        {S_300K, S_800K, refractive_index} | {gap}
        """
        return cls.from_partition(_flatten(part) for part in nested)

    @classmethod
    def from_words(cls, text: str) -> "Grouping":
        """Return the grouping that ``str`` wrote. Raises GroupingError: it did not write this.

        >>> Grouping.from_words("{gap} | {density, volume + gap}").serving("volume").helpers
        ('gap',)
        """
        groups = []
        for part in text.split("|"):
            words = part.strip()
            if not words.startswith("{") or not words.endswith("}"):
                raise GroupingError(
                    f"A grouping in words must look like {{a, b}} | {{c + a}}, but got {text[:80]!r}."
                )
            served, _, helping = words[1:-1].partition("+")
            serves = tuple(name.strip() for name in served.split(",") if name.strip())
            helpers = tuple(name.strip() for name in helping.split(",") if name.strip())
            groups.append(Group(serves + helpers, serves))
        return cls(tuple(groups))

    @classmethod
    def from_json(cls, text: str) -> "Grouping":
        """Return the grouping that `to_json` wrote; GroupingError says what is wrong with other text."""
        try:
            groups = []
            for group in json.loads(text)["groups"]:
                groups.append(Group(tuple(group["targets"]), tuple(group["serves"])))
            return cls(tuple(groups))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise GroupingError(
                'A grouping in JSON must look like {"groups": [{"targets": [...], "serves": [...]}]}, '
                f"but got {str(text)[:80]!r} ({type(error).__name__}: {error})."
            ) from None

    # -- other forms --------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Return canonical JSON: equal groupings give equal text."""
        groups = [
            {"targets": list(group.targets), "serves": list(group.serves)} for group in self.groups
        ]
        return json.dumps({"groups": groups}, ensure_ascii=False, separators=(",", ":"))

    def to_nested(self) -> list[list[list[str]]]:
        """Return nested lists as MODNet takes them: a list per group, in it a list per target. Partitions only."""
        if not self.is_partition:
            raise GroupingError(f"Nested lists cannot hold helpers, but got {self}.")
        return [[[name] for name in group.targets] for group in self.groups]

    def frame(self) -> "pd.DataFrame":
        """Return one row per target of a group: ``target``, ``group`` (from 1) and ``role`` (served or helper)."""
        import pandas as pd

        rows = []
        for number, group in enumerate(self.groups, start=1):
            for name in group.targets:
                role = "served" if name in group.serves else "helper"
                rows.append({"target": name, "group": number, "role": role})
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        """Return the groups as a list, for notebooks."""
        items = "".join(f"<li>{escape(str(group))}</li>" for group in self.groups)
        return f"<ol>{items}</ol>"

    @cached_property
    def grouping_id(self) -> str:
        """First 12 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    @cached_property
    def _group_of(self) -> dict[str, Group]:
        return {name: group for group in self.groups for name in group.serves}

    @property
    def targets(self) -> tuple[str, ...]:
        """All targets, sorted."""
        return tuple(sorted(self._group_of))

    @property
    def is_partition(self) -> bool:
        """True where no group has helpers."""
        return all(group.serves == group.targets for group in self.groups)

    def serving(self, target: str) -> Group:
        """Return the group whose network answers for target; GroupingError for an unknown target."""
        if target not in self._group_of:
            raise GroupingError(
                f"The grouping has no target '{target}'; {did_you_mean(target, self.targets)}"
            )
        return self._group_of[target]

    def labels(self, targets: Sequence[str] | None = None) -> list[int]:
        """Return the number of the serving group of each target, in the given order (default: sorted)."""
        number = {group: i for i, group in enumerate(self.groups)}
        names = self.targets if targets is None else targets
        return [number[self.serving(name)] for name in names]

    def __len__(self) -> int:
        return len(self.groups)

    def __str__(self) -> str:
        return " | ".join(map(str, self.groups))

    # -- neighbours ---------------------------------------------------------------------------------------------

    def merge(self, *targets: str) -> "Grouping":
        """Return the grouping with the groups that serve the named targets merged into one.

        A target that one of them serves is no helper any more.

        >>> print(Grouping.singles(["a", "b", "c"]).merge("a", "c"))
        {a, c} | {b}
        """
        merging = {self.serving(name) for name in targets}
        if not merging:
            raise GroupingError("merge must be told at least one target, but got none.")
        all_targets = {name for group in merging for name in group.targets}
        all_served = {name for group in merging for name in group.serves}
        others = [group for group in self.groups if group not in merging]
        return Grouping((*others, Group(tuple(all_targets), tuple(all_served))))

    def split(self, *targets: str) -> "Grouping":
        """Return the grouping in which the named targets left their groups and form one of their own.

        >>> print(Grouping.together(["a", "b", "c"]).split("b"))
        {a, c} | {b}
        """
        return Grouping((*self._without(targets), Group(targets)))

    def move(self, target: str, to: str) -> "Grouping":
        """Return the grouping in which target left its group for the one that serves `to`.

        >>> print(Grouping.from_partition([["a", "b"], ["c"]]).move("b", to="c"))
        {a} | {b, c}
        """
        home = self.serving(to)
        if target in home.serves:
            return self
        joined = Group(tuple({*home.targets, target}), (*home.serves, target))
        others = tuple(group for group in self.groups if group != home)
        return Grouping((*_leave(others, {target}), joined))

    def _without(self, targets: Sequence[str]) -> tuple[Group, ...]:
        for name in targets:
            self.serving(name)
        return _leave(self.groups, set(targets))

    # -- distances ----------------------------------------------------------------------------------------------

    def distance(self, other: "Grouping") -> float:
        """Return 1 - adjusted Rand index of who is served together.

        0 is equal, about 1 is unrelated, 1.5 the most there is. Hubert and Arabie 1985, doi:10.1007/BF01908075.
        Both groupings must have the same targets.
        """
        return rand_distance(self, other)

    def variation_of_information(self, other: "Grouping") -> float:
        """Return H(a|b) + H(b|a) in nats, a metric between 0 (equal) and log(number of targets).

        Meilă 2007, doi:10.1016/j.jmva.2006.11.013. Both groupings must have the same targets.
        """
        return variation_of_information(self, other)


def _check_served_once(served_by_set: Mapping[tuple[str, ...], list[str]]) -> None:
    times_served: Counter[str] = Counter()
    for served in served_by_set.values():
        times_served.update(served)
    if not times_served:
        raise GroupingError("A grouping must have at least one group, but got none.")
    twice = sorted(name for name, times in times_served.items() if times > 1)
    if twice:
        raise GroupingError(
            f"Every target must be served exactly once, but {twice} are served more than once."
        )
    trained = {name for targets in served_by_set for name in targets}
    never = sorted(trained - set(times_served))
    if never:
        raise GroupingError(
            f"Every target must be served exactly once, but no group serves {never}."
        )


def _leave(groups: Iterable[Group], targets: set[str]) -> tuple[Group, ...]:
    """Return the groups after targets left those that serve them.

    Helpers stay; a group that serves nothing any more is gone.
    """
    left = []
    for group in groups:
        leaving = targets & set(group.serves)
        serves = tuple(name for name in group.serves if name not in leaving)
        if serves:
            trained = tuple(name for name in group.targets if name not in leaving)
            left.append(Group(trained, serves))
    return tuple(left)


def _sequence(names: Iterable[str]) -> tuple[str, ...]:
    """Return names as a tuple, but a lone text as it is, so that `_names` can refuse it."""
    return names if isinstance(names, str) else tuple(names)  # type: ignore[return-value]


def _names(names: Iterable[str], what: str) -> tuple[str, ...]:
    """Return names sorted and checked: at least one, all non-empty texts, none twice."""
    if isinstance(names, str):
        raise GroupingError(f"{what} must be a list of names, but got the text {names!r}.")
    given = tuple(names)
    if not given:
        raise GroupingError(f"{what} must hold at least one name, but got none.")
    for name in given:
        if not isinstance(name, str) or not name:
            raise GroupingError(f"{what} must be non-empty names, but got {name!r}.")
    if len(set(given)) < len(given):
        raise GroupingError(f"{what} must not repeat a name, but got {sorted(given)}.")
    return tuple(sorted(given))


def _flatten(nested: object) -> Iterable[str]:
    if isinstance(nested, list | tuple):
        for part in nested:
            yield from _flatten(part)
    else:
        yield nested  # type: ignore[misc]  # checked to be a name by Group
