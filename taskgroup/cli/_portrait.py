"""A density on the terminal, and as a page of pictures."""

import base64
import html
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from taskgroup.errors import InputError, did_you_mean, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from taskgroup.densities import Density
    from taskgroup.models.portrait import Portrait

# Å, the smoothing of stores by default
_SIGMA = 0.20
# Dark to bright, as many letters as a projection has levels.
_SHADES = " .:-=+*#%@"
# Letters are twice as high as wide.
_PICTURE_WIDTH, _PICTURE_HEIGHT = 48, 24
_BAR_WIDTH = 30
# Atoms and peaks that the terminal lists.
_MOST_SITES = 24
_AXES = "abc"


@dataclass(frozen=True)
class Shown:
    """One density to show: its name, its facts in words, as it is stored, as it came, and its portrait."""

    name: str
    facts: dict[str, str]
    standard: "Density"
    original: "Density | None"
    portrait: "Portrait"


def shown_file(source: str, **stated: Any) -> Shown:
    """Read a file and bring it to the form of stores; ``stated`` are arguments of ``read_density``."""
    from taskgroup.datasets.load import BUILT_IN
    from taskgroup.datasets.store.manifest import MANIFEST
    from taskgroup.densities import DEFAULT_SPACING, read_density, standard_form
    from taskgroup.models.portrait import portrait

    if source in BUILT_IN or (Path(source) / MANIFEST).exists():
        raise click.UsageError(f"{source} is a store: name the row to show with --id")
    original = read_density(source, **stated)
    standard, report = standard_form(original, None, _SIGMA, spacing=DEFAULT_SPACING)
    facts = facts_of(standard, _SIGMA, report.note)
    points = " x ".join(map(str, original.grid))
    facts["file"] = (
        f"{points} points, {len(original.species)} atoms, {original.charge:.4f} electrons"
    )
    likeness = portrait(standard, _SIGMA, original)
    return Shown(source, facts, standard, original, likeness)


def shown_row(source: str, row_id: str) -> Shown:
    """Return a row of a store, or of a built-in dataset. Raises InputError: there is none of this name."""
    from taskgroup.datasets import load_dataset
    from taskgroup.densities import Density
    from taskgroup.models.portrait import portrait

    dataset = load_dataset(source)
    if row_id not in dataset.ids:
        raise InputError(f"{source}: no row '{row_id}'; {did_you_mean(row_id, dataset.ids)}")
    row = dataset.ids.index(row_id)
    name = f"{source}, {row_id}"
    density = Density(
        dataset.densities([row])[0],
        dataset.lattices[row],
        dataset.species[row],
        dataset.frac_coords[row],
        dataset.kind,
        name,
    )
    facts = facts_of(density, dataset.sigma, "")
    for spec in dataset.targets.specs:
        value = dataset.targets.column(spec.name)[row]
        facts[f"target {spec.name}"] = (
            "missing" if value != value else f"{value:.6g} {spec.unit}".strip()
        )
    return Shown(name, facts, density, None, portrait(density, dataset.sigma))


def facts_of(density: "Density", sigma: float, cell_note: str) -> dict[str, str]:
    """Return what is known of a density, in words."""
    from pymatgen.core import Lattice

    lattice = Lattice(density.lattice)
    counts = density.structure.composition.formula
    facts = {
        "atoms": counts,
        "cell": f"{lattice.a:.4g} {lattice.b:.4g} {lattice.c:.4g} Å, "
        f"{lattice.alpha:.4g} {lattice.beta:.4g} {lattice.gamma:.4g}°, {lattice.volume:.5g} Å^3",
        "seen as": f"{density.kind}, {' x '.join(map(str, density.grid))} points, "
        f"smoothed by {sigma:g} Å",
        "electrons": f"{density.charge:.4f}",
        "values": f"{density.values[0].min():.4g} to {density.values[0].max():.4g} e/Å^3, "
        f"mean {density.values[0].mean():.4g}",
    }
    if density.n_channels == 2:
        moment = density.values[1].mean() * density.volume
        facts["magnetisation"] = f"{moment:.4f} μB in the cell"
    if cell_note:
        facts["note"] = cell_note
    return facts


def as_json(shown: Shown) -> dict[str, Any]:
    """Return what is shown for programs."""
    portrait = asdict(shown.portrait)
    for band in portrait["waves"]:
        # JSON has no infinity
        if not np.isfinite(band["longest"]):
            band["longest"] = None
    return {"id": shown.name, "facts": shown.facts, **portrait}


