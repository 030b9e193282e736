"""Compressed files by content, archives member by member, and what is too large or damaged."""

import bz2
import gzip
import io
import json
import lzma
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pymatgen.io.vasp.outputs import Chgcar, Locpot

from taskgroup.densities import (
    Density,
    bare_name,
    density_members,
    is_archive,
    is_archive_name,
    members,
    read_density,
)
from taskgroup.densities import compression as compression_module
from taskgroup.densities.compression import compression_of, decompress
from taskgroup.densities.formats.mp_json import JsonReader
from taskgroup.densities.testing import FileReaderConformance
from taskgroup.errors import DensityError, MissingDependency

from .conftest import chgcar_text
from .test_read import cube_text


def packed_zip(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("density", content)
    return buffer.getvalue()


def packed_zstd(content: bytes) -> bytes:
    return pytest.importorskip("zstandard").compress(content)


def packed_lz4(content: bytes) -> bytes:
    return pytest.importorskip("lz4.frame").compress(content)


def packed_lzw(content: bytes) -> bytes:
    """What ``compress -b 9`` writes: codes of nine bits, and a clear code each time the table is full."""
    pytest.importorskip("unlzw3")
    clear, first_free, table_size = 256, 257, 512
    codes: list[int] = []
    table: dict[bytes, int] = {}
    prefix = b""
    next_code = first_free
    for value in content:
        longer = prefix + bytes([value])
        if len(longer) == 1 or longer in table:
            prefix = longer
            continue
        codes.append(table.get(prefix, prefix[0]))
        prefix = bytes([value])
        if next_code < table_size:
            table[longer] = next_code
            next_code += 1
        if next_code == table_size:
            codes.append(clear)
            # Codes come in groups of eight: after a clear code the group is filled up.
            codes += [0] * (-len(codes) % 8)
            table.clear()
            next_code = first_free
    codes.append(table.get(prefix, prefix[0]))
    bits = 0
    for place, code in enumerate(codes):
        bits |= code << (9 * place)
    n_bytes = (9 * len(codes) + 7) // 8
    return b"\x1f\x9d" + bytes([0x80 | 9]) + bits.to_bytes(n_bytes, "little")


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".lzma": lambda content: lzma.compress(content, format=lzma.FORMAT_ALONE),
    ".zz": zlib.compress,
    ".zip": packed_zip,
    ".zst": packed_zstd,
    ".lz4": packed_lz4,
}


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("claimed", [None, "", ".gz", ".zst"])
def test_the_content_decides_and_not_the_name(
    salt: Density, tmp_path: Path, suffix: str, claimed: str | None
) -> None:
    path = tmp_path / f"CHGCAR{suffix if claimed is None else claimed}"
    path.write_bytes(PACKERS[suffix](chgcar_text(salt).encode()))
    np.testing.assert_allclose(read_density(path).values, salt.values, rtol=1e-9)


def test_a_file_of_compress_is_read(salt: Density, tmp_path: Path) -> None:
    path = tmp_path / "CHGCAR.Z"
    path.write_bytes(packed_lzw(chgcar_text(salt).encode()))
    np.testing.assert_allclose(read_density(path).values, salt.values, rtol=1e-9)


def test_two_layers_are_read(salt: Density, tmp_path: Path) -> None:
    path = tmp_path / "CHGCAR.zz.gz"
    path.write_bytes(gzip.compress(zlib.compress(chgcar_text(salt).encode())))
    assert read_density(path).charge == pytest.approx(8)


@pytest.mark.parametrize("suffix", [suffix for suffix in PACKERS if suffix])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.97])
def test_truncated_files_are_refused(
    salt: Density, tmp_path: Path, suffix: str, share: float
) -> None:
    content = PACKERS[suffix](chgcar_text(salt).encode())
    path = tmp_path / f"CHGCAR{suffix}"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DensityError, match="CHGCAR") as caught:
        read_density(path)
    assert "\n" not in str(caught.value)


