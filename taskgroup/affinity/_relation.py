"""What a measure answers for one pair of targets."""

from typing import NamedTuple


class Relation(NamedTuple):
    """Strength of the relation between two targets and the p-value of "there is none".

    value is NaN (and p is 1) where it is not defined: a constant column, or fewer than `LEAST_PAIRS` complete pairs.
    """

    value: float
    p: float


LEAST_PAIRS = 3
UNDEFINED = Relation(float("nan"), 1.0)
