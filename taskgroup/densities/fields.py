"""Other fields that come in the same file formats as a total density, and how they give themselves away.

A spin density, a potential or an orbital looks like a density to a parser, and its integral may even be a whole number.
What speaks against a file is its name, its comment lines, the sign of its values and, in ``read.py``, their sum.
"""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from taskgroup.densities.density import Density
from taskgroup.densities.reader import refuse

# Densities on a grid that cannot hold their cores ring below zero: by 0.13 % of the integral of the absolute value in
# VASP files of silicon, by 4.7 % in GPAW's of tantalum. Differences and potentials without offset reach 50 %, as do the
# spin densities of antiferromagnets; those of ferromagnets hold too few electrons.
_MOST_NEGATIVE_SHARE = 0.10

_SPIN = "a spin density"
_POTENTIAL = "a potential"
_LOCALISATION = "a localisation function"
_ORBITAL = "an orbital"
_PARTIAL = "a partial density"
_DIFFERENCE = "a density difference"
_DERIVATIVE = "a derivative of the density"

# Words of a file's name, between characters that are no letters. Words that also are minerals, elements or common
# abbreviations ("delta", "mo", "loc") only count together with others.
_NAMES = {
    "spin[-_ ]?dens(?:ity)?|sden|mag|magneti[sz]ation": _SPIN,
    "locpot|v?[-_]?hartree|vhart|potential|pot|esp|vxc|electrostatic": _POTENTIAL,
    "elf|elfcar|lol": _LOCALISATION,
    "wfn?|homo|lumo|orbital|psi|wannier|eigenstate|wavefunction": _ORBITAL,
    "parchg|pchg|partial|ldos|ildos|stm|core[-_ ]?(?:dens(?:ity)?|charge)": _PARTIAL,
    "diff|chgdiff|difference|drho|dden|delta[-_](?:rho|density|den|chg)|deformation|cdd": _DIFFERENCE,
    "laplacian|gradient|rdg|nci": _DERIVATIVE,
}
# "Li_spin_CHGCAR" is the total density of a spin-polarised run: VASP keeps both in one file. A cube holds one field.
_CUBE_NAMES = {"spin": _SPIN}

_COMMENTS = {
    r"spin[-_ ]?density|magneti[sz]ation|\balpha minus beta\b": _SPIN,
    # "Pseudopotential" and "PBE potentials" only say how the density was made.
    r"(?<!pseudo)(?<!pseudo[-_ ])potential\b": _POTENTIAL,
    r"\belf\b|locali[sz]ation function|locali[sz]ed[- ]orbital locator": _LOCALISATION,
    r"\bmo\s*(?:=|\d|coef)|molecular orbital|\borbital\b|\bhomo\b|\blumo\b": _ORBITAL,
    r"wave ?function|wannier|eigenstate": _ORBITAL,
    r"partial (?:charge|density)|\bl?ldos\b|\bstm\b|local density of states|core density": _PARTIAL,
    r"^\s*(?:alpha|beta)[- ](?:spin |electron )?density": _PARTIAL,
    r"difference|deformation density|delta[-_ ]?(?:density|rho)": _DIFFERENCE,
    r"laplacian|gradient|kinetic energy density": _DERIVATIVE,
}


def refuse_other_fields(
    source: Any, name: str, comments: Iterable[str] = (), *, one_field: bool = False
) -> None:
    """Refuse a file whose name or comment lines say that it holds another field than a total density.

    ``one_field``: the format holds one field per file, so "spin" in the name means this field.
    """
    patterns = _NAMES | _CUBE_NAMES if one_field else _NAMES
    for pattern, kind in patterns.items():
        word = re.search(rf"(?<![a-z])(?:{pattern})(?![a-z])", name.lower())
        if word:
            refuse(
                source,
                f"must be a total density, but its name says '{word[0]}': {kind}; "
                "rename the file if it is a total density",
            )
    for comment in comments:
        for pattern, kind in _COMMENTS.items():
            word = re.search(pattern, comment.lower())
            if word:
                refuse(
                    source,
                    f"must be a total density, but its comment says '{comment.strip()[:60]}': {kind}; "
                    "correct the comment if it is a total density",
                )


def negative_share(density: Density) -> float:
    """Return the integral of the total density's negative part over that of its absolute value, 0 to 1."""
    values = density.values[0]
    size = float(np.abs(values).sum())
    if size == 0:
        return 0.0
    return float(-np.minimum(values, 0).sum() / size)


def refuse_negative(density: Density) -> None:
    """Refuse a field with more negative values than pseudo-densities have."""
    share = negative_share(density)
    if share > _MOST_NEGATIVE_SHARE:
        refuse(
            density.source,
            f"a total density is nowhere negative beyond {100 * _MOST_NEGATIVE_SHARE:g} % of its size, "
            f"found {100 * share:.1f} % in a field of {density.charge:.4f} electrons: "
            "a spin density, a potential, an orbital or a difference",
        )