def test_names_lose_the_endings_of_compression() -> None:
    for suffix in (*PACKERS, ".Z", ".zstd"):
        assert bare_name(Path(f"mp-1.cube{suffix}")) == "mp-1.cube"
    assert bare_name(Path("mp-1.cube.zz.gz")) == "mp-1.cube"
    assert bare_name(Path("mp-1.z12")) == "mp-1.z12"
    assert bare_name(3) is None
    assert compression_of(b"unknown system") is None
    assert decompress(b"plain", "memory") == b"plain"


@pytest.mark.parametrize(("suffix", "package"), [(".zst", "zstandard"), (".lz4", "lz4")])
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, suffix: str, package: str
) -> None:
    path = tmp_path / f"CHGCAR{suffix}"
    path.write_bytes(PACKERS[suffix](b"whatever"))
    for name in (package, "lz4.frame"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency, match=f"pip install {package}"):
        read_density(path)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, zlib.compress, packed_zip])
def test_a_small_file_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(compression_module, "_UNSUSPICIOUS_BYTES", 2**20)
    path = tmp_path / "CHGCAR"
    path.write_bytes(pack(bytes(64 * 2**20)))
    with pytest.raises(DensityError, match=r"hold at most 1[0-9]* MB uncompressed, found more"):
        read_density(path)


@pytest.fixture(params=[".tar", ".tar.gz", ".tar.zst", ".tgz", ".zip"])
def archive(request: pytest.FixtureRequest, salt: Density, tmp_path: Path) -> Path:
    """Three densities, packed in different ways, and files that are none."""
    contents = {
        "set/README.md": b"no density",
        "set/a.CHGCAR.lz4": packed_lz4(chgcar_text(salt).encode()),
        "set/b.cube.zz": zlib.compress(cube_text(salt).encode()),
        "set/c/CHGCAR": chgcar_text(salt).encode(),
        "set/info.json": b'{"a": 1}',
    }
    path = tmp_path / f"densities{request.param}"
    if request.param == ".zip":
        with zipfile.ZipFile(path, "w") as target:
            for name, content in contents.items():
                target.writestr(name, content)
        return path
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as target:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            target.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("set/link_CHGCAR")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        target.addfile(link)
    pack = {".tar": bytes, ".tar.zst": packed_zstd}.get(request.param, gzip.compress)
    path.write_bytes(pack(buffer.getvalue()))
    return path


class TestArchives:
    def test_the_densities_come_one_by_one(self, archive: Path) -> None:
        assert is_archive(archive)
        found = {member.name: read_density(member) for member in density_members(archive)}
        assert list(found) == ["set/a.CHGCAR.lz4", "set/b.cube.zz", "set/c/CHGCAR"]
        for name, density in found.items():
            assert density.charge == pytest.approx(8, abs=1e-3)
            assert density.source == f"{archive}/{name}"

    def test_all_files_come_without_a_condition(self, archive: Path) -> None:
        names = [member.name for member in members(archive)]
        assert names[0] == "set/README.md"
        assert len(names) == 5
        assert not any("link" in name for name in names)

    def test_reading_it_as_one_density_is_refused(self, archive: Path) -> None:
        with pytest.raises(DensityError, match=r"hold one(, found set/a| file, found 5)|no reader"):
            read_density(archive)

    def test_a_truncated_one_is_refused_after_its_whole_members(self, archive: Path) -> None:
        archive.write_bytes(archive.read_bytes()[:-6000])
        with pytest.raises(DensityError, match=archive.name):
            [read_density(member) for member in density_members(archive)]


def test_an_archive_of_one_density_is_read_as_it(salt: Density, tmp_path: Path) -> None:
    path = tmp_path / "one.tar.gz"
    source = tmp_path / "CHGCAR"
    source.write_text(chgcar_text(salt))
    with tarfile.open(path, "w:gz") as target:
        target.add(source, "mp-1/CHGCAR")
    assert read_density(path).charge == pytest.approx(8)


