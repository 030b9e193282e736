"""Small sound files of all formats that are read, for ``fuzz.py`` to damage."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np

_GRID = (6, 5, 4)
_EDGE = 4.0
_ELECTRONS = 3.0
_BOHR = 0.529177210544

TABLES = {
    "t.csv": b"id,formula,K (GPa),gap [eV],metal\n,,GPa,eV,\nm1,NaCl,1.5,0.5,yes\nm2,Si,2.25,,no\nm3,Na,n/a,3,yes\n",
    "u.csv": b"id;K;gap\nm1;100,5;1,1\nm2;200,25;0\nm3;1.234,5;2\n",
    "v.tsv": "id\tGröße / eV\nÄ\t1\nÖ\t2\n".encode("latin-1"),
    "w.json": b'[{"id": "a", "K": 1.5, "m": true}, {"id": "b", "K": null, "m": false}]',
    "x.json": b'{"K": {"0": 1, "1": 2}, "id": {"0": "a", "1": "b"}}',
    "y.jsonl": b'{"jid": "a", "K": 1e3}\n{"jid": "b", "K": "na"}\n{"jid": "c", "K": 2}\n',
    "z.txt": b"# made by hand\nm-1,1.25\nm-2,3\n",
}


def density_seeds() -> dict[str, bytes]:
    """Return a file of one aluminium atom with three valence electrons in each format, packed ones too."""
    values = _bump()
    chgcar = _chgcar(values)
    seeds = {
        "CHGCAR": chgcar,
        "CHG": chgcar + chgcar,
        "spin_CHGCAR": chgcar + _block(0.1 * values * _EDGE**3),
        "x.cube": _cube(values),
        "x.xsf": _xsf(values),
        "x.json": _document(values),
        "x_DEN.nc": _netcdf(values),
        "vaspwave.h5": _hdf5(values),
        "x.RHO": _siesta(values),
        "gz_CHGCAR.gz": gzip.compress(chgcar),
        "bz2_CHGCAR.bz2": bz2.compress(chgcar),
        "xz_CHGCAR.xz": lzma.compress(chgcar),
        "zz_CHGCAR.zz": zlib.compress(chgcar),
        "zip_CHGCAR.zip": _zip({"CHGCAR": chgcar}),
        "set.tar": _tar({"a/CHGCAR": chgcar}, "w"),
        "set.tar.gz": _tar({"a.CHGCAR.gz": gzip.compress(chgcar)}, "w:gz"),
    }
    return seeds | _packed_by_packages(chgcar)


def structure_lines() -> bytes:
    """Return two structures in JSON lines."""
    line = {
        "id": "a",
        "lattice": (_EDGE * np.eye(3)).tolist(),
        "species": ["Al"],
        "frac_coords": [[0, 0, 0]],
    }
    return "\n".join(json.dumps(line | {"id": name}) for name in "ab").encode() + b"\n"


def atoms_of_siesta() -> bytes:
    """Return the XV file that belongs to ``x.RHO``."""
    edge = _EDGE / _BOHR
    rows = [" ".join(f"{x:.9f}" for x in [*row, 0, 0, 0]) for row in edge * np.eye(3)]
    return "\n".join([*rows, "1", "1 13 0 0 0 0 0 0"]).encode() + b"\n"


def _bump() -> np.ndarray:
    """Return a smooth density in e/Å^3."""
    x, y, z = ((1 + np.cos(2 * np.pi * np.arange(n) / n)) / 2 + 0.1 for n in _GRID)
    bump = x[:, None, None] * y[:, None] * z
    return bump / bump.mean() * _ELECTRONS / _EDGE**3


def _block(values: np.ndarray) -> bytes:
    numbers = [f"{value:.10E}" for value in values.ravel(order="F")]
    lines = [" ".join(numbers[at : at + 5]) for at in range(0, len(numbers), 5)]
    return "\n".join([" ".join(map(str, _GRID)), *lines]).encode() + b"\n"


def _chgcar(values: np.ndarray) -> bytes:
    head = f"made here\n1.0\n{_EDGE} 0 0\n0 {_EDGE} 0\n0 0 {_EDGE}\nAl\n1\nDirect\n0 0 0\n\n"
    return head.encode() + _block(values * _EDGE**3) + b"augmentation occupancies 1 2\n0.1 0.2\n"


def _cube(values: np.ndarray) -> bytes:
    edge = _EDGE / _BOHR
    lines = ["made here", "density", "1 0 0 0"]
    for axis, n in enumerate(_GRID):
        step = [0.0, 0.0, 0.0]
        step[axis] = edge / n
        lines.append(f"{n} " + " ".join(f"{x:.9f}" for x in step))
    lines.append("13 3.0 0 0 0")
    lines += [f"{value * _BOHR**3:.9E}" for value in values.ravel()]
    return "\n".join(lines).encode() + b"\n"


def _xsf(values: np.ndarray) -> bytes:
    vectors = [" ".join(f"{x:.6f}" for x in row) for row in _EDGE * np.eye(3)]
    closed = np.pad(values * _BOHR**3, ((0, 1),) * 3, mode="wrap")
    lines = ["CRYSTAL", "PRIMVEC", *vectors, "PRIMCOORD", "1 1", "13 0 0 0"]
    lines += ["BEGIN_BLOCK_DATAGRID_3D", "grids", "BEGIN_DATAGRID_3D_rho"]
    lines += [" ".join(map(str, closed.shape)), "0 0 0", *vectors]
    lines += [f"{value:.9E}" for value in closed.ravel(order="F")]
    lines += ["END_DATAGRID_3D", "END_BLOCK_DATAGRID_3D"]
    return "\n".join(lines).encode() + b"\n"


def _document(values: np.ndarray) -> bytes:
    from pymatgen.core import Structure

    structure = Structure(_EDGE * np.eye(3), ["Al"], [[0, 0, 0]])
    chgcar = {
        "@class": "Chgcar",
        "poscar": {"structure": structure.as_dict()},
        "data": {"total": (values * _EDGE**3).tolist()},
    }
    return json.dumps({"task_id": "mp-1", "data": chgcar}).encode()


def _netcdf(values: np.ndarray) -> bytes:
    from netCDF4 import Dataset

    content = {
        "primitive_vectors": _EDGE / _BOHR * np.eye(3),
        "reduced_atom_positions": np.zeros((1, 3)),
        "atom_species": np.array([1]),
        "atomic_numbers": np.array([13.0]),
        "density": values.T[None, ..., None] * _BOHR**3,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.nc"
        with Dataset(str(path), "w") as file:
            for name, array in content.items():
                axes = [f"{name}_{axis}" for axis in range(array.ndim)]
                for axis, size in zip(axes, array.shape, strict=True):
                    file.createDimension(axis, size)
                file.createVariable(name, array.dtype, axes)[:] = array
        return path.read_bytes()


def _hdf5(values: np.ndarray) -> bytes:
    import h5py

    content = {
        "structure/positions/ion_types": [b"Al"],
        "structure/positions/number_ion_types": [1],
        "structure/positions/scale": 1.0,
        "structure/positions/lattice_vectors": _EDGE * np.eye(3),
        "structure/positions/position_ions": np.zeros((1, 3)),
        "structure/positions/direct_coordinates": 1,
        "charge/grid": _GRID,
        "charge/charge": values.T[None] * _EDGE**3,
    }
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, value in content.items():
            file[name] = value
    return buffer.getvalue()


def _siesta(values: np.ndarray) -> bytes:
    def record(array: np.ndarray) -> bytes:
        content = array.tobytes()
        length = np.int32(len(content)).tobytes()
        return length + content + length

    content = record(_EDGE / _BOHR * np.eye(3)) + record(np.array([*_GRID, 1], "<i4"))
    for row in (values.T * _BOHR**3).astype("<f4").reshape(-1, _GRID[0]):
        content += record(row)
    return content


def _zip(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _tar(contents: dict[str, bytes], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _packed_by_packages(chgcar: bytes) -> dict[str, bytes]:
    import lz4.frame
    import zstandard

    return {
        "zst_CHGCAR.zst": zstandard.compress(chgcar),
        "lz4_CHGCAR.lz4": lz4.frame.compress(chgcar),
    }
