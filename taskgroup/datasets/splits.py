"""Splits that do not leak: rows of one chemical system (or formula) never stand on both sides.

- A row's fold depends on its group's key, the sizes of the groups and the seed; not on the order of the rows.
- Groups are dealt largest first, each to the emptiest fold, so folds are as even as the groups allow.
- Fold t is test, fold v is validation, the rest is training; the ids hash what is where, and enter every result.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskgroup.errors import ConfigError

SPLIT_BY = ("chemical_system", "formula", "random")


@dataclass(frozen=True, eq=False)
class Split:
    """Row indices (int64, sorted) of training, validation and test."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]

    @cached_property
    def id(self) -> str:
        """12 hex digits: equal exactly where the three sets of rows are equal."""
        rows = {
            "train": self.train.tolist(),
            "validation": self.validation.tolist(),
            "test": self.test.tolist(),
        }
        return _digest(rows)

    def with_train_share(self, share: float) -> "Split":
        """Return the same split with so large a share of its training rows, drawn at random.

        A smaller share is a part of a larger one. Raises ConfigError: the share is not in (0, 1], or leaves fewer than
        two rows.
        """
        count = round(share * len(self.train))
        if not 0 < share <= 1 or count < 2:
            raise ConfigError(
                f"train_share: must be in (0, 1] and leave 2 rows of {len(self.train)}, got {share}"
            )
        shuffled = np.random.default_rng(0).permutation(self.train)
        return Split(np.sort(shuffled[:count]), self.validation, self.test)


@dataclass(frozen=True, eq=False)
class Splits:
    """k folds of a dataset's rows.

    Args:
        fold_of_row: int [rows], fold numbers from 0.
        by: what is never parted: ``chemical_system``, ``formula``, or ``random`` (single rows).
        seed: the seed they were dealt with.
    """

    fold_of_row: NDArray[np.int64]
    by: str
    seed: int

    def __post_init__(self) -> None:
        folds = np.array(self.fold_of_row, dtype=np.int64)
        folds.setflags(write=False)
        object.__setattr__(self, "fold_of_row", folds)

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return int(self.fold_of_row.max()) + 1

    @cached_property
    def id(self) -> str:
        """12 hex digits of the assignment: equal splits have equal ids."""
        return _digest(self.to_dict())

    def split(self, test_fold: int = 0, validation_fold: int = 1) -> Split:
        """Take one fold to test, one to validate, the rest to train.

        Raises ConfigError on folds that are not there, or equal.
        """
        self._check_fold("test_fold", test_fold)
        self._check_fold("validation_fold", validation_fold)
        if test_fold == validation_fold:
            raise ConfigError(f"validation_fold: must differ from test_fold, both are {test_fold}")
        is_test = self.fold_of_row == test_fold
        is_validation = self.fold_of_row == validation_fold
        is_train = ~is_test & ~is_validation
        return Split(
            train=np.flatnonzero(is_train),
            validation=np.flatnonzero(is_validation),
            test=np.flatnonzero(is_test),
        )

    def _check_fold(self, name: str, fold: int) -> None:
        if not 0 <= fold < self.n_folds:
            raise ConfigError(f"{name}: must be in 0..{self.n_folds - 1}, got {fold}")

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary for JSON, by row number: good beside the dataset hash."""
        return {"by": self.by, "seed": self.seed, "fold_of_row": self.fold_of_row.tolist()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Splits":
        """Read what ``to_dict`` gave."""
        return cls(np.array(data["fold_of_row"]), data["by"], data["seed"])

    def to_json(self, ids: Sequence[str]) -> str:
        """Return a split file by row id, which outlives the order of rows: to register a split before a study."""
        if len(ids) != len(self.fold_of_row):
            raise ConfigError(f"split file: {len(ids)} ids for {len(self.fold_of_row)} rows")
        fold_by_id = dict(zip(ids, self.fold_of_row.tolist(), strict=True))
        content = {"by": self.by, "seed": self.seed, "folds": dict(sorted(fold_by_id.items()))}
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, ids: Sequence[str]) -> "Splits":
        """Read the splits of a split file for the rows ``ids``, in their order.

        Raises ConfigError where a row has no fold in the file; ids of the file that are no rows are no error.
        """
        data = json.loads(text)
        fold_by_id = data["folds"]
        missing = [row_id for row_id in ids if row_id not in fold_by_id]
        if missing:
            raise ConfigError(
                f"split file: no fold for {len(missing)} rows, the first is '{missing[0]}'"
            )
        folds = np.array([fold_by_id[row_id] for row_id in ids])
        return cls(folds, data["by"], data["seed"])


def make_splits(keys: Sequence[str], by: str, folds: int = 5, seed: int = 0) -> Splits:
    """Deal the groups of rows with equal ``keys`` to ``folds`` folds.

    Raises ConfigError for fewer than three folds (training, validation and test) or fewer groups than folds.
    """
    sizes = Counter(keys)
    if folds < 3:
        raise ConfigError(
            f"folds: at least 3 are needed for training, validation and test, got {folds}"
        )
    if len(sizes) < folds:
        raise ConfigError(f"folds: {folds} folds need as many groups by {by}, got {len(sizes)}")

    def largest_first(key: str) -> tuple[int, bytes]:
        # the hash orders groups of equal size by the seed
        return -sizes[key], hashlib.sha256(f"{seed}\0{key}".encode()).digest()

    load = [0] * folds
    fold_by_key: dict[str, int] = {}
    for key in sorted(sizes, key=largest_first):
        emptiest = load.index(min(load))
        fold_by_key[key] = emptiest
        load[emptiest] += sizes[key]
    fold_of_row = np.array([fold_by_key[key] for key in keys])
    return Splits(fold_of_row, by, seed)


def _digest(data: dict[str, Any]) -> str:
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
