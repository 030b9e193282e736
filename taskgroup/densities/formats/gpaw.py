"""GPAW's .gpw files, opened by GPAW itself: only it knows the core of the atoms that the file leaves out."""

from pathlib import Path
from typing import Any, ClassVar

from taskgroup.densities.density import Density
from taskgroup.densities.formats.objects import AseReader
from taskgroup.densities.reader import Member, Reader, bare_name, local_file, one_line, refuse
from taskgroup.errors import DensityError, MissingDependency

# The container format of ASE, and what GPAW calls its content.
_MAGIC = b"- of UlmGPAW"


class GpawReader(Reader):
    """A restart file of GPAW; the density is that of its calculator, see ``AseReader``."""

    name: ClassVar[str] = "GPAW gpw"

    def suits(self, source: Any) -> bool:
        name = bare_name(source)
        return name is not None and name.lower().endswith(".gpw")

    def read(self, source: Path | Member) -> Density:
        with local_file(source) as path:
            with path.open("rb") as file:
                if file.read(len(_MAGIC)) != _MAGIC:
                    refuse(source, "must be a file that GPAW wrote, found another beginning")
            try:
                from gpaw import GPAW
            except ImportError:
                raise MissingDependency(
                    f"{source}: reading GPAW's files needs a package: pip install 'taskgroup-materials[gpaw]'"
                ) from None
            try:
                return AseReader().density_of(GPAW(str(path), txt=None), str(source))
            except DensityError:
                raise
            # GPAW raises many kinds on damaged files and missing setups
            except Exception as error:  # noqa: BLE001
                refuse(source, f"must be a finished calculation of GPAW ({one_line(error)})")
