"""A network in one file: safetensors weights, and in their metadata the JSON that rebuilds it. Nothing is executed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from taskgroup import __version__
from taskgroup.errors import BundleError, InputError
from taskgroup.models import MultiTaskNetwork, migrate_state

# How many names of weights an error message lists.
_SHOWN_NAMES = 3


def write_network(path: str | Path, network: MultiTaskNetwork) -> None:
    """Write weights and description of a network, with the version that wrote it."""
    weights = {}
    for name, tensor in network.state_dict().items():
        weights[name] = tensor.detach().cpu().contiguous()
    metadata = {"network": json.dumps(network.to_dict()), "taskgroup": __version__}
    save_file(weights, path, metadata=metadata)


def read_network(path: str | Path) -> MultiTaskNetwork:
    """Return the network in a file, in evaluation mode on the CPU.

    Raises BundleError: the file is damaged, or its network is one that this version cannot build.
    """
    metadata: Mapping[str, str] = {}
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            description = json.loads(metadata["network"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        return _build(description, weights).eval()
    except (
        SafetensorError,
        OSError,
        KeyError,
        TypeError,
        RuntimeError,
        InputError,
        ValueError,
    ) as error:
        # Files of versions that did not write their number are of 0.1.0 or before.
        writer = metadata.get("taskgroup", "0.1.0 or older")
        raise BundleError(
            f"{path}: must hold a network this version can build, but {_reason(error)}. It was written by taskgroup "
            f"{writer}, this is {__version__}: install that version, or run the study again and export it"
        ) from error


def _build(description: dict[str, Any], weights: dict[str, Tensor]) -> MultiTaskNetwork:
    # First weights are drawn at random and then replaced; the caller's random numbers must not move by it.
    with torch.random.fork_rng(devices=[]):
        network = MultiTaskNetwork.from_dict(description)
    weights = migrate_state(weights)
    difference = _weights_difference(network.state_dict(), weights)
    if difference:
        raise BundleError(difference)
    network.load_state_dict(weights)
    return network


def _weights_difference(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Return in words how the weights of a file differ from those a network has; empty where they fit."""
    missing = sorted(expected.keys() - found.keys())
    if missing:
        return f"it lacks the weights {_listed(missing)}"
    unknown = sorted(found.keys() - expected.keys())
    if unknown:
        return f"it has unknown weights {_listed(unknown)}"
    for name, tensor in expected.items():
        if tensor.shape != found[name].shape:
            shapes = f"{list(found[name].shape)} instead of {list(tensor.shape)}"
            return f"its weights {name} have the shape {shapes}"
    return ""


def _listed(names: list[str]) -> str:
    text = ", ".join(names[:_SHOWN_NAMES])
    if len(names) > _SHOWN_NAMES:
        text += f" and {len(names) - _SHOWN_NAMES} more"
    return text


def _reason(error: Exception) -> str:
    """Return the first line of what an error says."""
    text = str(error)
    if isinstance(error, ValidationError):
        text = error.errors()[0]["msg"]
    lines = text.splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