def lines_of(shown: Shown) -> list[str]:
    """Return what is shown on a terminal."""
    portrait = shown.portrait
    lines = [printable(shown.name)]
    width = max(map(len, shown.facts))
    lines += [f"  {name:{width}}  {printable(fact)}" for name, fact in shown.facts.items()]
    lines.append(f"  {'agreement':{width}}  {portrait.agreement:.2f} of the atoms with the peaks")
    if portrait.note:
        lines.append(f"note: {portrait.note}")
    lines += ["", "waves of       share of the variation                seen by a network"]
    for band in portrait.waves:
        name = f"{band.shortest:g}-{band.longest:g} Å"
        if not np.isfinite(band.longest):
            name = f"> {band.shortest:g} Å"
        bar = "#" * round(_BAR_WIDTH * band.share)
        lines.append(f"  {name:10} {band.share:6.1%} {bar:{_BAR_WIDTH}}  {band.seen:.0%}")
    lines += ["", "atom  at                    e/Å^3  nearest peak"]
    for site in portrait.sites[:_MOST_SITES]:
        place = " ".join(f"{x:6.3f}" for x in site.frac_coords)
        peak = "none"
        if site.peak_distance is not None:
            peak = f"{site.peak_distance:.2f} Å away, {site.peak_height:.4g} e/Å^3"
        found = "" if site.is_found else "  not found"
        lines.append(f"  {site.symbol:3} {place} {site.density:9.4g}  {peak}{found}")
    if len(portrait.sites) > _MOST_SITES:
        lines.append(f"  and {len(portrait.sites) - _MOST_SITES} more atoms")
    if portrait.lone_peaks:
        shown_peaks = ", ".join(f"{x:.2f}" for x in portrait.lone_peaks[:_MOST_SITES])
        lines.append(f"peaks without an atom, with the distance (Å) to the nearest: {shown_peaks}")
    lines += ["", "summed along c (a down, b right):"]
    return lines + [f"  {line}" for line in _letters(shown.standard.values[0].sum(axis=2))]


def _letters(picture: np.ndarray) -> list[str]:
    """Draw a picture with letters, the brightest for the largest values."""
    rows = np.arange(_PICTURE_HEIGHT) * picture.shape[0] // _PICTURE_HEIGHT
    columns = np.arange(_PICTURE_WIDTH) * picture.shape[1] // _PICTURE_WIDTH
    values = picture[np.ix_(rows, columns)]
    spread = max(float(np.ptp(picture)), 1e-300)
    levels = (values - picture.min()) / spread * (len(_SHADES) - 1)
    shades = np.array(list(_SHADES))[np.round(levels).astype(int)]
    return ["".join(row) for row in shades]


def page_of(shown: Shown) -> str:
    """Return a page of HTML that needs no other file."""
    name = html.escape(shown.name)
    facts = "".join(
        f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>"
        for key, value in shown.facts.items()
    )
    words = html.escape("\n".join(lines_of(shown)))
    pictures = [_image("The density as a network sees it", _maps(shown.standard))]
    if shown.original is not None:
        pictures.append(_image("The density as it came", _maps(shown.original)))
    pictures.append(_image("Waves", _spectrum(shown)))
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{name}</title>"
        "<style>body{font:15px sans-serif;margin:2em;max-width:60em}"
        "th{text-align:left;padding-right:1em}img{max-width:100%}</style>"
        f"<h1>{name}</h1><table>{facts}</table>{''.join(pictures)}"
        f"<h2>In words</h2><pre>{words}</pre></html>\n"
    )


def _image(title: str, figure: "Figure") -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f"<h2>{title}</h2><img alt='{title}' src='data:image/png;base64,{data}'>"


def _maps(density: "Density") -> "Figure":
    """Draw slices through the highest peak (above) and projections (below) along each vector, with the atoms."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.5), layout="constrained")
    axes = figure.subplots(2, 3)
    total = density.values[0]
    peak = np.unravel_index(int(total.argmax()), total.shape)
    for axis in range(3):
        through = np.take(total, peak[axis], axis=axis)
        place = peak[axis] / total.shape[axis]
        _map(axes[0, axis], through, density, axis, f"slice at {_AXES[axis]} = {place:.2f}")
        length = np.linalg.norm(density.lattice[axis])
        summed = total.mean(axis=axis) * length
        _map(axes[1, axis], summed, density, axis, f"summed along {_AXES[axis]} (e/Å^2)")
    return figure


def _map(axes: "Axes", values: np.ndarray, density: "Density", axis: int, title: str) -> None:
    from matplotlib.colors import LogNorm

    first, second = [other for other in range(3) if other != axis]
    least = max(float(values.max()) * 1e-3, 1e-12)
    # values over decades: cores would leave the rest black
    image = axes.imshow(
        np.maximum(values, least).T,
        origin="lower",
        extent=(0, 1, 0, 1),
        cmap="viridis",
        norm=LogNorm(vmin=least, vmax=max(float(values.max()), 2 * least)),
    )
    places = density.frac_coords % 1.0
    axes.scatter(places[:, first], places[:, second], s=18, facecolors="none", edgecolors="white")
    axes.set(title=title, xlabel=_AXES[first], ylabel=_AXES[second])
    axes.figure.colorbar(image, ax=axes, shrink=0.8)


def _spectrum(shown: Shown) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    bands = shown.portrait.waves
    names = [
        f"> {b.shortest:g}" if not np.isfinite(b.longest) else f"{b.shortest:g}-{b.longest:g}"
        for b in bands
    ]
    shares = np.array([band.share for band in bands])
    seen = shares * np.array([band.seen for band in bands])
    axes.bar(names, shares, color="#BBBBBB", label="in the density")
    axes.bar(names, seen, width=0.5, color="#0072B2", label="seen by a network")
    axes.set(xlabel="wavelength (Å)", ylabel="share of the variation")
    axes.legend()
    return figure
