"""Element symbols and how many of an element's electrons can be in the valence."""

# One row of the periodic table, or one block of it, per line.
# fmt: off
SYMBOLS = (
    "H", "He",
    "Li", "Be", "B", "C", "N", "O", "F", "Ne",
    "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar",
    "K", "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr",
    "Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I", "Xe",
    "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu",
    "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn",
    "Fr", "Ra", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es", "Fm", "Md", "No", "Lr",
    "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og",
)
# fmt: on
ATOMIC_NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS, start=1)}
# Structures from neutron diffraction name the isotopes of hydrogen.
ATOMIC_NUMBERS |= {"D": 1, "T": 1}

# (first element, last element, electrons of the largest core that a common pseudopotential freezes). Copper's and
# zinc's groups have pseudopotentials with a frozen d shell; lanthanides and actinides with frozen f shells come below.
_LARGEST_CORES = (
    (1, 2, 0),
    (3, 10, 2),
    (11, 18, 10),
    (19, 28, 18),
    (29, 36, 28),
    (37, 46, 36),
    (47, 54, 46),
    (55, 57, 54),
    (72, 78, 68),
    (79, 86, 78),
    (87, 89, 86),
)
# Trivalent, as in VASP's "_3" potentials; superheavy elements have no common pseudopotential.
_FROZEN_F_VALENCE = 3

# Up to beryllium a pseudopotential may treat all electrons as valence; beyond, none keeps the 1s electrons there.
_HEAVIEST_WITHOUT_CORE = 4
_SMALLEST_CORE = 2


def is_element(symbol: str) -> bool:
    """Return whether this is the symbol of a chemical element or of an isotope of hydrogen."""
    return symbol in ATOMIC_NUMBERS


def fewest_valence_electrons(symbol: str) -> int:
    """Return the electrons that a neutral atom has beside the largest core that is frozen in practice.

    >>> [fewest_valence_electrons(symbol) for symbol in ("H", "Na", "Cl", "Fe", "Zn", "Ga")]
    [1, 1, 7, 8, 2, 3]
    """
    number = ATOMIC_NUMBERS[symbol]
    for first, last, core in _LARGEST_CORES:
        if first <= number <= last:
            return number - core
    return _FROZEN_F_VALENCE


def most_valence_electrons(symbol: str) -> int:
    """Return the electrons that a neutral atom has beside the smallest core: all up to Be, all but 1s beyond.

    >>> [most_valence_electrons(symbol) for symbol in ("H", "Be", "B", "Na")]
    [1, 4, 3, 9]
    """
    number = ATOMIC_NUMBERS[symbol]
    if number <= _HEAVIEST_WITHOUT_CORE:
        return number
    return number - _SMALLEST_CORE
