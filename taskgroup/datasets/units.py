"""Units of target columns: understood by pint, kept as written, converted where that is asked for.

A network learns and predicts in the unit its column came in, so a unit stays as its author wrote it. pint decides what
its symbols mean; what chemists write and pint does not know (``atom``, ``f.u.``, ``Å`` as ``A``, ``cm3``) is added
here. pint is imported when a unit is met that is not among the commonest, since that takes most of a second.

    unit   = factor (("/" | "*" | "·" | " ") factor)*
    factor = (symbol | number | "(" unit ")") ["^" exponent]
"""

import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taskgroup.errors import TargetError

if TYPE_CHECKING:
    import pint

DIMENSIONLESS = frozenset({"", "-", "1", "dimensionless", "none", "unitless"})

# Units of nearly every table, which need no library; a test compares them with pint.
_COMMON = frozenset(
    {
        "eV", "meV", "eV/atom", "meV/atom", "GPa", "MPa", "kbar", "Å", "Å^3", "Å^3/atom", "g/cm^3", "g/cm3", "K",
        "kJ/mol", "μB", "μB/atom", "%",
    }
)  # fmt: skip

# Counted things are dimensions of their own: eV and eV/atom must not be converted into each other.
_DEFINITIONS = """
atom = [atom] = _ = atoms = site = sites = ion = ions
formula_unit = [formula_unit] = _ = formula = fu
unit_cell = [unit_cell] = _ = cell = cells
electronic_state = [electronic_state] = _ = state = states
spin_channel = [spin_channel] = _ = spin = spins
electron_count = [electron_count] = _ = electron = electrons
@alias angstrom = ang = Ang = Angstrom = Angstroms
@alias hartree = Ha = Hartree
@alias bohr = Bohr
@alias rydberg = Rydberg
@alias ohm = Ohm = Ohms
@alias bohr_magneton = mu_B = muB = μB = μ_B
@alias electron_mass = m0 = me
"""
# pint would read each of these as something that a table of materials hardly means: "G Pa" is a slip for GPa, not
# gauss times pascal; a bracket (mean) or (a) is a remark, not an atomic mass or a year.
_NOT_MEANT = frozenset({"G", "a", "b", "c", "t", "x", "P", "R", "count", "point", "pint", "data"})
# symbols that pint spells otherwise
_SPELLINGS = {"f.u.": "formula_unit", "Å": "angstrom", "°": "degree", "°C": "degC", "A": "angstrom"}

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_WORD = r"(?:[^\W\d][\w.°]*|[°%]C?)"
# a word that is not the exponent of a number, as in 1e20
_SYMBOL = rf"(?<![\w.]){_WORD}"
# stands for a bracket whose content is sound
_BRACKET = "□"
# Exponents have two digits at most: pint would take hours for a tower of powers.
_EXPONENT = r"\^\s*-?\d{1,2}(?:\.\d{1,4})?(?!\d)"
_NUMBER = r"\d+(?:\.\d+)?(?:[eE][+-]?\d{1,2})?(?![\w.])"
_FACTOR = rf"(?:{_WORD}|{_NUMBER}|{_BRACKET})(?:\s*{_EXPONENT})?"
_PRODUCT = re.compile(rf"\s*{_FACTOR}(?:(?:\s*[*/·]\s*|\s+){_FACTOR})*\s*")
_LONGEST = 60


def parse_unit(text: str, field: str = "unit") -> str:
    """Return the unit in ``text``, stripped; ``""`` for a dimensionless one.

    >>> parse_unit(" eV/atom "), parse_unit("uW/(cm K^2 s)"), parse_unit("g/cm3"), parse_unit("-")
    ('eV/atom', 'uW/(cm K^2 s)', 'g/cm3', '')

    Raises TargetError, naming ``field``, where a symbol is unknown or the expression is not one.
    """
    unit = str(text).strip()
    if unit.lower() in DIMENSIONLESS:
        return ""
    if unit not in _COMMON:
        _parse(unit, field)
    return unit


