"""PBE valence densities and properties of simple crystals, with GPAW.

    OMP_NUM_THREADS=1 nice python3 tools/dft/compute.py OUT [PART PARTS] [--packed crystals.json.gz]

For each name in ``candidates.txt``: equilibrium volume and bulk modulus from a Birch-Murnaghan fit of five volumes
(one FFT grid and one k-point grid for all of them, so that E(V) is smooth), then a denser k-grid at the minimum for
Fermi energy, gap, bandwidth and the valence density on GPAW's grid, scaled to the number of valence electrons.
Writes NAME.json and NAME.npz (``density``, 1/Å^3), or NAME.fail. See README.md beside this.
"""

from typing import Any

import numpy as np
from analysis import band_edges, bandwidth, density_of_states, downsampled, even_grid
from ase import Atoms
from ase.calculators.calculator import kptdensity2monkhorstpack
from ase.eos import EquationOfState
from ase.units import kJ
from jobs import arguments, run
from prototypes import wanted

CUTOFF = 500  # eV
SMEARING = 0.05  # eV
CONVERGENCE = {  # energy in eV, density in electrons, eigenstates in eV^2, each per valence electron
    "rough": {"energy": 5e-4, "density": 1e-3, "eigenstates": 1e-5},
    "usual": {"energy": 2e-4, "density": 1e-4, "eigenstates": 1e-6},
}
STRAINS = (-0.04, -0.02, 0.0, 0.02, 0.04)  # of the lattice constant
INSULATOR = 0.7  # eV: from this gap on the sparser of the k-grids does


def calculator(cutoff: float = CUTOFF, effort: str = "usual", **settings: Any) -> Any:
    """A GPAW calculator with this project's settings; ``effort`` names one of ``CONVERGENCE``."""
    from gpaw import GPAW, PW, FermiDirac
    from gpaw.wavefunctions.pw import PWWaveFunctions

    PWWaveFunctions.initialize_wave_functions_from_basis_functions = _random_start
    return GPAW(
        mode=PW(cutoff),
        convergence=CONVERGENCE[effort],
        maxiter=80,
        txt=None,
        **{"xc": "PBE", "occupations": FermiDirac(SMEARING)} | settings,
    )


def _random_start(wave_functions: Any, *_: Any) -> int:
    """Wave functions start as random numbers: from atomic orbitals takes GPAW most of its time in cells this small.

    Its parameter ``random`` should do this, and is ignored by GPAW 22.8. How many came from orbitals: none.
    """
    wave_functions.random_wave_functions(0)
    return 0


def scaled(atoms: Atoms, factor: float) -> Atoms:
    """The crystal with its lattice constant times ``factor``."""
    copy = atoms.copy()
    copy.set_cell(atoms.cell * factor, scale_atoms=True)
    return copy


def energy(atoms: Atoms, **settings: Any) -> tuple[float, Any]:
    """The energy (eV) and the calculator that found it."""
    copy = atoms.copy()
    copy.calc = calculator(**settings)
    return copy.get_potential_energy(), copy.calc


def kpoints(density: float) -> dict[str, Any]:
    """A gamma-centred grid with so many points per 1/Å."""
    return {"density": density, "gamma": True}


def approach(atoms: Atoms, **settings: Any) -> tuple[Atoms, float]:
    """(Crystal near its minimum, its gap in eV): steps of 4 % of the constant at a low cutoff, then a parabola."""
    from ase.dft.bandgap import bandgap

    energies: dict[int, float] = {}
    gaps: dict[int, float] = {}

    def at(step: int) -> float:
        if step not in energies:
            crystal = scaled(atoms, 1.04**step)
            grid = even_grid(crystal.cell.lengths(), 0.21)
            energies[step], calc = energy(
                crystal, cutoff=280, effort="rough", gpts=grid, kpts=kpoints(1.6), **settings
            )
            gaps[step] = bandgap(calc, output=None)[0]
        return energies[step]

    step = 0
    for _ in range(12):
        if at(step + 1) < at(step):
            step += 1
        elif at(step - 1) < at(step):
            step -= 1
        else:
            second, first, _ = np.polyfit([-1, 0, 1], [at(step - 1), at(step), at(step + 1)], 2)
            return scaled(atoms, 1.04 ** (step - first / (2 * second))), gaps[step]
    raise ValueError("no minimum bracketed")


def equation_of_state(
    atoms: Atoms, gap: float, **settings: Any
) -> tuple[Atoms, tuple[int, ...], dict[str, Any]]:
    """(Crystal at its minimum, FFT grid, what the fit says). Centred again until the minimum lies inside of the fit."""
    density = 1.6 if gap > INSULATOR else 2.6
    for _ in range(3):  # the approach can miss by a few per cent
        grid = even_grid(scaled(atoms, 1.04).cell.lengths(), 0.18)
        size = tuple(int(k) for k in kptdensity2monkhorstpack(atoms, density, even=False))
        crystals = [scaled(atoms, 1 + strain) for strain in STRAINS]
        volumes = [float(crystal.get_volume()) for crystal in crystals]
        kpts = {"size": size, "gamma": True}
        energies = [
            float(energy(crystal, gpts=grid, kpts=kpts, **settings)[0]) for crystal in crystals
        ]
        curve = EquationOfState(volumes, energies, eos="birchmurnaghan")
        volume, _, modulus = curve.fit()
        if min(volumes) < volume < max(volumes):
            break
        atoms = scaled(
            atoms, (np.clip(volume, min(volumes), max(volumes)) / atoms.get_volume()) ** (1 / 3)
        )
    else:
        raise ValueError(f"equilibrium volume {volume} outside {min(volumes)}..{max(volumes)}")
    misfit = curve.func(np.array(volumes), *curve.eos_parameters) - np.array(energies)
    fit = {
        "bulk_modulus": float(modulus / kJ * 1e24),  # GPa
        "bprime": float(curve.eos_parameters[2]),
        "eos_volumes": volumes,
        "eos_energies": energies,
        "eos_rms": float(np.sqrt(np.mean(misfit**2))),
    }
    return scaled(atoms, (volume / atoms.get_volume()) ** (1 / 3)), grid, fit


