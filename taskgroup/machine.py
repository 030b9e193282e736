"""Cores and memory this process may use, inside a container or a batch job as well as on a laptop."""

from pathlib import Path

import joblib
import psutil

_CGROUP_LIMITS = (
    "/sys/fs/cgroup/memory.max",  # version 2
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",  # version 1
)
_CGROUP_USAGES = (
    "/sys/fs/cgroup/memory.current",
    "/sys/fs/cgroup/memory/memory.usage_in_bytes",
)


def available_cores() -> int:
    """Return how many cores this process may use: affinity masks and container quotas count."""
    return joblib.cpu_count()


def default_device() -> str:
    """Return ``cuda`` where a GPU may be used, else ``cpu``."""
    # Imported here: it takes a second, and most callers ask for cores only.
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def free_memory() -> int:
    """Return the bytes that processes may still take: the machine's, or what a container's limit leaves."""
    free = psutil.virtual_memory().available
    for limit_file, usage_file in zip(_CGROUP_LIMITS, _CGROUP_USAGES, strict=True):
        limit = _read_number(limit_file)
        usage = _read_number(usage_file)
        if limit is not None and usage is not None:
            free = min(free, max(0, limit - usage))
    return free


def resident_memory() -> int:
    """Return the bytes that this process occupies now."""
    return psutil.Process().memory_info().rss


def _read_number(path: str) -> int | None:
    try:
        text = Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