def convert(values: ArrayLike, unit: str, to: str, field: str = "unit") -> NDArray[np.float64]:
    """Return values in another unit.

    >>> convert([10.0], "kbar", "GPa").round(9)
    array([1.])

    Raises TargetError where the dimensions differ.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if unit == to:
        return numbers
    library = _registry()
    source_factor, source = _parse(unit, field)
    target_factor, target = _parse(to, field)
    if source.dimensionality != target.dimensionality:
        raise TargetError(f"{field}: '{unit}' cannot be converted to '{to}': another dimension")
    quantity = library.Quantity(numbers * source_factor, source)
    return np.asarray(quantity.to(target).magnitude, dtype=np.float64) / target_factor


def same_unit(a: str, b: str) -> bool:
    """Tell if two units mean the same, such as ``g/cm3`` and ``g cm^-3``."""
    if a == b:
        return True
    if not a or not b:
        return False
    factor_a, unit_a = _parse(a, "unit")
    factor_b, unit_b = _parse(b, "unit")
    if unit_a.dimensionality != unit_b.dimensionality:
        return False
    ratio = _registry().Quantity(factor_a, unit_a).to(unit_b).magnitude
    return bool(np.isclose(ratio, factor_b, rtol=1e-9))


@cache
def _registry() -> "pint.UnitRegistry":
    import pint

    registry = pint.UnitRegistry(autoconvert_offset_to_baseunit=True)
    registry.load_definitions(_DEFINITIONS.strip().splitlines())
    return registry


@cache
def _parse(unit: str, field: str) -> "tuple[float, pint.Unit]":
    """Return the number in a unit (10^-6/K) and what is left of it for pint. Raises TargetError."""
    plain = _plain_text(unit)
    if len(unit) > _LONGEST or not _is_product(plain):
        raise TargetError(f"{field}: unit '{unit[:_LONGEST]}' does not parse")
    for word in re.findall(_SYMBOL, plain):
        if not _is_symbol(word):
            raise TargetError(
                f"{field}: unit '{unit}' does not parse: '{word}' is no unit symbol known here"
            )
    try:
        quantity = _registry().parse_expression(_for_pint(plain))
        return float(quantity.magnitude), quantity.units
    # pint raises many kinds of its own, and what its parser meets
    except Exception as error:  # noqa: BLE001
        reason = " ".join(str(error).split())[:100]
        raise TargetError(f"{field}: unit '{unit}' does not parse ({reason})") from None


def _plain_text(unit: str) -> str:
    """Return a unit with ``^`` for all powers: of ``Å³``, ``m**3`` and ``cm3``."""
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda run: "^" + run.group().translate(_SUPERSCRIPTS), unit)
    text = unicodedata.normalize("NFKC", text).replace("**", "^")
    text = text.replace("µ", "μ").replace("−", "-")
    text = re.sub(r"\bper\b", "/", text)
    # percent of weight or of atoms
    text = re.sub(r"\b(?:wt|at|mol|vol)\.?\s*%", "%", text)
    # a digit that ends a symbol is its power, but for the names that have one
    return re.sub(r"(?<![\w.])(?!m0\b|a0\b)([^\W\d_]+)(-?[1-9])(?![\w.])", r"\1^\2", text)


def _is_product(text: str) -> bool:
    """Tell if a text has the form of a unit, see the grammar above."""
    if _BRACKET in text or not re.search(_WORD, text):
        return False
    while bracket := re.search(r"\(([^()]*)\)", text):
        is_sound = _PRODUCT.fullmatch(bracket[1]) is not None
        replacement = _BRACKET if is_sound else ")"
        text = f"{text[: bracket.start()]} {replacement} {text[bracket.end() :]}"
    return _PRODUCT.fullmatch(text) is not None


@cache
def _is_symbol(word: str) -> bool:
    if word in _SPELLINGS or word == "%":
        return True
    if word in _NOT_MEANT or "." in word:
        return False
    try:
        return word in _registry()
    except Exception:  # noqa: BLE001 - as above
        return False


def _for_pint(plain: str) -> str:
    """Return a unit as pint's parser takes it."""

    def spelling(match: re.Match) -> str:
        return _SPELLINGS.get(match.group(), match.group())

    text = re.sub(_SYMBOL, spelling, plain)
    text = text.replace("%", "percent").replace("·", "*").replace("^", "**")
    text = re.sub(r"\s*([*/()])\s*", r"\1", text).strip()
    # what stands side by side is multiplied
    text = re.sub(r"(?<=[\w)])\s+(?=\w)", "*", text)
    return re.sub(r"(?<=[\w)])\s*(?=\()", "*", text)


def dimension_of(unit: str) -> Any:
    """Return pint's dimensionality of a unit, to compare."""
    return _parse(unit, "unit")[1].dimensionality