def electrons(atoms: Atoms, calc: Any) -> dict[str, Any]:
    """What the bands say: Fermi energy, gaps, bandwidth (eV), density of states at the Fermi energy (1/eV/atom)."""
    from ase.dft.bandgap import bandgap

    fermi = float(calc.get_fermi_level())
    energies = np.array([calc.get_eigenvalues(kpt=k) for k in range(len(calc.get_ibz_k_points()))])
    lowest, highest = band_edges(energies, fermi)
    return {
        "fermi_energy": fermi,
        "band_gap": float(bandgap(calc, output=None)[0]),
        "direct_gap": float(bandgap(calc, direct=True, output=None)[0]),
        "bandwidth": bandwidth(lowest, highest),
        "band_min": lowest,
        "band_max": highest,
        "dos_fermi": density_of_states(energies, calc.get_k_point_weights(), fermi) / len(atoms),
        "nkpts": len(energies),
    }


def valence_density(atoms: Atoms, calc: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """The density (1/Å^3) on half of GPAW's fourfold grid, the total scaled to the valence electrons; how it fitted.

    [nx, ny, nz], or [2, nx, ny, nz] (total, magnetisation) of a spin-polarised calculation.
    """
    spins = (
        [{"spin": spin} for spin in range(calc.get_number_of_spins())]
        if calc.get_number_of_spins() > 1
        else [{}]
    )
    fine = [
        calc.get_all_electron_density(gridrefinement=4, skip_core=True, **spin) for spin in spins
    ]
    blocks = [downsampled(block, [n // 2 for n in block.shape]) for block in fine]
    density = (
        blocks[0] if len(blocks) == 1 else np.stack([blocks[0] + blocks[1], blocks[0] - blocks[1]])
    )
    total = density if len(blocks) == 1 else density[0]
    found, due = float(total.mean() * atoms.get_volume()), float(calc.get_number_of_electrons())
    total *= due / found  # what a grid misses sits in the cores; a magnetisation has little there
    return density, {
        "nelectrons": due,
        "grid": list(density.shape[-3:]),
        "charge_before_normalisation": found,
        "negative_min": float(total.min()),
        "density_max": float(total.max()),
    }


def compute(name: str, family: str, atoms: Atoms) -> tuple[dict[str, Any], np.ndarray]:
    """The record and the density of one crystal.

    Where the calculation does not converge it is done again with twice as many bands as are occupied: Ca, Sr and Ba
    have d states just above the few empty bands that GPAW takes by default.
    """
    from gpaw import KohnShamConvergenceError

    try:
        return compute_with(name, family, atoms)
    except (KohnShamConvergenceError, ValueError) as error:
        if isinstance(error, ValueError) and "Bad eigenvalues" not in str(error):
            raise
    return compute_with(name, family, atoms, nbands="200%")


def compute_with(
    name: str, family: str, atoms: Atoms, **settings: Any
) -> tuple[dict[str, Any], np.ndarray]:
    """The record and the density of one crystal, with settings of the calculator in addition to ours."""
    atoms, gap = approach(atoms, **settings)
    atoms, grid, fit = equation_of_state(atoms, gap, **settings)
    atoms.calc = calculator(gpts=grid, kpts=kpoints(2.6 if gap > INSULATOR else 4.0), **settings)
    total = float(atoms.get_potential_energy())
    density, charge = valence_density(atoms, atoms.calc)
    record = {
        "name": name,
        "family": family,
        **crystal_record(atoms),
        "energy": total,
        "energy_per_atom": total / len(atoms),
        **electrons(atoms, atoms.calc),
        **fit,
        **charge,
        **settings,
    }
    return record, density


def crystal_record(atoms: Atoms) -> dict[str, Any]:
    """The crystal itself: lattice (Å, rows), symbols, coordinates, volume (Å^3), density (g/cm^3)."""
    volume = float(atoms.get_volume())
    return {
        "formula": atoms.get_chemical_formula(),
        "symbols": atoms.get_chemical_symbols(),
        "cell": np.array(atoms.cell).tolist(),
        "scaled_positions": atoms.get_scaled_positions().tolist(),
        "natoms": len(atoms),
        "volume": volume,
        "mass_density": float(atoms.get_masses().sum()) / volume * 1.66053907,
    }


if __name__ == "__main__":
    run(
        wanted(),
        compute,
        arguments("PBE densities and properties of the crystals in candidates.txt.").parse_args(),
    )
