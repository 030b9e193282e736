"""Targets: what a property column means, the table of them with its missing values, and their standardisation."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taskgroup.datasets.units import parse_unit
from taskgroup.errors import TargetError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("regression", "classification")
TRANSFORMS = ("none", "log10", "signed_log")
# Networks predict in float32: what ran out of its range counts as the nearest value that has a logarithm there.
LEAST_PREDICTION = float(np.finfo(np.float32).tiny)
GREATEST_PREDICTION = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Target:
    """One property.

    Args:
        name: letters, digits, ``_``, ``-`` and ``.``: it becomes a metric name, a graph node, a column.
        kind: ``regression``, or ``classification`` with labels 0 and 1.
        unit: e.g. ``"GPa"``, ``"eV/atom"``; ``""`` is dimensionless.
        transform: what is learnt instead of the value: ``none``, ``log10`` (values > 0) or
            ``signed_log``, sign(x) log10(1 + abs(x)), for long tails of both signs.
        description: one line for people.

    Raises TargetError where a field breaks its rule.
    """

    name: str
    kind: Literal["regression", "classification"] = "regression"
    unit: str = ""
    transform: Literal["none", "log10", "signed_log"] = "none"
    description: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.\-]*", self.name):
            raise TargetError(
                f"target '{self.name}': a name is made of letters, digits, '_', '-' and '.'"
            )
        for field, choices in (("kind", KINDS), ("transform", TRANSFORMS)):
            if getattr(self, field) not in choices:
                found = getattr(self, field)
                raise TargetError(
                    f"target '{self.name}': unknown {field} '{found}'; {did_you_mean(found, choices)}"
                )
        if self.kind == "classification" and self.transform != "none":
            raise TargetError(
                f"target '{self.name}': a classification target takes no transform, got '{self.transform}'"
            )
        object.__setattr__(self, "unit", parse_unit(self.unit, f"target '{self.name}'"))

    def to_dict(self) -> dict[str, str]:
        """Its fields, for JSON; ``Target(**fields)`` reads them back."""
        return asdict(self)

    def forward(self, values: ArrayLike) -> NDArray[np.float64]:
        """Natural values -> the space of the transform (NaN stays NaN)."""
        x = np.asarray(values, dtype=np.float64)
        if self.transform == "log10":
            if np.any(x <= 0):
                raise TargetError(
                    f"target '{self.name}': log10 needs values > 0, got {x[x <= 0].flat[0]:g}"
                )
            return np.log10(x)
        return np.sign(x) * np.log10(1 + np.abs(x)) if self.transform == "signed_log" else x

    def forward_predictions(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return predicted natural values in the space of the transform; those of ``log10`` targets never fail.

        A prediction that is 0, negative or infinite is taken for the least or the greatest number of float32.
        """
        x = np.asarray(values, dtype=np.float64)
        if self.transform == "log10":
            x = np.clip(x, LEAST_PREDICTION, GREATEST_PREDICTION)
        return self.forward(x)

    def inverse(self, values: ArrayLike) -> NDArray[np.float64]:
        """The space of the transform -> natural values."""
        y = np.asarray(values, dtype=np.float64)
        if self.transform == "log10":
            return 10**y
        return np.sign(y) * (10 ** np.abs(y) - 1) if self.transform == "signed_log" else y


