"""Densities of objects in memory: pymatgen volumetric data, and ASE or GPAW calculators.

Objects are known by what they can do, so neither package is imported for it.
"""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from taskgroup.densities._units import BOHR
from taskgroup.densities.density import Density
from taskgroup.densities.promolecule import crystal_parts
from taskgroup.densities.reader import Reader, refuse

# Of the charge: what a PAW density can miss on a fine grid near its nuclei.
_MOST_RESCALED = 0.05
# The all-electron density of GPAW is computed on a grid so many times finer per axis.
_GPAW_REFINEMENT = 4


class PymatgenReader(Reader):
    """pymatgen's Chgcar and VolumetricData, also in mp-api's pair of a Chgcar and its task document.

    VASP's classes hold rho times volume; the plain ``pymatgen.io.common.VolumetricData``, which is what ``from_cube``
    returns, holds e/Bohr^3. Potentials and localisation functions are refused.
    """

    name: ClassVar[str] = "pymatgen volumetric data"

    def suits(self, source: Any) -> bool:
        return _is_volumetric(_without_document(source))

    def read(self, source: Any) -> Density:
        return density_of_pymatgen(_without_document(source))


def density_of_pymatgen(volumetric: Any, name: str | None = None) -> Density:
    """Return the density of a pymatgen volumetric object; ``name`` stands in messages. Raises DensityError."""
    from pymatgen.io.vasp.outputs import Elfcar, Locpot, VolumetricData

    name = name or f"pymatgen {type(volumetric).__name__}"
    if isinstance(volumetric, Elfcar | Locpot):
        refuse(name, "must hold a charge density, found a potential or a localisation function")
    values = stacked_blocks(volumetric.data, name)
    lattice, species, frac_coords = crystal_parts(volumetric.structure, name)
    is_vasp = isinstance(volumetric, VolumetricData)
    unit = volumetric.structure.volume if is_vasp else BOHR**3
    return Density(values / unit, lattice, species, frac_coords, "valence", name)


def stacked_blocks(blocks_by_name: dict[str, Any], name: str) -> np.ndarray:
    """Return (total) or (total, magnetisation) of pymatgen's blocks, [C, nx, ny, nz], in their own unit."""
    if "total" not in blocks_by_name:
        known = ", ".join(map(str, blocks_by_name))
        refuse(name, f"must hold a block 'total', found {known}")
    blocks = [np.asarray(blocks_by_name["total"])]
    if "diff_x" in blocks_by_name:
        squares = [np.square(blocks_by_name[f"diff_{axis}"]) for axis in "xyz"]
        blocks.append(np.sqrt(sum(squares)))
    elif "diff" in blocks_by_name:
        blocks.append(np.asarray(blocks_by_name["diff"]))
    shapes = {block.shape for block in blocks}
    if len(shapes) > 1:
        refuse(name, f"all blocks must have the grid of the first, found {sorted(shapes)}")
    return np.stack(blocks)


def _is_volumetric(source: Any) -> bool:
    return hasattr(source, "structure") and isinstance(getattr(source, "data", None), dict)


def _without_document(source: Any) -> Any:
    """Return the first of mp-api's pair (chgcar, task document), and other sources as they are."""
    if isinstance(source, tuple) and len(source) == 2 and not _is_volumetric(source[1]):
        return source[0]
    return source


class AseReader(Reader):
    """ASE Atoms with a finished calculation, or its calculator.

    GPAW: the all-electron density without the core on four times its grid, scaled by at most 5 % to the number of
    valence electrons, as the package's own crystals were made. Other calculators: ``get_pseudo_density``.
    Spin-polarised calculations give (total, magnetisation).
    """

    name: ClassVar[str] = "ASE Atoms or calculator with a density"

    def suits(self, source: Any) -> bool:
        is_calculator = hasattr(source, "get_pseudo_density")
        is_atoms = hasattr(source, "calc") and hasattr(source, "cell")
        return is_calculator or is_atoms

    def read(self, source: Any) -> Density:
        calculator = source if hasattr(source, "get_pseudo_density") else source.calc
        return self.density_of(calculator, f"ASE {type(calculator).__name__}")

    def density_of(self, calculator: Any, name: str) -> Density:
        """Return the density of a calculator; ``name`` stands in messages. Raises DensityError."""
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
        if _is_gpaw(calculator):
            return _scaled(density, calculator)
        return density


def _is_gpaw(calculator: Any) -> bool:
    return hasattr(calculator, "get_all_electron_density")


def _ase_blocks(calculator: Any) -> np.ndarray:
    """Return [C, nx, ny, nz] in e/Å^3: ASE's unit already."""
    if calculator.get_number_of_spins() == 1:
        return _ase_block(calculator)[None]
    up = _ase_block(calculator, spin=0)
    down = _ase_block(calculator, spin=1)
    return np.stack([up + down, up - down])


def _ase_block(calculator: Any, **spin: int) -> np.ndarray:
    if _is_gpaw(calculator):
        block = calculator.get_all_electron_density(
            gridrefinement=_GPAW_REFINEMENT, skip_core=True, **spin
        )
    else:
        block = calculator.get_pseudo_density(**spin)
    return np.asarray(block)


def _scaled(density: Density, calculator: Any) -> Density:
    """Return the density with exactly the electrons that the calculator counts."""
    electrons = float(calculator.get_number_of_electrons())
    if abs(density.charge - electrons) > _MOST_RESCALED * electrons:
        refuse(
            density.source,
            f"the density must hold {electrons:g} electrons within 5 %, found {density.charge:.4f}",
        )
    return replace(density, values=density.values * (electrons / density.charge))
