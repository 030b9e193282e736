import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskgroup.datasets import parse_unit
from taskgroup.datasets.units import _COMMON, _parse, same_unit
from taskgroup.errors import TargetError

UNITS = """GPa|eV|eV/atom|meV/atom|Å^3|Å^3|ang^3|g/cm^3|1/cm|cm^-1|uV/K|µV/K|uW/(cm K^2 s)|m_e|C/m^2|mu_B/atom
|μ_B/f.u.|e/Å^3|Å³|W m⁻¹ K⁻¹|J/(mol (K m)^2)|10^-6/K|kJ/mol|%|°C|kg*m**-3|bohr^3|states/eV"""
NO_UNITS = """blah|GPaa|eV//atom|eV/|/eV|(eV|eV)|eV^|GPa^x|G Pa|12|log10(GPa)|()|eV()|(/eV)|eV;drop|eV^^2|3.5 4|eV atom^
|#|eV□"""


@pytest.mark.parametrize("unit", UNITS.replace("\n", "").split("|"))
def test_units_of_the_field_parse_and_stay_as_written(unit: str) -> None:
    assert parse_unit(f" {unit} ") == unit


def test_the_commonest_units_are_what_pint_understands_too() -> None:
    for unit in _COMMON:
        factor, _ = _parse(unit, "unit")
        assert factor == 1
    assert same_unit("g/cm3", "g cm^-3")
    assert not same_unit("eV", "eV/atom")


def test_a_common_unit_does_not_import_pint() -> None:
    code = (
        "import sys; from taskgroup.datasets import load_dataset; "
        "load_dataset('crystals'); print('pint' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("nothing", ["", " ", "-", "1", "dimensionless", "None"])
def test_words_for_no_unit_are_one_and_the_same(nothing: str) -> None:
    assert parse_unit(nothing) == ""


@pytest.mark.parametrize("text", NO_UNITS.replace("\n", "").split("|"))
def test_what_is_no_unit_is_refused_naming_field_and_unit(text: str) -> None:
    with pytest.raises(TargetError) as caught:
        parse_unit(text, "target 'gap'")
    assert "target 'gap'" in str(caught.value)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


_SYMBOLS = st.sampled_from(["GPa", "meV", "Å", "cm", "K", "atom", "m_e", "μ_B"])
_FACTORS = st.tuples(_SYMBOLS, st.integers(-3, 3)).map(lambda f: f"{f[0]}^{f[1]}" if f[1] else f[0])


@given(
    st.lists(st.tuples(_FACTORS, st.sampled_from(["/", " ", "*", "·"])), min_size=1, max_size=5),
    st.booleans(),
)
def test_any_product_of_known_symbols_parses_and_half_a_product_does_not(
    factors: list, bracket: bool
) -> None:
    product = "".join(factor + separator for factor, separator in factors)[:-1]
    whole = f"eV/({product})" if bracket else product
    assert parse_unit(whole) == whole
    with pytest.raises(TargetError):
        parse_unit(f"{whole}/")
