"""Targets: what a property column means, and the table of labels with its missing values."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taskgroup.datasets.units import parse_unit
from taskgroup.errors import TargetError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from taskgroup.datasets.tables.asked import TargetsAsked

KINDS = ("regression", "classification")
TRANSFORMS = ("none", "log10", "signed_log")
# What the labels of an extensive target count: they are learnt per atom.
PER = ("", "cell", "formula_unit")
# Networks predict in float32: what ran out of its range counts as the nearest value that has a logarithm there.
LEAST_PREDICTION = float(np.finfo(np.float32).tiny)
GREATEST_PREDICTION = float(np.finfo(np.float32).max)

# Two points always lie on a line, so columns are compared on at least three common labels.
_FEWEST_COMMON_LABELS = 3
# Standardised columns that differ by less hold the same numbers, but for rounding.
_LINEAR_TOLERANCE = 1e-9


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
        per: ``cell`` (the primitive cell) or ``formula_unit`` where values grow with the amount of matter, such as a
            volume in Å^3: they are learnt per atom and given back as they are declared. ``""``: they do not grow, or
            are per atom already.

    Raises TargetError where a field breaks its rule.
    """

    name: str
    kind: Literal["regression", "classification"] = "regression"
    unit: str = ""
    transform: Literal["none", "log10", "signed_log"] = "none"
    description: str = ""
    per: Literal["", "cell", "formula_unit"] = ""

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise TargetError(
                f"target '{self.name}': a name is made of letters, digits, '_', '-' and '.'"
            )
        self._check_choice("kind", KINDS)
        self._check_choice("transform", TRANSFORMS)
        self._check_choice("per", PER)
        if self.kind == "classification" and self.per:
            raise TargetError(
                f"target '{self.name}': a classification target is not extensive, got per '{self.per}'"
            )
        if self.kind == "classification" and self.transform != "none":
            raise TargetError(
                f"target '{self.name}': a classification target takes no transform, "
                f"got '{self.transform}'"
            )
        object.__setattr__(self, "unit", parse_unit(self.unit, f"target '{self.name}'"))

    def _check_choice(self, field: str, choices: Sequence[str]) -> None:
        value = getattr(self, field)
        if value not in choices:
            raise TargetError(
                f"target '{self.name}': unknown {field} '{value}'; {did_you_mean(value, choices)}"
            )

    @property
    def is_extensive(self) -> bool:
        """Whether values grow with the amount of matter, see ``taskgroup.datasets.extensive``."""
        return bool(self.per)

    def to_dict(self) -> dict[str, str]:
        """Return the fields for JSON; ``Target(**fields)`` reads them back."""
        fields = asdict(self)
        # Most targets are not extensive; without the field their hashes stay those of older stores.
        if not self.per:
            del fields["per"]
        return fields

    def forward(self, values: ArrayLike) -> NDArray[np.float64]:
        """Transform natural values into what is learnt; NaN stays NaN."""
        x = np.asarray(values, dtype=np.float64)
        if self.transform == "log10":
            if np.any(x <= 0):
                raise TargetError(
                    f"target '{self.name}': log10 needs values > 0, got {x[x <= 0].flat[0]:g}"
                )
            return np.log10(x)
        if self.transform == "signed_log":
            return np.sign(x) * np.log10(1 + np.abs(x))
        return x

    def forward_predictions(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return predicted natural values in the space of the transform; those of ``log10`` targets never fail.

        A prediction that is 0, negative or infinite is taken for the least or the greatest number of float32.
        """
        x = np.asarray(values, dtype=np.float64)
        if self.transform == "log10":
            x = np.clip(x, LEAST_PREDICTION, GREATEST_PREDICTION)
        return self.forward(x)

    def inverse(self, values: ArrayLike) -> NDArray[np.float64]:
        """Transform what is learnt back into natural values."""
        y = np.asarray(values, dtype=np.float64)
        if self.transform == "log10":
            return 10**y
        if self.transform == "signed_log":
            return np.sign(y) * (10 ** np.abs(y) - 1)
        return y


def is_name(text: str) -> bool:
    """Tell if a text may be the name of a target."""
    return re.fullmatch(r"\w[\w.\-]*", text) is not None


@dataclass(frozen=True, eq=False)
class TargetTable:
    """Rows of labels in natural units.

    Args:
        specs: the T targets.
        ids: one unique id per row.
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
                f"target table: values {values.shape} for {len(self.ids)} ids "
                f"and {len(self.specs)} targets"
            )
        _refuse_repeats("target name", self.names)
        _refuse_repeats("id", self.ids)
        for spec, column in zip(self.specs, values.T, strict=True):
            self._check_column(spec, column)

    def _check_column(self, spec: Target, column: NDArray[np.float64]) -> None:
        for rule, broken in broken_rules(spec, column):
            row = int(np.argmax(broken))
            raise TargetError(
                f"target '{spec.name}', row '{self.ids[row]}': {rule}, got {column[row]:g}"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the targets, in order."""
        return tuple(spec.name for spec in self.specs)

    def spec(self, name: str) -> Target:
        """Return the target called ``name``. Raises TargetError, with the nearest name: there is none."""
        return self.specs[self._index(name)]

    def column(self, name: str) -> NDArray[np.float64]:
        """Return the values [rows] of one target."""
        return self.values[:, self._index(name)]

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise TargetError(f"unknown target '{name}'; {did_you_mean(name, self.names)}")
        return self.names.index(name)

    def select(self, names: Iterable[str]) -> "TargetTable":
        """Return the same rows with these targets, in this order."""
        columns = [self._index(name) for name in names]
        specs = tuple(self.specs[column] for column in columns)
        return TargetTable(specs, self.ids, self.values[:, columns])

    def rows(self, index: ArrayLike) -> "TargetTable":
        """Return these rows (integers or a mask), in this order, with all targets."""
        numbers = row_numbers(index, len(self))
        ids = tuple(self.ids[row] for row in numbers)
        return TargetTable(self.specs, ids, self.values[numbers])

    def frame(self) -> "pd.DataFrame":
        """Return a DataFrame indexed by id, one column per target; units stand in ``.attrs["units"]``.

        ``.attrs["targets"]`` has all fields of the targets, which ``from_frame`` reads back.
        """
        import pandas as pd

        index = pd.Index(self.ids, name="id")
        frame = pd.DataFrame(self.values, index=index, columns=list(self.names))
        frame.attrs["units"] = {spec.name: spec.unit for spec in self.specs}
        frame.attrs["targets"] = {spec.name: _stated(spec) for spec in self.specs}
        return frame

    @classmethod
    def from_frame(
        cls,
        frame: "pd.DataFrame",
        targets: "TargetsAsked" = None,
        id_column: str | None = None,
    ) -> "TargetTable":
        """Return the labels in a DataFrame, one column per property; see ``taskgroup.datasets.read_properties``.

        >>> import pandas as pd
        >>> frame = pd.DataFrame({"gap (eV)": [1.1, None], "metal": [False, True]}, index=["Si", "Cu"])
        >>> [(spec.name, spec.unit, spec.kind) for spec in TargetTable.from_frame(frame).specs]
        [('gap', 'eV', 'regression'), ('metal', '', 'classification')]
        """
        # Imported here, since tables are written in terms of targets.
        from taskgroup.datasets.tables.properties import read_properties

        return read_properties(frame, id_column=id_column, targets=targets).table

    def _repr_html_(self) -> str:
        """Return the table as notebooks show it: one row per target, with its labels counted."""
        return self.summary()._repr_html_()

    def summary(self) -> "pd.DataFrame":
        """Return one row per target: its unit, kind and transform, and count, least, median and greatest label."""
        import pandas as pd

        rows = []
        for spec, column in zip(self.specs, self.values.T, strict=True):
            labels = column[~np.isnan(column)]
            row = {"target": spec.name, "kind": spec.kind, "unit": spec.unit}
            row |= {"transform": spec.transform, "labels": labels.size}
            if labels.size:
                row |= {"min": labels.min(), "median": np.median(labels), "max": labels.max()}
            rows.append(row)
        return pd.DataFrame(rows).set_index("target")

    def problems(self) -> list[str]:
        """Return one line for each target that cannot be learnt, or repeats another one.

        That is: no label at all, one value only (so also a class without the other), or equal to, or an exactly
        linear function of, an earlier target. A published study once joined a column with its own copy unnoticed.
        """
        lines = []
        for number, spec in enumerate(self.specs):
            column = self.values[:, number]
            labels = column[~np.isnan(column)]
            if labels.size == 0:
                problem = f"every one of its {len(self)} labels is missing"
                lines.append(f"target '{spec.name}': {problem}")
            elif np.all(labels == labels[0]):
                problem = f"constant, all {labels.size} labels are {labels[0]:g}"
                lines.append(f"target '{spec.name}': {problem}")
            else:
                lines += self._repetitions(number)
        return lines

    def _repetitions(self, number: int) -> list[str]:
        """Return one line for each earlier target that this one repeats."""
        lines = []
        for earlier in range(number):
            relation = _exact_relation(self.values[:, earlier], self.values[:, number])
            if relation:
                name, other = self.names[number], self.names[earlier]
                lines.append(f"target '{name}': {relation} target '{other}'")
        return lines

    def check(self) -> None:
        """Raise TargetError with the first of ``problems``, if there is one."""
        for line in self.problems():
            raise TargetError(f"{line}; leave it out of the targets")


def _stated(spec: Target) -> dict[str, str]:
    fields = spec.to_dict()
    del fields["name"]
    return fields


def broken_rules(spec: Target, column: NDArray[np.float64]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return each rule that labels of this target break, with a mask of the rows that break it."""
    checks = [("values are finite", np.isinf(column))]
    if spec.kind == "classification":
        neither = ~np.isnan(column) & ~np.isin(column, (0, 1))
        checks.append(("classes are labelled 0 and 1", neither))
    if spec.transform == "log10":
        checks.append(("log10 needs values > 0", column <= 0))
    return [(rule, broken) for rule, broken in checks if broken.any()]


def row_numbers(index: ArrayLike, n: int) -> NDArray[np.int64]:
    """Return row numbers out of integers (negative ones count from the end) or a mask over ``n`` rows."""
    asked = np.asarray(index)
    # numpy takes an empty list for floats, which index nothing
    if not asked.size:
        asked = asked.astype(np.int64)
    return np.arange(n)[asked]


def _refuse_repeats(what: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise TargetError(f"target table: {what} '{name}' stands there twice")
        seen.add(name)


def _exact_relation(a: NDArray[np.float64], b: NDArray[np.float64]) -> str:
    """Return 'equal to' or 'an exact linear function of', or '' where two columns are neither.

    Judged on the rows that have both labels, where these are at least three and half of the sparser column's.
    """
    has_a, has_b = ~np.isnan(a), ~np.isnan(b)
    common = has_a & has_b
    n_common = int(common.sum())
    if n_common < _FEWEST_COMMON_LABELS or 2 * n_common < min(has_a.sum(), has_b.sum()):
        return ""
    x, y = a[common], b[common]
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return ""
    if np.array_equal(x, y):
        return "equal to"
    x = (x - x.mean()) / x.std()
    y = (y - y.mean()) / y.std()
    direction = np.sign(x @ y)
    is_linear = np.abs(y - direction * x).max() < _LINEAR_TOLERANCE
    return "an exact linear function of" if is_linear else ""


def specs_json(specs: Sequence[Target]) -> str:
    """Return what decides the values of targets as canonical JSON for hashes: all fields but the description."""
    fields = [spec.to_dict() for spec in specs]
    for spec_fields in fields:
        del spec_fields["description"]
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))
