"""The value of all affinities: one number for each ordered pair of targets, helper -> affected target."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from taskgroup.errors import GroupingError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

_RULES = {"mean": lambda a, b: (a + b) / 2.0, "min": np.minimum, "max": np.maximum}


@dataclass(frozen=True, eq=False)
class Affinity:
    """Strength by which learning (or knowing) one target should help another.

    - names: the T targets.
    - values: float [T, T], row = helper, column = affected target; signed; NaN where it could not be computed.
    - p: float [T, T], p-value of "no relation"; NaN throughout for measures without a test, 1 where values is NaN.
    - n: int [T, T], how many materials each number rests on; 0 for measures that do not come from pairs of labels.
    - measure: what was measured.
    - spread: float [T, T], standard deviation of the number between checkpoints of a training run, or between seeds;
      NaN throughout where it was not measured.

    Affinities from labels are symmetric, those measured while training are directed. Raises GroupingError where shapes
    or names do not fit.
    """

    names: tuple[str, ...]
    values: np.ndarray
    p: np.ndarray = field(default=None)  # type: ignore[assignment]  # None: no test
    n: np.ndarray = field(default=None)  # type: ignore[assignment]  # None: not from pairs of labels
    measure: str = "unnamed"
    spread: np.ndarray = field(default=None)  # type: ignore[assignment]  # None: not measured

    def __post_init__(self) -> None:
        names = tuple(self.names)
        shape = (len(names), len(names))
        if len(set(names)) < len(names):
            raise GroupingError(f"Names of an affinity must be distinct, but got {list(names)}.")
        arrays = {
            "values": np.array(self.values, dtype=float),
            "p": _array_or(self.p, np.full(shape, np.nan)),
            "n": _array_or(self.n, np.zeros(shape, dtype=int)),
            "spread": _array_or(self.spread, np.full(shape, np.nan)),
        }
        for name, array in arrays.items():
            if array.shape != shape:
                raise GroupingError(
                    f"{name} of an affinity of {len(names)} targets must be {shape}, got {array.shape}."
                )
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "names", names)

    def value(self, helper: str, target: str) -> float:
        """Return the affinity of helper for target."""
        return float(self.values[self._index(helper), self._index(target)])

    def select(self, names: Sequence[str]) -> "Affinity":
        """Return the numbers of some of the targets, in the given order."""
        places = [self._index(name) for name in names]
        at = np.ix_(places, places)
        return Affinity(
            tuple(names), self.values[at], self.p[at], self.n[at], self.measure, self.spread[at]
        )

    def symmetrised(self, rule: str = "mean") -> "Affinity":
        """Return both directions as one number: their "mean", "min" or "max".

        Of two p-values or spreads the larger is kept.

        Where only one direction is known, the pair is unknown (NaN).
        """
        if rule not in _RULES:
            raise GroupingError(
                f"Unknown rule '{rule}' to make an affinity symmetric; {did_you_mean(rule, _RULES)}"
            )
        values = _RULES[rule](self.values, self.values.T)
        p = np.maximum(self.p, self.p.T)
        n = np.minimum(self.n, self.n.T)
        spread = np.maximum(self.spread, self.spread.T)
        return Affinity(self.names, values, p, n, self.measure, spread)

    def frame(self) -> "pd.DataFrame":
        """Return the values as a table: one row per helper, one column per affected target."""
        import pandas as pd

        index = pd.Index(self.names, name="helper")
        return pd.DataFrame(self.values, index=index, columns=pd.Index(self.names, name="target"))

    def pairs(self) -> "pd.DataFrame":
        """Return one row per ordered pair of targets: ``helper``, ``target``, the measure, ``n`` and ``p``."""
        import pandas as pd

        off_diagonal = ~np.eye(len(self.names), dtype=bool)
        helpers, targets = np.nonzero(off_diagonal)
        names = np.array(self.names, dtype=object)
        return pd.DataFrame(
            {
                "helper": names[helpers],
                "target": names[targets],
                self.measure: self.values[off_diagonal],
                "n": self.n[off_diagonal],
                "p": self.p[off_diagonal],
            }
        )

    def to_json(self) -> str:
        """Return JSON in which NaN is null."""
        body = {"measure": self.measure, "names": list(self.names), "values": _nulls(self.values)}
        body |= {"p": _nulls(self.p), "n": self.n.tolist(), "spread": _nulls(self.spread)}
        return json.dumps(body, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Affinity":
        """Return the affinity that `to_json` wrote; GroupingError says what is wrong with other text."""
        try:
            body = json.loads(text)
            # numpy reads None as NaN.
            values = np.array(body["values"], dtype=float)
            p = np.array(body["p"], dtype=float)
            n = np.array(body["n"], dtype=int)
            spread = None
            # Affinities written by the first versions have no spread.
            if body.get("spread") is not None:
                spread = np.array(body["spread"], dtype=float)
            return cls(tuple(body["names"]), values, p, n, body["measure"], spread)
        except (KeyError, TypeError, ValueError) as error:
            raise GroupingError(
                f"An affinity in JSON needs measure, names, values, p and n, but: {error}."
            ) from None

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise GroupingError(
                f"The affinity has no target '{name}'; {did_you_mean(name, self.names)}"
            )
        return self.names.index(name)


def _array_or(given: np.ndarray | None, default: np.ndarray) -> np.ndarray:
    """Return a copy of what was given as an array of the default's type, or the default."""
    if given is None:
        return default
    return np.array(given, dtype=default.dtype)


def _nulls(values: np.ndarray) -> list[list[float | None]]:
    return [[None if math.isnan(value) else value for value in row] for row in values.tolist()]
