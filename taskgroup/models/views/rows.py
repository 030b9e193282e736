"""Prepared rows: what a view makes of a batch of densities, as named tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# A tensor with this many axes is a grid [B, C, n, n, n]. Grids lie channels last in memory, as convolutions and the
# gather of whole grid points want them.
_GRID_AXES = 5


@dataclass(frozen=True, eq=False)
class PreparedRows:
    """Named tensors that describe the same B crystals: the first axis of each is the crystal.

    >>> import torch
    >>> rows = PreparedRows.of(statistics=torch.zeros(4, 7), peaks=torch.zeros(4, 2, 3))
    >>> len(rows), rows["peaks"].shape, "grid" in rows
    (4, torch.Size([4, 2, 3]), False)
    >>> rows[1:3]["statistics"].shape
    torch.Size([2, 7])

    A string as index gives a tensor, anything else picks crystals. ``tensors`` is the flat form, for whatever can hold
    a tuple of tensors only (a CUDA graph, a file); ``with_tensors`` undoes it.

    Names that the views of taskgroup use: ``grid`` [B, C', n, n, n], ``statistics`` [B, D], ``peaks`` [B, K, columns],
    ``nearness`` [B, K, distances, K], ``positions`` [B, K, 3].
    """

    names: tuple[str, ...]
    tensors: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.tensors) or not self.names:
            raise ValueError(
                f"prepared rows: one tensor per name and at least one are needed, "
                f"found {len(self.tensors)} tensors for {list(self.names)}"
            )

    @classmethod
    def of(cls, **tensors: Tensor) -> PreparedRows:
        """Return rows of tensors given by name."""
        return cls(tuple(tensors), tuple(tensors.values()))

    def with_tensors(self, tensors: tuple[Tensor, ...]) -> PreparedRows:
        """Return rows of the same names that hold other tensors, in the order of ``names``."""
        return PreparedRows(self.names, tuple(tensors))

    def map(self, function: Callable[[Tensor], Tensor]) -> PreparedRows:
        """Return rows of the same names with a function applied to each tensor."""
        return self.with_tensors(tuple(function(tensor) for tensor in self.tensors))

    def replace(self, **tensors: Tensor) -> PreparedRows:
        """Return rows in which some tensors are others, or are added."""
        return PreparedRows.of(**dict(self.items()) | tensors)

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Yield names with their tensors."""
        return zip(self.names, self.tensors, strict=True)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __len__(self) -> int:
        return self.tensors[0].shape[0]

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, str):
            return self.map(lambda tensor: tensor[index])
        if index not in self.names:
            raise KeyError(f"prepared rows: no tensor '{index}', found {list(self.names)}")
        return self.tensors[self.names.index(index)]

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.tensors[0].device

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> PreparedRows:
        """Return the rows on a device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def take(self, chosen: Tensor, out: PreparedRows | None = None) -> PreparedRows:
        """Return the rows of these numbers, int64 [B], in one gather per tensor.

        ``out`` is memory for the result, with at least B rows (``empty_rows``): it saves an allocation.
        """
        if out is None:
            return self.map(lambda tensor: gather_rows(tensor, chosen, None))
        pairs = zip(self.tensors, out.tensors, strict=True)
        return self.with_tensors(tuple(gather_rows(source, chosen, room) for source, room in pairs))

    def empty_rows(self, count: int) -> PreparedRows:
        """Return uninitialised memory for so many rows of this kind, on the same device."""

        def empty(tensor: Tensor) -> Tensor:
            shape = channels_last(tensor).shape
            return channels_first(tensor.new_empty(count, *shape[1:]))

        return self.map(empty)


def channels_last(tensor: Tensor) -> Tensor:
    """Return a grid [B, C, n, n, n] as [B, n, n, n, C], a view; other tensors as they are."""
    return tensor.movedim(1, -1) if tensor.ndim == _GRID_AXES else tensor


def channels_first(tensor: Tensor) -> Tensor:
    """Return a grid [B, n, n, n, C] as [B, C, n, n, n], a view; other tensors as they are."""
    return tensor.movedim(-1, 1) if tensor.ndim == _GRID_AXES else tensor


def gather_rows(source: Tensor, chosen: Tensor, room: Tensor | None) -> Tensor:
    """Return the rows of one tensor with these numbers, written to the first rows of ``room`` if there is any."""
    out = None if room is None else channels_last(room)[: len(chosen)]
    return channels_first(torch.index_select(channels_last(source), 0, chosen, out=out))
