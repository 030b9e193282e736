"""Units of the files."""

from scipy.constants import physical_constants

#: Å.
BOHR = physical_constants["Bohr radius"][0] * 1e10
