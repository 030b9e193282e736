"""Prepared rows: names, crystals, the flat form, and the layout of grids in memory."""

import pytest
import torch

from taskgroup.models import PreparedRows
from taskgroup.models.views.rows import channels_last


@pytest.fixture
def rows():
    grid = torch.arange(5 * 3 * 8.0).view(5, 3, 2, 2, 2)
    return PreparedRows.of(grid=grid, statistics=torch.arange(10.0).view(5, 2))


def test_a_name_gives_a_tensor_and_anything_else_crystals(rows):
    assert len(rows) == 5
    assert rows.names == ("grid", "statistics")
    assert rows["statistics"].shape == (5, 2)
    assert "grid" in rows
    assert "peaks" not in rows
    for index in (slice(1, 3), torch.tensor([4, 0]), [2, 2]):
        part = rows[index]
        assert len(part) == 2
        assert torch.equal(part["grid"], rows["grid"][index])


def test_an_unknown_name_is_refused_with_those_there_are(rows):
    with pytest.raises(KeyError, match=r"no tensor 'peaks', found \['grid', 'statistics'\]"):
        rows["peaks"]


def test_names_and_tensors_must_go_together():
    with pytest.raises(ValueError, match="found 0 tensors"):
        PreparedRows(("grid",), ())
    with pytest.raises(ValueError, match="at least one"):
        PreparedRows((), ())


def test_the_flat_form_and_back(rows):
    twin = rows.with_tensors(rows.tensors)
    assert twin.names == rows.names
    assert all(a is b for a, b in zip(twin.tensors, rows.tensors, strict=True))
    assert rows.map(torch.zeros_like)["grid"].sum() == 0
    assert rows.nbytes == 4 * (5 * 3 * 8 + 10)


def test_rows_cannot_be_changed_in_place(rows):
    with pytest.raises(AttributeError):
        rows.names = ()
    assert torch.equal(rows.replace(statistics=torch.zeros(5, 1))["grid"], rows["grid"])
    assert rows["statistics"].shape == (5, 2)


def test_taken_rows_lie_channels_last_and_fill_the_memory_given(rows):
    chosen = torch.tensor([3, 3, 0])
    room = rows.empty_rows(4)
    for taken in (rows.take(chosen), rows.take(chosen, room)):
        assert torch.equal(taken["grid"], rows["grid"][chosen])
        assert torch.equal(taken["statistics"], rows["statistics"][chosen])
        assert channels_last(taken["grid"]).is_contiguous()
    assert taken["grid"].data_ptr() == room["grid"].data_ptr()
    assert taken["statistics"].data_ptr() == room["statistics"].data_ptr()
