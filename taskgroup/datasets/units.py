"""Units of target columns: checked to be units, kept as written.

Nothing here converts: a network learns and predicts in the unit its column came in. So all that is asked of a unit is
that a reader will understand it, which a table of symbols and a small grammar decide; a units library would add a
dependency for conversions nobody makes, and pymatgen's ``Unit`` accepts any word ("blah") and drops "Å".

    unit   = factor (("/" | "*" | "·" | " ") factor)*
    factor = (symbol | number | "(" unit ")") ["^" exponent]
"""

import re
import unicodedata

from taskgroup.errors import TargetError

_WITH_PREFIX = "m g s A K mol Hz N Pa J W C V F ohm Ω S T Wb H eV bar cal L l rad D Da Ha Ry e u μ_B mu_B muB μB"
_ALONE = """Å ang Ang angstrom Angstrom bohr Bohr a0 Hartree hartree Rydberg m_e m0 amu min h day
    atom atoms site sites cell f.u. fu formula formula_unit electron electrons states state spin deg ° °C % ppm hbar"""
_PREFIXES = "afpnuμmcdhkMGTPE"
_SYMBOLS = frozenset(
    [
        *_ALONE.split(),
        *(prefix + symbol for symbol in _WITH_PREFIX.split() for prefix in ("", *_PREFIXES)),
    ]
)
_DIMENSIONLESS = frozenset({"", "-", "1", "dimensionless", "none"})
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_WORD = r"(?:[^\W\d][\w.°]*|[°%]C?)"
_BRACKET = "□"  # stands for a bracket whose inside is sound
_FACTOR = rf"(?:{_WORD}|\d+(?:\.\d+)?|{_BRACKET})(?:\s*\^\s*-?\d+(?:\.\d+)?)?"
_PRODUCT = re.compile(rf"\s*{_FACTOR}(?:(?:\s*[*/·]\s*|\s+){_FACTOR})*\s*")


def parse_unit(text: str, field: str = "unit") -> str:
    """The unit in ``text``, stripped; ``""`` for a dimensionless one.

    >>> parse_unit(" eV/atom "), parse_unit("uW/(cm K^2 s)"), parse_unit("Å³"), parse_unit("-")
    ('eV/atom', 'uW/(cm K^2 s)', 'Å³', '')

    Raises TargetError, naming ``field``, where a symbol is unknown or the expression is not one.
    """
    unit = text.strip()
    if unit.lower() in _DIMENSIONLESS:
        return ""
    plain = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda run: "^" + run.group().translate(_SUPERSCRIPTS), unit)
    plain = unicodedata.normalize("NFKC", plain).replace("**", "^")
    words = re.findall(_WORD, plain)
    unknown = [word for word in words if word not in _SYMBOLS]
    if unknown:
        raise TargetError(
            f"{field}: unit '{unit}' does not parse: '{unknown[0]}' is no unit symbol known here"
        )
    while bracket := re.search(r"\(([^()]*)\)", plain):
        sound = _PRODUCT.fullmatch(bracket[1])
        plain = f"{plain[: bracket.start()]} {_BRACKET if sound else ')'} {plain[bracket.end() :]}"
    if not words or not _PRODUCT.fullmatch(plain):
        raise TargetError(f"{field}: unit '{unit}' does not parse")
    return unit
