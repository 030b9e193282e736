"""Loading of datasets by name or by place."""

from pathlib import Path

from taskgroup.datasets.crystals import load_crystals, load_flavours, load_magnets
from taskgroup.datasets.dataset import Dataset
from taskgroup.errors import StoreError, did_you_mean

BUILT_IN = {"crystals": load_crystals, "magnets": load_magnets, "flavours": load_flavours}


def load_dataset(name_or_path: str | Path) -> Dataset:
    """Load a built-in dataset (``"crystals"``, ``"magnets"``, ``"flavours"``), or a store by folder or fsspec URL (``"s3://bucket/store"``).

    Raises StoreError where there is neither, or the store is half written or damaged.
    """
    name = str(name_or_path)
    if name in BUILT_IN:
        return BUILT_IN[name]()
    # zarr and pyarrow are imported only where a store is opened
    from taskgroup.datasets.store import is_url, open_store

    if not is_url(name_or_path) and not Path(name_or_path).is_dir():
        near = did_you_mean(name, BUILT_IN)
        raise StoreError(
            f"dataset '{name_or_path}': neither a built-in dataset nor a store folder; {near}"
        )
    return open_store(name_or_path)
