"""Elastic constants of cubic crystals, in plain numpy: strains, constants, moduli, stability. All have closed forms.

Convention (Voigt): s1 = C11 e1 + C12 (e2 + e3), and so on round; s4 = C44 e4, s5, s6 alike, with engineering shears
e4 = 2 e_yz. Positive stress pulls inward, as in ASE. Two strains that keep the volume to first order are enough, since
the equation of state's bulk modulus, (C11 + 2 C12) / 3, closes the system:

- stretch (d, -d, 0): s1 - s2 = 2 (C11 - C12) d + O(d^3)
- shear e_xy = d: s6 = 2 C44 d + O(d^3)

Both stresses are odd functions of the strain, by symmetry: one calculation each is enough, no unstrained one is needed,
and the isotropic stress that a fixed plane-wave cutoff leaves behind (Pulay's) drops out.
"""

from collections.abc import Sequence

import numpy as np

EV_PER_A3 = 160.21766208  # GPa


def stretch(d: float) -> np.ndarray:
    """The deformation (1 + strain) that stretches x and shortens y."""
    return np.diag([1 + d, 1 - d, 1])


def shear(d: float) -> np.ndarray:
    """The deformation (1 + strain) that shears x and y by ``d`` each."""
    return np.array([[1, d, 0], [d, 1, 0], [0, 0, 1]])


def cubic_constants(
    bulk: float, stretched: Sequence[float], sheared: Sequence[float], strain: float
) -> dict[str, float]:
    """C11, C12 and C44 in GPa, from the bulk modulus (GPa) and both stresses (xx yy zz yz xz xy, GPa)."""
    difference = (stretched[0] - stretched[1]) / (2 * strain)
    return {
        "c11": float(bulk + 2 / 3 * difference),
        "c12": float(bulk - 1 / 3 * difference),
        "c44": float(sheared[5] / (2 * strain)),
    }


def hill_shear(c11: float, c12: float, c44: float) -> float:
    """The shear modulus of a polycrystal (GPa): the mean of Voigt's and Reuss's bounds.

    R. Hill, Proc. Phys. Soc. A 65, 349 (1952), doi:10.1088/0370-1298/65/5/307. NaN for an unstable crystal, where
    Reuss's bound has no meaning.
    """
    if not (c11 > c12 and c44 > 0):
        return float("nan")
    voigt = (c11 - c12 + 3 * c44) / 5
    reuss = 5 * (c11 - c12) * c44 / (4 * c44 + 3 * (c11 - c12))
    return (voigt + reuss) / 2


def is_stable(c11: float, c12: float, c44: float) -> bool:
    """Born's criteria for a cubic crystal without load.

    F. Mouhat, F.-X. Coudert, Phys. Rev. B 90, 224104 (2014), doi:10.1103/PhysRevB.90.224104.
    """
    return c11 - c12 > 0 and c11 + 2 * c12 > 0 and c44 > 0
