"""Tests that every density reader must pass, for plug-ins too, and other descriptions of one crystal.

    from taskgroup.densities.testing import FileReaderConformance

    class TestMyReader(FileReaderConformance):
        reader = MyReader()

        @pytest.fixture
        def example(self, tmp_path):                # a small valid file
            ...
            return path, 8.0                        # and the electrons in it

Needs pytest, so nothing in taskgroup imports this module; ``equivalent_descriptions`` alone is in ``descriptions``.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from taskgroup.densities.density import Density
from taskgroup.densities.descriptions import equivalent_descriptions
from taskgroup.densities.reader import Reader
from taskgroup.errors import DensityError

__all__ = ["FileReaderConformance", "ReaderConformance", "equivalent_descriptions"]


class ReaderConformance:
    """For readers of anything: set ``reader`` and the fixture ``example``, a pair (source, number of electrons)."""

    reader: Reader

    def test_it_has_a_name_for_messages(self) -> None:
        assert isinstance(self.reader, Reader)
        assert self.reader.name.strip()

    def test_it_takes_its_example_and_nothing_else(self, example: tuple[Any, float]) -> None:
        assert self.reader.suits(example[0])
        for foreign in (Path("README.md"), Path("properties.csv"), 3, None, object()):
            assert not self.reader.suits(foreign)

    def test_the_integral_is_the_electron_count(self, example: tuple[Any, float]) -> None:
        source, electrons = example
        density = self.reader.read(source)
        assert isinstance(density, Density)
        assert density.charge == pytest.approx(electrons, abs=1e-3, rel=2e-5)
        assert density.charge == pytest.approx(
            density.values[0].sum() * density.volume / density.values[0].size
        )

    def test_reading_twice_gives_the_same(self, example: tuple[Any, float]) -> None:
        first = self.reader.read(example[0])
        second = self.reader.read(example[0])
        np.testing.assert_array_equal(first.values, second.values)
        assert first.species == second.species

    def test_the_density_names_its_source(self, example: tuple[Any, float]) -> None:
        assert self.reader.read(example[0]).source not in ("", "memory")


class FileReaderConformance(ReaderConformance):
    """For readers of files: damaged files must be refused in one line that names them. ``example[0]`` is a Path."""

    @pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
    def test_a_truncated_file_is_refused(self, example: tuple[Path, float], share: float) -> None:
        content = example[0].read_bytes()
        self._refused(example[0], content[: int(share * len(content))])

    @pytest.mark.parametrize(
        "content", [b"", b"\n\n", bytes(range(256)) * 20, b"not a density\n" * 50]
    )
    def test_an_empty_or_foreign_file_is_refused(
        self, example: tuple[Path, float], content: bytes
    ) -> None:
        self._refused(example[0], content)

    def test_a_missing_file_is_refused(self, example: tuple[Path, float]) -> None:
        example[0].unlink()
        with pytest.raises(DensityError, match="no such file"):
            self.reader.read(example[0])

    def _refused(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        with pytest.raises(DensityError) as caught:
            self.reader.read(path)
        message = str(caught.value)
        assert path.name in message
        assert "\n" not in message
