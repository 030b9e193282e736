"""Statistics of the properties of a formula's elements (as in Ward et al., 2016).

They are what composition models know, and what a network can be asked to tell from the density first, since every row
has them (``TrainConfig.pretrain``). doi:10.1038/npjcompumats.2016.28
"""

import warnings
from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from taskgroup.errors import InputError

# electrons that a full shell holds
_SHELLS = {"s": 2, "p": 6, "d": 10, "f": 14}
PROPERTIES = (
    "Z", "X", "atomic_radius", "group", "row", "mendeleev_no", "atomic_mass", "melting_point", "molar_volume",
    "ionization_energy", "electron_affinity", "average_ionic_radius", *(f"empty_{shell}" for shell in _SHELLS),
)  # fmt: skip
STATISTICS = ("mean", "deviation", "least", "largest")


def composition_names() -> tuple[str, ...]:
    """Return the columns of ``composition_statistics``, such as ``mean-Z``."""
    return tuple(f"{statistic}-{name}" for statistic in STATISTICS for name in PROPERTIES)


def composition_statistics(formulas: Iterable[str]) -> NDArray[np.float64]:
    """Return mean, deviation (both weighted by the formula), least and largest of element properties: [rows, columns].

    Units are pymatgen's (Å, u, K, cm^3/mol, eV). NaN where a property of an element is not known, such as the
    electronegativity of neon. Raises InputError: not a formula.
    """
    rows = [_statistics(formula) for formula in formulas]
    return np.array(rows).reshape(len(rows), len(composition_names()))


@cache
def _statistics(formula: str) -> NDArray[np.float64]:
    from pymatgen.core import Composition

    try:
        fractions = Composition(formula).fractional_composition
        values = np.array([element_properties(str(element)) for element in fractions])
    except ValueError as error:
        raise InputError(
            f"composition: '{formula}' is not a formula of elements ({error})"
        ) from None
    weights = np.array(list(fractions.values()))
    mean = weights @ values
    deviation = np.sqrt(weights @ (values - mean) ** 2)
    return np.concatenate([mean, deviation, values.min(axis=0), values.max(axis=0)])


@cache
def element_properties(symbol: str) -> tuple[float, ...]:
    """Return the ``PROPERTIES`` of an element, such as ``"Na"``; NaN where not known. Raises ValueError: no element.

    ``empty_d`` is how many electrons the free atom's outermost d shell could still take, 0 where it has none.
    """
    from pymatgen.core import Element

    element = Element(symbol)
    # later entries overwrite earlier ones, so that of each shell the outermost stays
    outermost = {shell: count for _, shell, count in sorted(element.full_electronic_structure)}
    values_by_name = {}
    for shell, capacity in _SHELLS.items():
        values_by_name[f"empty_{shell}"] = capacity - outermost.get(shell, capacity)
    # pymatgen warns of properties that are not known; NaN says so
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in PROPERTIES:
            if name not in values_by_name:
                values_by_name[name] = getattr(element, name)
    return tuple(_number(values_by_name[name]) for name in PROPERTIES)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
