"""Densities of objects in memory: pymatgen volumetric data, and ASE or GPAW calculators.

Objects are known by what they can do, so neither package is imported for it.
"""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from taskgroup.densities._cube import BOHR
from taskgroup.densities.density import Density
from taskgroup.densities.promolecule import crystal_parts
from taskgroup.densities.reader import Reader, refuse

_MOST_RESCALED = 0.05  # of the charge: what a PAW density can miss on a fine grid near its nuclei


class PymatgenReader(Reader):
    """pymatgen's Chgcar and VolumetricData.

    VASP's classes hold rho times volume; the plain ``pymatgen.io.common.VolumetricData``, which is what ``from_cube``
    returns, holds e/Bohr^3. Potentials and localisation functions are refused.
    """

    name: ClassVar[str] = "pymatgen volumetric data"

    def suits(self, source: Any) -> bool:
        return hasattr(source, "structure") and isinstance(getattr(source, "data", None), dict)

    def read(self, source: Any) -> Density:
        from pymatgen.io.vasp.outputs import Elfcar, Locpot, VolumetricData

        name = f"pymatgen {type(source).__name__}"
        if isinstance(source, Elfcar | Locpot):
            refuse(name, "must hold a charge density")
        if "total" not in source.data:
            refuse(name, f"must hold a block 'total', found {', '.join(map(str, source.data))}")
        blocks = [source.data["total"]]
        if "diff_x" in source.data:
            blocks.append(np.sqrt(sum(source.data[f"diff_{axis}"] ** 2 for axis in "xyz")))
        elif "diff" in source.data:
            blocks.append(source.data["diff"])
        lattice, species, frac_coords = crystal_parts(source.structure, name)
        unit = source.structure.volume if isinstance(source, VolumetricData) else BOHR**3
        return Density(np.stack(blocks) / unit, lattice, species, frac_coords, "valence", name)


class AseReader(Reader):
    """ASE Atoms with a finished calculation, or its calculator.

    GPAW: the all-electron density without the core on four times its grid, scaled by at most 5 % to the number of
    valence electrons, as the package's own crystals were made. Other calculators: ``get_pseudo_density``.
    Spin-polarised calculations give (total, magnetisation).
    """

    name: ClassVar[str] = "ASE Atoms or calculator with a density"

    def suits(self, source: Any) -> bool:
        return hasattr(source, "get_pseudo_density") or (
            hasattr(source, "calc") and hasattr(source, "cell")
        )

    def read(self, source: Any) -> Density:
        calculator = source if hasattr(source, "get_pseudo_density") else source.calc
        name = f"ASE {type(calculator).__name__}"
        if not hasattr(calculator, "get_pseudo_density"):
            refuse(name, "the atoms must carry a calculator with a density, found none")
        atoms = calculator.get_atoms() if hasattr(calculator, "get_atoms") else calculator.atoms
        density = Density(
            _ase_blocks(calculator),
            np.array(atoms.cell),
            tuple(atoms.get_chemical_symbols()),
            atoms.get_scaled_positions(),
            "valence",
            name,
        )
        return (
            _scaled(density, calculator)
            if hasattr(calculator, "get_all_electron_density")
            else density
        )


def _ase_blocks(calculator: Any) -> np.ndarray:
    """[C, nx, ny, nz] in e/Å^3: ASE's unit already."""

    def block(**spin: int) -> np.ndarray:
        if hasattr(calculator, "get_all_electron_density"):
            return np.asarray(
                calculator.get_all_electron_density(gridrefinement=4, skip_core=True, **spin)
            )
        return np.asarray(calculator.get_pseudo_density(**spin))

    if calculator.get_number_of_spins() == 1:
        return block()[None]
    up, down = block(spin=0), block(spin=1)
    return np.stack([up + down, up - down])


def _scaled(density: Density, calculator: Any) -> Density:
    electrons = float(calculator.get_number_of_electrons())
    if abs(density.charge - electrons) > _MOST_RESCALED * electrons:
        refuse(
            density.source,
            f"the density must hold {electrons:g} electrons within 5 %, found {density.charge:.4f}",
        )
    return replace(density, values=density.values * (electrons / density.charge))
