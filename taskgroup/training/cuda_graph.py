"""CUDA graphs: work on a GPU recorded once and replayed.

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

# A recording keeps the memory that the call took; a fifth is left for what other work takes meanwhile.
_MEMORY_FACTOR = 1.2

_Shapes = tuple[torch.Size, ...]


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

    Attributes
    ----------
    memory: bytes that the largest call took while it ran; 0 where nothing is recorded.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        device: torch.device,
        generators: Sequence[torch.Generator] = (),
        pool: tuple[int, int] | None = None,
    ) -> None:
        self._function = function
        self._device = device
        self._generators = generators
        self._pool = pool
        self._is_on = records(device)
        self._called_once: set[_Shapes] = set()
        self._recordings: dict[_Shapes, _Recording] = {}
        self.memory = 0

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return what the function returns."""
        if not self._is_on:
            return self._function(*inputs)
        shapes = tuple(tensor.shape for tensor in inputs)
        if shapes not in self._called_once:
            output = self._run_and_measure(inputs)
            self._called_once.add(shapes)
            return output
        if shapes not in self._recordings and not self._record(shapes, inputs):
            return self._function(*inputs)
        recording = self._recordings[shapes]
        for recorded_input, tensor in zip(recording.inputs, inputs, strict=True):
            recorded_input.copy_(tensor)
        recording.graph.replay()
        return recording.output

    def _run_and_measure(self, inputs: tuple[Tensor, ...]) -> Tensor:
        memory_before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        output = self._function(*inputs)
        memory = torch.cuda.max_memory_allocated(self._device) - memory_before
        self.memory = max(self.memory, memory)
        # Tables that the function made and keeps are read on other streams too.
        torch.cuda.current_stream(self._device).synchronize()
        return output

    def _record(self, shapes: _Shapes, inputs: tuple[Tensor, ...]) -> bool:
        """Record a call; return False where that failed, after which no other is tried."""
        if not _has_room(self._device, _MEMORY_FACTOR * self.memory):
            self._is_on = False
            return False
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        recorded_inputs = tuple(tensor.clone() for tensor in inputs)
        try:
            output = self._capture(graph, recorded_inputs)
        except RuntimeError as error:  # OutOfMemoryError is one
            self._is_on = False
            reason = str(error.__context__ or error).partition("\n")[0]
            _log.warning("not recorded as a CUDA graph, slower: %s", reason)
            self._free_generators(recorded_inputs[0].device)
            return False
        self._recordings[shapes] = _Recording(graph, recorded_inputs, output)
        return True

    def _capture(self, graph: torch.cuda.CUDAGraph, inputs: tuple[Tensor, ...]) -> Tensor:
        with _no_garbage_collection():
            # Other threads may use the device meanwhile.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                return self._function(*inputs)
            finally:
                graph.capture_end()

    def _free_generators(self, device: torch.device) -> None:
        """Give generators a new state after a failed recording: the old one waits for the recording's end."""
        default = torch.cuda.default_generators[device.index]
        for generator in (*self._generators, default):
            generator.graphsafe_set_state(generator.clone_state())

    def forget(self) -> None:
        """Free the memory of the recordings; later calls run as written."""
        self._is_on = False
        self._recordings.clear()


def records(device: torch.device) -> bool:
    """Return whether work on a device is recorded."""
    return device.type == "cuda" and os.environ.get("TASKGROUP_CUDA_GRAPHS", "1") != "0"


def memory_pool(device: torch.device) -> tuple[int, int] | None:
    """Return a memory pool for recordings that are never replayed at the same time."""
    return torch.cuda.graph_pool_handle() if records(device) else None


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep Python from collecting garbage: to free another graph spoils a recording."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _has_room(device: torch.device, needed: float) -> bool:
    """Return whether the device has so many bytes free, if need be after the allocator has given back what it keeps."""
    if torch.cuda.mem_get_info(device)[0] < needed:
        torch.cuda.empty_cache()
    return torch.cuda.mem_get_info(device)[0] >= needed
