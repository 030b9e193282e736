"""Notes on what is odd about a dataset: sentinels, impossible values, mistaken units, duplicates, leaks.

A note never changes anything. Each says which target or rows, what was found, and what to do.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from taskgroup.datasets.dataset import Dataset
from taskgroup.datasets.target import Target
from taskgroup.densities.elements import is_element

# 999, -9999.0, 99999 and so on, and the large numbers that programs write in place of nothing
_NINES = re.compile(r"-?9{3,}(?:\.0*|\.9+)?")
_HUGE = 1e20
# Sentinels stand far outside of what else the column holds.
_FAR_OUTSIDE = 5.0
# Positive values over two decades: a squared error sees the largest ones only.
_DECADES = 2.0
# Words in the names of targets that cannot be negative, and of the tokens of a gap or a volume
_NOT_NEGATIVE = frozenset(
    {"volume", "vol", "density", "mass", "gap", "bandgap", "bandwidth", "modulus", "refractive", "dielectric", "debye"}
)  # fmt: skip
_LIMITS = {"poisson": (-1.0, 0.5), "probability": (0.0, 1.0)}
_VOLUME_SPELLINGS = ("Å^3", "Å³", "A^3", "ang^3", "angstrom^3", "Å^3/atom", "A^3/atom")
_DENSITY_SPELLINGS = ("g/cm^3", "g/cm3", "g/cc", "g/cm³")
# What a column may mean by mistake, as multiples of the crystal's own volume in Å^3 or mass density in g/cm^3.
_VOLUME_UNITS = {"nm^3": 1e-3, "bohr^3": 6.748334503, "m^3": 1e-30, "cm^3": 1e-24}
_DENSITY_UNITS = {"kg/m^3": 1e3, "u/Å^3": 1 / 1.66053906892, "kg/cm^3": 1e-3}
# g in 1e-24
_DALTON = 1.66053906892
# Tables come from other calculations than the densities: cells differ by some per cent.
_UNIT_TOLERANCE = 0.25
_FEWEST_ROWS = 5
# Densities compared with each other, at most; a larger dataset is sampled.
_MOST_COMPARED = 4000
# Quantiles of densities that differ by less, relative to their size, belong to the same crystal, strained or not.
_NEAR_EQUAL = 2e-3
_SHOWN = 4


def quality_notes(dataset: Dataset) -> list[str]:
    """Return notes on labels, units, duplicates and leaks of a dataset; the most of a second for 4,000 rows."""
    return [*all_label_notes(dataset), *_row_notes(dataset)]


def all_label_notes(dataset: Dataset) -> list[str]:
    """Return notes on the labels of a dataset; no density is read for them."""
    notes = list(dataset.targets.problems())
    for spec in dataset.targets.specs:
        notes += label_notes(spec, dataset.targets.column(spec.name))
    notes += _unit_notes(dataset)
    return notes


def label_notes(spec: Target, values: NDArray[np.float64]) -> Iterator[str]:
    """Yield notes on the labels of one target: sentinels, impossible values, and a transform where one is due."""
    labels = values[~np.isnan(values)]
    if spec.kind == "classification" or labels.size < 2:
        return
    sentinels = _sentinels(labels)
    if sentinels:
        shown = ", ".join(f"{value:g}" for value in sentinels[:_SHOWN])
        count = int(np.isin(labels, sentinels).sum())
        yield (
            f"target '{spec.name}': {count} labels are {shown}, which looks like a word for missing: "
            "leave these cells empty"
        )
        labels = labels[~np.isin(labels, sentinels)]
    yield from _impossible(spec, labels)
    yield from _transform_note(spec, labels)


def _sentinels(labels: NDArray[np.float64]) -> list[float]:
    """Return values such as -999 that stand far outside of the others."""
    candidates = []
    for value in np.unique(labels):
        is_nines = _NINES.fullmatch(f"{value:g}") is not None
        if is_nines or abs(value) >= _HUGE:
            candidates.append(float(value))
    others = labels[~np.isin(labels, candidates)]
    if not candidates or others.size < 2:
        return []
    low, high = np.percentile(others, [1, 99])
    spread = max(high - low, abs(high), abs(low), 1e-12)
    return [
        value
        for value in candidates
        if value < others.min() - _FAR_OUTSIDE * spread
        or value > others.max() + _FAR_OUTSIDE * spread
    ]


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z]+", name.lower()))


def _impossible(spec: Target, labels: NDArray[np.float64]) -> Iterator[str]:
    words = _words(spec.name)
    n_negative = int((labels < 0).sum())
    if words & _NOT_NEGATIVE and "energy" not in words and n_negative:
        yield (
            f"target '{spec.name}': {n_negative} labels are negative (least {labels.min():g}), "
            "which this property cannot be: check them"
        )
    for word in words & _LIMITS.keys():
        low, high = _LIMITS[word]
        n_outside = int(((labels < low) | (labels > high)).sum())
        if n_outside:
            yield f"target '{spec.name}': {n_outside} labels lie outside {low:g}..{high:g}: check them"


def _transform_note(spec: Target, labels: NDArray[np.float64]) -> Iterator[str]:
    """Yield the transform to take where values run over decades."""
    if spec.transform != "none" or labels.size < _FEWEST_ROWS:
        return
    if labels.min() > 0:
        decades = np.log10(labels.max() / labels.min())
        if decades >= _DECADES and _evens_out(labels, np.log10(labels)):
            yield (
                f"target '{spec.name}': positive values from {labels.min():.3g} to {labels.max():.3g}, "
                f"{decades:.1f} decades: take transform log10, "
                "else errors of the largest decide and predictions may be negative"
            )
        return
    sizes = np.abs(labels[labels != 0])
    if sizes.size < _FEWEST_ROWS:
        return
    typical, tail = np.percentile(sizes, [50, 99])
    learnt = np.sign(labels) * np.log10(1 + np.abs(labels))
    if tail / typical >= 10 ** (_DECADES / 2) and _evens_out(labels, learnt):
        yield (
            f"target '{spec.name}': sizes from {typical:.3g} (half of them) to {tail:.3g} and both signs "
            "or zeros: take transform signed_log"
        )


def _evens_out(labels: NDArray[np.float64], learnt: NDArray[np.float64]) -> bool:
    """Tell if a transform makes the labels less skewed: a moment near zero is noise, not a decade."""
    return abs(_skewness(learnt)) < abs(_skewness(labels))


def _skewness(values: NDArray[np.float64]) -> float:
    deviations = values - values.mean()
    width = deviations.std()
    return float((deviations**3).mean() / width**3) if width > 0 else 0.0


# -- units -------------------------------------------------------------------------------------------------------------


def _unit_notes(dataset: Dataset) -> Iterator[str]:
    """Yield a note for each column of volumes or mass densities that the crystals themselves contradict."""
    volumes = np.abs(np.linalg.det(dataset.lattices))
    masses = np.array([_mass(symbols) for symbols in dataset.species])
    atoms = np.array([max(1, len(symbols)) for symbols in dataset.species])
    for spec in dataset.targets.specs:
        words = _words(spec.name)
        if spec.unit in _VOLUME_SPELLINGS or (not spec.unit and words & {"volume", "vol"}):
            per_atom = spec.unit.endswith("/atom") or "atom" in words
            known = volumes / atoms if per_atom else volumes
            yield from _unit_note(dataset, spec, known, "Å^3", _VOLUME_UNITS)
        if spec.unit in _DENSITY_SPELLINGS or (not spec.unit and words == {"density"}):
            yield from _unit_note(dataset, spec, masses / volumes, "g/cm^3", _DENSITY_UNITS)


def _mass(symbols: Sequence[str]) -> float:
    """Return the mass of atoms in grams times 1e24, so that over a volume in Å^3 it is a density in g/cm^3."""
    from pymatgen.core import Element

    # datasets made in memory may name their atoms as they like
    if not all(map(is_element, symbols)):
        return 0.0
    return sum(float(Element(symbol).atomic_mass) for symbol in symbols) * _DALTON


def _unit_note(
    dataset: Dataset,
    spec: Target,
    known: NDArray[np.float64],
    unit: str,
    factors: Mapping[str, float],
) -> Iterator[str]:
    """Yield a note where labels are a multiple of what the crystals have, as another unit would make them."""
    values = dataset.targets.column(spec.name)
    has_label = ~np.isnan(values) & (values > 0) & (known > 0)
    if has_label.sum() < _FEWEST_ROWS:
        return
    ratio = float(np.median(values[has_label] / known[has_label]))
    for other, factor in factors.items():
        if abs(ratio / factor - 1) < _UNIT_TOLERANCE:
            yield (
                f"target '{spec.name}': its values are {ratio:.3g} times those of the crystals in {unit}, "
                f"so they look like {other}, not {spec.unit or unit}"
            )


# -- rows --------------------------------------------------------------------------------------------------------------


def _row_notes(dataset: Dataset) -> Iterator[str]:
    """Yield notes on equal and nearly equal crystals."""
    n_polymorphs = len(dataset) - len(set(dataset.formulas))
    if n_polymorphs:
        yield (
            f"{n_polymorphs} rows share their formula with an earlier row (polymorphs or repetitions): "
            "a split by random rows would leak, by formula or chemical system it does not"
        )
    yield from _repeated_densities(dataset)
    yield from _near_equal(dataset)


def _repeated_densities(dataset: Dataset) -> Iterator[str]:
    digests = dataset.density_digests
    if digests is None:
        digests = dataset.digest_densities()
    rows_by_crystal: dict[tuple, list[str]] = {}
    for row_id, digest, lattice in zip(dataset.ids, digests, dataset.lattices, strict=True):
        key = (digest, np.round(lattice, 6).tobytes())
        rows_by_crystal.setdefault(key, []).append(row_id)
    repeated = [rows for rows in rows_by_crystal.values() if len(rows) > 1]
    if repeated:
        shown = "; ".join(" = ".join(rows[:_SHOWN]) for rows in repeated[:_SHOWN])
        yield f"{len(repeated)} densities stand there more than once: {shown}"


def _near_equal(dataset: Dataset) -> Iterator[str]:
    """Yield notes on nearly equal crystals, and on those that a split by chemical system parts."""
    rows = np.arange(len(dataset))
    if len(rows) > _MOST_COMPARED:
        rows = np.sort(np.random.default_rng(0).choice(rows, _MOST_COMPARED, replace=False))
    if len(rows) < 2:
        return
    pairs = _near_pairs(_fingerprints(dataset, rows))
    same_formula, parted = [], []
    for first, second in pairs:
        a, b = int(rows[first]), int(rows[second])
        if dataset.formulas[a] == dataset.formulas[b]:
            same_formula.append((a, b))
        if dataset.chemical_systems[a] != dataset.chemical_systems[b]:
            parted.append((a, b))
    sample = "" if len(rows) == len(dataset) else f" among {len(rows)} rows drawn at random"
    if same_formula:
        yield (
            f"{len(same_formula)} pairs of rows{sample} are nearly the same crystal: "
            f"{_pair_names(dataset, same_formula)}"
        )
    if parted:
        yield (
            f"{len(parted)} pairs of rows{sample} of different chemical systems have nearly equal "
            f"densities and may stand on both sides of a split: {_pair_names(dataset, parted)}"
        )


def _fingerprints(dataset: Dataset, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what does not change with origin, axes or cell: quantiles of the density and the volume per atom."""
    shares = np.linspace(0, 1, 17)
    n_atoms = np.array([max(1, len(dataset.species[row])) for row in rows])
    volumes = np.abs(np.linalg.det(dataset.lattices[rows])) / n_atoms
    quantiles = np.empty((len(dataset), len(shares)))
    for batch, densities in dataset.density_batches(rows):
        flat = densities[:, 0].reshape(len(batch), -1)
        quantiles[batch] = np.quantile(flat, shares, axis=1).T
    # logarithms, so that differences are relative
    fields = np.log(np.clip(quantiles[rows], 1e-4, None))
    return np.column_stack([fields, np.log(volumes)])


def _near_pairs(points: NDArray[np.float64]) -> Sequence[tuple[int, int]]:
    from scipy.spatial import cKDTree

    return sorted(cKDTree(points).query_pairs(_NEAR_EQUAL * np.sqrt(points.shape[1])))


def _pair_names(dataset: Dataset, pairs: Sequence[tuple[int, int]]) -> str:
    names = [f"{dataset.ids[a]} and {dataset.ids[b]}" for a, b in pairs[:_SHOWN]]
    if len(pairs) > _SHOWN:
        names.append("...")
    return ", ".join(names)
