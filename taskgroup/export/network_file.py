"""A network in one file: safetensors weights, and in their metadata the JSON that rebuilds it. Nothing is executed."""

import json
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from taskgroup.errors import BundleError, InputError
from taskgroup.models import MultiTaskNetwork, migrate_state


def write_network(path: str | Path, network: MultiTaskNetwork) -> None:
    """Write weights and description of a network."""
    weights = {
        name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()
    }
    save_file(weights, path, metadata={"network": json.dumps(network.to_dict())})


def read_network(path: str | Path) -> MultiTaskNetwork:
    """The network in a file, in evaluation mode on the CPU.

    Raises BundleError where the file is damaged, or its network is one this version does not know.
    """
    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {})["network"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        with torch.random.fork_rng(devices=[]):  # its first weights are drawn, then replaced
            network = MultiTaskNetwork.from_dict(description)
        network.load_state_dict(migrate_state(weights))
    except (
        SafetensorError,
        OSError,
        KeyError,
        TypeError,
        RuntimeError,
        InputError,
        ValueError,
    ) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        reason = (first.splitlines() or [type(error).__name__])[0]
        raise BundleError(
            f"{path}: must hold a network this version can build, but {reason}"
        ) from error
    return network.eval()
