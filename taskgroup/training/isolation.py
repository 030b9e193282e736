"""Isolation of a fit: a random state and, on a GPU, a CUDA stream of its own."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor


class Isolation:
    """The random state and CUDA stream of one fit, in force inside ``active``; the process's own are so outside.

    Fits that take turns therefore give what they would give alone, and on a GPU several are computed at the same time.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.random = RandomState(seed, device)
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._device = device

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Work on the fit's stream with its random state."""
        with self.on_stream(), self.random:
            yield

    @contextlib.contextmanager
    def on_stream(self) -> Iterator[None]:
        """Work on the fit's stream, after what the caller's stream has been asked for so far."""
        if self.stream is None:
            yield
            return
        self.stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self.stream):
            yield

    def synchronise(self) -> None:
        """Wait for the fit's stream, so that other streams may read what it made."""
        if self.stream is not None:
            self.stream.synchronize()


class RandomState:
    """A global random state of its own (dropout, torchjd): in force inside ``with``, the process's own outside.

    On a GPU a generator of its own takes the place of the default one, since recordings draw from the generator they
    were made with.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._cuda_generator = None
        if device.type == "cuda":
            self._cuda_generator = torch.Generator(device).manual_seed(seed)
        outside = torch.get_rng_state()
        torch.default_generator.manual_seed(seed)
        self._cpu_state = torch.get_rng_state()
        torch.set_rng_state(outside)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state, for a checkpoint; taken outside of ``with``."""
        states = {"cpu": self._cpu_state}
        if self._cuda_generator is not None:
            states["cuda"] = self._cuda_generator.get_state()
        return states

    def restore(self, states: dict[str, Tensor]) -> None:
        """Undo ``tensors``."""
        if self._cuda_generator is not None:
            self._cuda_generator.set_state(states["cuda"])
        self._cpu_state = states["cpu"]

    def __enter__(self) -> None:
        self._outside_cpu_state = torch.get_rng_state()
        torch.set_rng_state(self._cpu_state)
        if self._cuda_generator is not None:
            index = self._cuda_generator.device.index or 0
            self._default_generator = torch.cuda.default_generators[index]
            self._outside_cuda_state = self._default_generator.graphsafe_get_state()
            self._default_generator.graphsafe_set_state(self._cuda_generator)

    def __exit__(self, *_: object) -> None:
        self._cpu_state = torch.get_rng_state()
        torch.set_rng_state(self._outside_cpu_state)
        if self._cuda_generator is not None:
            # A failed recording gives the default generator another state, so it is read back.
            inside = self._default_generator.graphsafe_get_state()
            self._cuda_generator.graphsafe_set_state(inside)
            self._default_generator.graphsafe_set_state(self._outside_cuda_state)
