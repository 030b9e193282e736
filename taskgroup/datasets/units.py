"""Units of target columns: checked to be units, kept as written.

Nothing here converts: a network learns and predicts in the unit its column came in. So all that is asked of a unit is
that a reader will understand it, which a table of symbols and a four-line grammar decide; a units library would add a
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
    [*_ALONE.split(), *(prefix + symbol for symbol in _WITH_PREFIX.split() for prefix in ("", *_PREFIXES))]
)
_DIMENSIONLESS = frozenset({"", "-", "1", "dimensionless", "none"})
_TOKEN = re.compile(r"\s*(\*\*|[*/·^()]|-?\d+(?:\.\d+)?|[^\W\d][\w.°]*|[°%][A-Za-z]?)")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


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
    tokens = _tokens(unicodedata.normalize("NFKC", plain), unit, field)
    if not any(token in _SYMBOLS for token in tokens) or _expression(tokens, unit, field) or tokens:
        raise TargetError(f"{field}: unit '{unit}' does not parse")
    return unit


def _tokens(text: str, unit: str, field: str) -> list[str]:
    """The tokens of ``text``, last first, so that ``pop`` reads from the left."""
    tokens, at = [], 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise TargetError(f"{field}: unit '{unit}' does not parse at '{text[at:].strip()}'")
        tokens.append("^" if match[1] == "**" else match[1])
        at = match.end()
    return tokens[::-1]


def _expression(tokens: list[str], unit: str, field: str) -> bool:
    """Consume one unit expression; True where it is broken."""
    while True:
        if _factor(tokens, unit, field):
            return True
        if not tokens or tokens[-1] == ")":
            return False
        if tokens[-1] in "*/·":
            tokens.pop()


def _factor(tokens: list[str], unit: str, field: str) -> bool:
    if not tokens:
        return True
    token = tokens.pop()
    if token == "(":
        if _expression(tokens, unit, field) or not tokens or tokens.pop() != ")":
            return True
    elif token in "*/·^)":
        return True
    elif not token[-1].isdigit() or token[0].isalpha():
        _check_symbol(token, unit, field)
    if tokens and tokens[-1] == "^":
        tokens.pop()
        return not tokens or not re.fullmatch(r"-?\d+(\.\d+)?", tokens.pop())
    return False


def _check_symbol(symbol: str, unit: str, field: str) -> None:
    if symbol not in _SYMBOLS:
        raise TargetError(f"{field}: unit '{unit}' does not parse: '{symbol}' is no unit symbol known here")
