"""Distances between groupings of the same targets, by who is served together."""

from typing import TYPE_CHECKING

from taskgroup.errors import GroupingError

if TYPE_CHECKING:
    from taskgroup.grouping.grouping import Grouping


def rand_distance(one: "Grouping", other: "Grouping") -> float:
    """Return 1 - adjusted Rand index (Hubert and Arabie 1985, doi:10.1007/BF01908075)."""
    from sklearn.metrics import adjusted_rand_score

    return 1.0 - float(adjusted_rand_score(*_labels(one, other)))


def variation_of_information(one: "Grouping", other: "Grouping") -> float:
    """Return H(a|b) + H(b|a) in nats (Meilă 2007, doi:10.1016/j.jmva.2006.11.013)."""
    from sklearn.metrics import mutual_info_score

    a, b = _labels(one, other)
    entropies = mutual_info_score(a, a) + mutual_info_score(b, b)
    # Rounding may leave a little less than nothing.
    return max(0.0, float(entropies - 2.0 * mutual_info_score(a, b)))


def _labels(one: "Grouping", other: "Grouping") -> tuple[list[int], list[int]]:
    if one.targets != other.targets:
        odd = sorted(set(one.targets) ^ set(other.targets))
        raise GroupingError(
            f"Groupings must have the same targets to be compared, but only one has {odd}."
        )
    return one.labels(), other.labels()