@dataclass(frozen=True, eq=False)
class TargetTable:
    """Rows of labels in natural units.

    Args:
        specs: the T targets.
        ids: one unique id a row.
        values: float64 [rows, T]; NaN is a missing label. Read-only.

    Raises TargetError on shapes that disagree, repeated names or ids, infinite values, class labels other than 0 and 1,
    and values <= 0 of a ``log10`` target; ``check`` asks for more.
    """

    specs: tuple[Target, ...]
    ids: tuple[str, ...]
    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float64)
        values.setflags(write=False)
        object.__setattr__(self, "specs", tuple(self.specs))
        object.__setattr__(self, "ids", tuple(map(str, self.ids)))
        object.__setattr__(self, "values", values)
        if values.shape != (len(self.ids), len(self.specs)):
            raise TargetError(
                f"target table: values {values.shape} for {len(self.ids)} ids and {len(self.specs)} targets"
            )
        _refuse_repeats("target name", self.names)
        _refuse_repeats("id", self.ids)
        for spec, column in zip(self.specs, values.T, strict=True):
            self._refuse(spec, np.isinf(column), "values are finite")
            if spec.kind == "classification":
                self._refuse(
                    spec,
                    ~np.isnan(column) & ~np.isin(column, (0, 1)),
                    "classes are labelled 0 and 1",
                )
            if spec.transform == "log10":
                self._refuse(spec, column <= 0, "log10 needs values > 0")

    def _refuse(self, spec: Target, bad: NDArray[np.bool_], rule: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            value = self.values[row, self.names.index(spec.name)]
            raise TargetError(f"target '{spec.name}', row '{self.ids[row]}': {rule}, got {value:g}")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the targets, in order."""
        return tuple(spec.name for spec in self.specs)

    def spec(self, name: str) -> Target:
        """The target called ``name``; TargetError with the nearest name where there is none."""
        return self.specs[self._index(name)]

    def column(self, name: str) -> NDArray[np.float64]:
        """The values [rows] of one target."""
        return self.values[:, self._index(name)]

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise TargetError(f"unknown target '{name}'; {did_you_mean(name, self.names)}")
        return self.names.index(name)

    def select(self, names: Iterable[str]) -> "TargetTable":
        """The same rows with these targets, in this order."""
        columns = [self._index(name) for name in names]
        return TargetTable(tuple(self.specs[c] for c in columns), self.ids, self.values[:, columns])

    def rows(self, index: ArrayLike) -> "TargetTable":
        """These rows (integers or a mask), in this order, with all targets."""
        chosen = row_numbers(index, len(self))
        return TargetTable(self.specs, tuple(self.ids[i] for i in chosen), self.values[chosen])

    def frame(self) -> "pd.DataFrame":
        """As a DataFrame indexed by id, one column a target; units in ``.attrs["units"]``."""
        import pandas as pd

        frame = pd.DataFrame(
            self.values, index=pd.Index(self.ids, name="id"), columns=list(self.names)
        )
        frame.attrs["units"] = {spec.name: spec.unit for spec in self.specs}
        return frame

    def problems(self) -> list[str]:
        """One line for each target that cannot be learnt, or is another one again.

        That is: no label at all, one value only (so also a class without the other), or equal to, or an exactly
        linear function of, an earlier target. A published study once joined a column with its own copy unnoticed.
        """
        lines = []
        for i, spec in enumerate(self.specs):
            column = self.values[:, i]
            known = column[~np.isnan(column)]
            if known.size == 0:
                lines.append(
                    f"target '{spec.name}': every one of its {len(self)} labels is missing"
                )
            elif np.all(known == known[0]):
                lines.append(
                    f"target '{spec.name}': constant, all {known.size} labels are {known[0]:g}"
                )
            else:
                twins = ((self.names[j], _same(self.values[:, j], column)) for j in range(i))
                lines += [
                    f"target '{spec.name}': {how} target '{twin}'" for twin, how in twins if how
                ]
        return lines

    def check(self) -> None:
        """Raise TargetError with the first of ``problems``, if there is one."""
        for line in self.problems():
            raise TargetError(f"{line}; leave it out of the targets")


def row_numbers(index: ArrayLike, n: int) -> NDArray[np.int64]:
    """Row numbers out of integers (negative ones count from the end) or a mask over ``n`` rows."""
    chosen = np.asarray(index)
    return np.arange(n)[chosen if chosen.size else chosen.astype(np.int64)]


def _refuse_repeats(what: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise TargetError(f"target table: {what} '{name}' stands there twice")
        seen.add(name)


def _same(a: NDArray[np.float64], b: NDArray[np.float64]) -> str:
    """'equal to' or 'an exact linear function of', or '' where two columns are neither.

    Judged on the rows that have both labels, where these are at least three and half of the sparser column's:
    two points always lie on a line.
    """
    both = ~np.isnan(a) & ~np.isnan(b)
    n = int(both.sum())
    if n < 3 or 2 * n < min((~np.isnan(a)).sum(), (~np.isnan(b)).sum()):
        return ""
    x, y = a[both], b[both]
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return ""
    if np.array_equal(x, y):
        return "equal to"
    x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    return "an exact linear function of" if np.abs(y - np.sign(x @ y) * x).max() < 1e-9 else ""


@dataclass(frozen=True, eq=False)
class TargetScaler:
    """Natural values <-> what a network learns: transformed, mean 0 and variance 1 on the rows it was fitted on.

    ``mean`` and ``std`` are arrays [T] in the space of each target's transform; 0 and 1 for classification, which
    passes through as 0/1.
    """

    specs: tuple[Target, ...]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @classmethod
    def fit(cls, specs: Sequence[Target], values: ArrayLike) -> "TargetScaler":
        """Fit on training rows: ``values`` [rows, T] in natural units, NaN missing.

        A target with one distinct label gets std 1. Raises TargetError for a target without a label there.
        """
        table = np.asarray(values, dtype=np.float64)
        mean, std = np.zeros(len(specs)), np.ones(len(specs))
        for i, spec in enumerate(specs):
            known = table[~np.isnan(table[:, i]), i]
            if known.size == 0:
                raise TargetError(
                    f"target '{spec.name}': no label among the {len(table)} training rows"
                )
            if spec.kind == "regression":
                learnt = spec.forward(known)
                mean[i] = learnt.mean()
                std[i] = learnt.std() if np.ptp(known) > 0 else 1.0
        return cls(tuple(specs), mean, std)

    def encode(self, values: ArrayLike) -> NDArray[np.float64]:
        """Natural values [rows, T] -> z [rows, T]."""
        table = np.asarray(values, dtype=np.float64)
        learnt = np.stack(
            [spec.forward(table[..., i]) for i, spec in enumerate(self.specs)], axis=-1
        )
        return (learnt - self.mean) / self.std

    def decode(self, z: ArrayLike) -> NDArray[np.float64]:
        """z [rows, T] -> natural values [rows, T]."""
        learnt = np.asarray(z, dtype=np.float64) * self.std + self.mean
        return np.stack(
            [spec.inverse(learnt[..., i]) for i, spec in enumerate(self.specs)], axis=-1
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON; ``from_dict`` reads it back bit for bit."""
        return {
            "targets": [s.to_dict() for s in self.specs],
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "TargetScaler":
        """The inverse of ``to_dict``."""
        specs = tuple(Target(**fields) for fields in data["targets"])
        return cls(
            specs, np.array(data["mean"], dtype=np.float64), np.array(data["std"], dtype=np.float64)
        )


def specs_json(specs: Sequence[Target]) -> str:
    """What decides a target's values, as canonical JSON for hashes: all fields but the description."""
    fields = [{k: v for k, v in spec.to_dict().items() if k != "description"} for spec in specs]
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))