def test_a_header_that_promises_gigabytes_is_refused(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("CHGCAR")
    entry.size = 3 * 1024**3
    path = tmp_path / "bomb.tar"
    path.write_bytes(entry.tobuf() + bytes(2048))
    with pytest.raises(DensityError, match="must hold at most 2048 MB, found 3072 MB"):
        list(members(path))


def test_other_files_are_no_archives(salt: Density, tmp_path: Path) -> None:
    for name, content in (("a", b""), ("b", b"text"), ("c", gzip.compress(b"text"))):
        (tmp_path / name).write_bytes(content)
        assert not is_archive(tmp_path / name)
        with pytest.raises(DensityError, match=name):
            list(members(tmp_path / name))
    with pytest.raises(DensityError, match="no such file"):
        is_archive(tmp_path / "none")
    with pytest.raises(DensityError, match="no such file"):
        list(members(tmp_path / "none"))
    assert all(map(is_archive_name, ("x.tar", "x.tar.gz", "x.tgz", "X.TAR.ZST")))
    assert not is_archive_name("tar.CHGCAR")


def chgcar_document(salt: Density, n_channels: int = 2) -> dict:
    blocks = dict(zip(("total", "diff"), salt.values * salt.volume, strict=True))
    if n_channels == 1:
        del blocks["diff"]
    return json.loads(Chgcar(salt.structure, blocks).to_json())


class TestJsonReader(FileReaderConformance):
    reader = JsonReader()

    @pytest.fixture(params=["bucket", "bare"])
    def example(
        self, request: pytest.FixtureRequest, salt: Density, tmp_path: Path
    ) -> tuple[Path, float]:
        document = chgcar_document(salt)
        if request.param == "bucket":
            document = {"task_id": "mp-1", "data": document}
        path = tmp_path / "mp-1.json"
        path.write_text(json.dumps(document))
        return path, 8.0


def test_documents_of_the_materials_project_are_read(salt: Density, tmp_path: Path) -> None:
    document = {"task_id": "mp-1", "data": chgcar_document(salt)}
    path = tmp_path / "mp-1.json.gz"
    path.write_bytes(gzip.compress(json.dumps(document).encode()))
    for source in (path, document, document["data"]):
        density = read_density(source)
        np.testing.assert_allclose(density.values, salt.values, rtol=1e-9)
        np.testing.assert_allclose(density.lattice, salt.lattice, atol=1e-9)
        assert density.species == ("Na", "Cl")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda chgcar: [chgcar],
        lambda chgcar: {"material_id": "mp-1", "chgcar": chgcar},
        lambda chgcar: {"fs_id": "1", "compression": "zlib", "data": {"data": chgcar}},
    ],
)
def test_documents_may_wrap_the_density(salt: Density, tmp_path: Path, wrap: Callable) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(wrap(chgcar_document(salt))))
    assert read_density(path).charge == pytest.approx(8)


def test_the_pair_of_the_api_is_read(salt: Density) -> None:
    total = salt.values[0] * salt.volume
    chgcar = Chgcar(salt.structure, {"total": total})
    assert read_density((chgcar, {"task_id": "mp-1"})).charge == pytest.approx(8)
    assert read_density((chgcar, object())).charge == pytest.approx(8)


def test_documents_of_other_things_are_refused(salt: Density, tmp_path: Path) -> None:
    potential = json.loads(Locpot(salt.structure, {"total": salt.values[0]}).to_json())
    with pytest.raises(DensityError, match="must hold a charge density, found a Locpot"):
        read_density(potential)
    path = tmp_path / "x.json"
    for content in ('{"a": "Chgcar"}', '["Chgcar"]', '{"data": {"@class": "Chgcar"}}', '"Chgcar'):
        path.write_text(content)
        with pytest.raises(DensityError, match=r"x\.json"):
            read_density(path)
    with pytest.raises(DensityError, match="dict: no reader suits it"):
        read_density({"a": 1})


def test_no_class_of_a_document_is_made(salt: Density, tmp_path: Path) -> None:
    document = chgcar_document(salt) | {"@module": "os", "@class": "Chgcar"}
    document["data"] |= {"diff": {"@module": "os", "@class": "system", "data": [[[1]]]}}
    with pytest.raises(DensityError, match="all blocks must have the grid of the first"):
        read_density(document)
