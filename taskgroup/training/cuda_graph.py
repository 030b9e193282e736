"""Work on a GPU recorded once and replayed, as a CUDA graph.

A step of a small network is hundreds of operations, each over before the host has asked for the next. Replayed, they
are asked for once. Environment variable TASKGROUP_CUDA_GRAPHS=0 turns it off.
"""

import contextlib
import gc
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_log = logging.getLogger(__name__)
_SPARE = (
    1.2  # times the memory a call took that must be free for a recording, which keeps what it takes
)


@dataclass
class _Recording:
    """A graph, the tensors it reads and the one it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    output: Tensor


class CudaGraphCallable:
    """A function of tensors to a tensor; on a GPU replayed from its second call with inputs of the same shapes on.

    The first such call runs as written: libraries choose their kernels, an optimiser makes its state. The second is
    recorded. Where it cannot be (it waits for the device) or memory has no room, all calls run as written.

    What the function touches beside its inputs, tables it keeps included, must stay where it is in memory. It runs on
    the caller's stream, which must not be the default one. The output is overwritten by the next call.

    Parameters
    ----------
    function: leaves all it does on the device.
    device: where. Elsewhere than on a GPU every call runs as written.
    generators: random generators it draws from beside the default one.
    pool: of memory, shared with other recordings that are never replayed at the same time; see ``memory_pool``.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        device: torch.device,
        generators: Sequence[torch.Generator] = (),
        pool: tuple[int, int] | None = None,
    ) -> None:
        self._function, self._device, self._generators, self._pool = (
            function,
            device,
            generators,
            pool,
        )
        self._on = records(device)
        self._recordings: dict[tuple[torch.Size, ...], _Recording | None] = {}
        self.memory = 0  # bytes that the largest call took while it ran

    def __call__(self, *inputs: Tensor) -> Tensor:
        """What the function gives."""
        if not self._on:
            return self._function(*inputs)
        key = tuple(tensor.shape for tensor in inputs)
        if key not in self._recordings:
            return self._first(key, inputs)
        if self._recordings[key] is None and not self._record(key, inputs):
            return self._function(*inputs)
        recording = self._recordings[key]
        for kept, tensor in zip(recording.inputs, inputs, strict=True):
            kept.copy_(tensor)
        recording.graph.replay()
        return recording.output

    def _first(self, key: tuple[torch.Size, ...], inputs: tuple[Tensor, ...]) -> Tensor:
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        output = self._function(*inputs)
        self.memory = max(self.memory, torch.cuda.max_memory_allocated(self._device) - before)
        torch.cuda.current_stream(
            self._device
        ).synchronize()  # tables it made and keeps serve other streams too
        self._recordings[key] = None
        return output

    def _record(self, key: tuple[torch.Size, ...], inputs: tuple[Tensor, ...]) -> bool:
        """Whether it could be recorded; once it could not, it is not tried again."""
        if not _has_room(self._device, _SPARE * self.memory):
            self._on = False
            return False
        graph, kept = torch.cuda.CUDAGraph(), tuple(tensor.clone() for tensor in inputs)
        for generator in self._generators:
            graph.register_generator_state(generator)
        try:
            with _no_collection():
                graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
                try:
                    output = self._function(*kept)
                finally:
                    graph.capture_end()
        except RuntimeError as error:  # OutOfMemoryError is one
            self._on = False
            _log.warning(
                "not recorded as a CUDA graph, slower: %s",
                str(error.__context__ or error).partition("\n")[0],
            )
            for generator in (
                *self._generators,
                torch.cuda.default_generators[kept[0].device.index],
            ):
                generator.graphsafe_set_state(
                    generator.clone_state()
                )  # the old one waits for the recording's end
            return False
        self._recordings[key] = _Recording(graph, kept, output)
        return True

    def forget(self) -> None:
        """Free the memory of the recordings; later calls run as written."""
        self._on = False
        self._recordings.clear()


def records(device: torch.device) -> bool:
    """Whether work on a device is recorded."""
    return device.type == "cuda" and os.environ.get("TASKGROUP_CUDA_GRAPHS", "1") != "0"


def memory_pool(device: torch.device) -> tuple[int, int] | None:
    """Memory for recordings that are never replayed at the same time."""
    return torch.cuda.graph_pool_handle() if records(device) else None


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Without garbage collection: to free another graph spoils a recording."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _has_room(device: torch.device, needed: float) -> bool:
    """Whether the device has so many bytes free, if need be after the allocator has given back what it keeps."""
    if torch.cuda.mem_get_info(device)[0] < needed:
        torch.cuda.empty_cache()
    return torch.cuda.mem_get_info(device)[0] >= needed
