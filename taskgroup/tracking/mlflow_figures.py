"""The figures of a study as SVG files, which MLflow's pages show."""

from pathlib import Path

from taskgroup.affinity import Affinity
from taskgroup.files import write_text
from taskgroup.tracking import figures
from taskgroup.tracking.parity import parity_figure
from taskgroup.tracking.report import affinity_pictures
from taskgroup.tracking.run_folder import read_final, read_records, read_study

# What a picture for inside HTML lacks as a file of its own.
_NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def write_figures(run_dir: Path, out: Path) -> None:
    """Write affinity, target graph, gains, parity, progress and measured transfer of a finished run."""
    study, final = read_study(run_dir), read_final(run_dir)
    if final is None:
        return
    affinities = affinity_pictures(run_dir, final.grouping)
    pictures = {
        "affinity": affinities["heat_map"],
        "target_graph": affinities["graph"],
        "gains": figures.gains_figure(final.gains) if final.gains else "",
        "parity": parity_figure(run_dir, study.targets),
        "progress": figures.progress_figure(read_records(run_dir), final),
        "transfer": _transfer_picture(run_dir),
    }
    for name, picture in pictures.items():
        if picture:
            write_text(out / f"{name}.svg", _as_file(picture))


def _transfer_picture(run_dir: Path) -> str:
    path = run_dir / "transfer" / "pairwise.json"
    if not path.exists():
        return ""
    pairwise = Affinity.from_json(path.read_text(encoding="utf-8"))
    if not pairwise.names:
        return ""
    return figures.heat_map_figure(pairwise.names, pairwise.values)


def _as_file(picture: str) -> str:
    return picture.replace("<svg", f"<svg {_NAMESPACES} style='background: white'", 1)
