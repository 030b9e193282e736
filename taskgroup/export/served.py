"""A bundle behind a server: densities come as bytes or JSON in a table, predictions go back with units in the headers.

A request holds one row per density, and a row one of ``file`` (the bytes of a file, with its name in ``name``),
``density`` (a JSON document) and ``path`` (a file the server can read).
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from taskgroup.errors import BundleError, InputError

if TYPE_CHECKING:
    import pandas as pd

    from taskgroup.export.bundle import Bundle

#: Columns of a request, with MLflow's type and what they hold.
COLUMNS = {
    "file": ("binary", "bytes of a density file (base64 in JSON), compressed or not"),
    "name": ("string", "name of that file, which tells its format; default: CHGCAR"),
    "density": ("string", "JSON document with a pymatgen Chgcar, or the Materials Project's"),
    "path": ("string", "path of a density file that the server can read"),
}

_DEFAULT_NAME = "CHGCAR"
_JSON_NAME = "density.json"


def served_predictions(
    bundle: "Bundle", table: "pd.DataFrame", coverage: float | None = None
) -> "pd.DataFrame":
    """Return predictions for a request: the column ``id``, then ``target [unit]`` and ``target_std [unit]``.

    With a coverage there are also ``target_low [unit]`` and ``target_high [unit]``. The id of a density is its name
    where all names differ, else ``input-<row>``.

    Raises BundleError: a row holds none or several of ``file``, ``density`` and ``path``, or a density that the bundle
    cannot take.
    """
    with TemporaryDirectory() as folder:
        paths = []
        labels = []
        for number, row in enumerate(table.to_dict("records")):
            # Each in a folder of its own: the names of two requests may be equal.
            own_folder = Path(folder) / str(number)
            own_folder.mkdir()
            path, label = _source(row, own_folder, number)
            paths.append(path)
            labels.append(label)
        try:
            frame = bundle.predict(paths, coverage=coverage)
        except InputError as error:
            # A client knows nothing of the folder its bytes were written to.
            raise BundleError(str(error).replace(f"{folder}/", "input ")) from None
    if len(set(labels)) < len(labels):
        labels = [f"input-{number}" for number in range(len(labels))]
    frame.index = frame.index.__class__(labels, name="id")
    return with_units(frame).reset_index()


def with_units(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Return a table of predictions with units in the headers of its columns, ``gap [eV]``."""
    headers = {}
    for target, unit in frame.attrs["units"].items():
        for suffix in ("", "_std", "_low", "_high"):
            column = f"{target}{suffix}"
            headers[column] = f"{column} [{unit}]" if unit else column
    return frame.rename(columns=headers)


def _source(row: dict[str, Any], folder: Path, number: int) -> tuple[Path, str]:
    """Return the file that a row names or holds, and what the density is called."""
    given = [name for name in ("file", "density", "path") if _is_given(row.get(name))]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise BundleError(
            f"row {number}: a density is given by one of file, density and path, found {found}"
        )
    if given == ["path"]:
        return Path(row["path"]), row["path"]
    name = row.get("name")
    if given == ["density"]:
        path = folder / _JSON_NAME
        path.write_text(row["density"], encoding="utf-8")
        return path, name if _is_given(name) else f"input-{number}"
    label = name if _is_given(name) else _DEFAULT_NAME
    # Without folders: a name must not lead out of the temporary one.
    path = folder / (Path(label).name or _DEFAULT_NAME)
    path.write_bytes(row["file"])
    return path, label


def _is_given(value: Any) -> bool:
    """Return whether a cell holds something; pandas fills the others with None or NaN."""
    return isinstance(value, str | bytes) and len(value) > 0
