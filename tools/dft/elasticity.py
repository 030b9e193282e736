"""Elastic constants of cubic crystals, in plain numpy: strains, moduli, stability. Everything has a closed form.

Convention (Voigt): energy density u = 1/2 C11 (e1^2 + e2^2 + e3^2) + C12 (e1 e2 + e2 e3 + e3 e1) + 1/2 C44 (e4^2 + e5^2
+ e6^2) with engineering shears e4 = 2 e_yz. Both strains below keep the volume exactly, so that the pressure does no
work, and the bulk modulus of the equation of state, (C11 + 2 C12) / 3, closes the system:

- tetragonal (d, d, 1/(1+d)^2 - 1): u = 3 (C11 - C12) d^2 + O(d^3)
- shear e_xy = d, with e_zz = d^2 / (1 - d^2): u = 2 C44 d^2 + O(d^4), an even function of d

M. J. Mehl et al., Phys. Rev. B 41, 10311 (1990), doi:10.1103/PhysRevB.41.10311.
"""

from collections.abc import Sequence

import numpy as np

EV_PER_A3 = 160.21766208  # GPa


def tetragonal(d: float) -> np.ndarray:
    """The deformation (1 + strain) that stretches x and y by ``d`` and keeps the volume."""
    return np.diag([1 + d, 1 + d, 1 / (1 + d) ** 2])


def shear(d: float) -> np.ndarray:
    """The deformation (1 + strain) that shears x and y by ``d`` each and keeps the volume."""
    return np.array([[1, d, 0], [d, 1, 0], [0, 0, 1 / (1 - d**2)]])


def curvature(strains: Sequence[float], energies: Sequence[float]) -> float:
    """a of E = E0 + a d^2 + b d^3, by least squares; no linear term, the crystal is at its equilibrium."""
    d = np.asarray(strains)
    powers = np.stack([np.ones_like(d), d**2, d**3], axis=1)
    return float(np.linalg.lstsq(powers, np.asarray(energies), rcond=None)[0][1])


def mirrored(strains: Sequence[float], energies: Sequence[float]) -> tuple[list[float], list[float]]:
    """Points of an even function of the strain, with those of the negative strains added."""
    negative = [(-d, e) for d, e in zip(strains, energies, strict=True) if d > 0]
    pairs = sorted(negative + list(zip(strains, energies, strict=True)))
    return [d for d, _ in pairs], [e for _, e in pairs]


def cubic_constants(
    bulk: float, tetragonal_curvature: float, shear_curvature: float, volume: float
) -> dict[str, float]:
    """C11, C12 and C44 in GPa, from the bulk modulus (GPa), the two curvatures (eV) and the cell's volume (Å^3)."""
    difference = tetragonal_curvature / (3 * volume) * EV_PER_A3  # C11 - C12
    return {
        "c11": bulk + 2 / 3 * difference,
        "c12": bulk - 1 / 3 * difference,
        "c44": shear_curvature / (2 * volume) * EV_PER_A3,
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
