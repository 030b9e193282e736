"""`taskgroup explain`: which regions of a density a prediction leans on."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from taskgroup.cli._options import CHECK, output_format

if TYPE_CHECKING:
    from taskgroup.export import Explanation

# Points of a slice along each vector of the cell: at 12 four slices cost 576 predictions.
_POINTS = 12
# Inches; slices stand side by side.
_SLICE_WIDTH, _SLICE_HEIGHT = 2.6, 2.8


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("density", metavar="FILE")
@click.option(
    "--width",
    type=click.FloatRange(min=0, min_open=True),
    default=0.6,
    show_default=True,
    help="Gaussian width of a region that is smoothed out, Å.",
)
@click.option("--plot", type=click.Path(dir_okay=False), metavar="FILE", help="Draw slices.")
@click.option("--target", help="Whose slices; default: the first target.")
@click.option(
    "--points",
    type=click.IntRange(min=4, max=64),
    default=_POINTS,
    show_default=True,
    help="Of a slice, along each vector of the cell.",
)
@output_format("table", "csv", "json")
@CHECK
def explain(
    bundle: Path,
    density: str,
    width: float,
    plot: str | None,
    target: str | None,
    points: int,
    form: str,
    check: bool,
) -> None:
    """Tell which atoms' surroundings the predictions of a density lean on.

    Around each atom the density is smoothed out (the number of electrons stays), and the networks predict again: what
    is printed is the prediction minus that. It says what the networks respond to, not what causes the property.
    """
    from taskgroup.cli._console import print_json
    from taskgroup.export import explain as explain_density
    from taskgroup.export import load_bundle
    from taskgroup.files import csv_text, plain_json

    loaded = load_bundle(bundle, check=check)
    explained = explain_density(loaded, density, width=width, points=points if plot else 0)
    if plot:
        _draw(explained, target or loaded.targets[0], plot)
    if form == "json":
        atoms = plain_json(explained.atoms.reset_index().to_dict("records"))
        content = {"id": explained.id, "predictions": explained.predictions}
        print_json(content | {"units": explained.units, "atoms": atoms})
    elif form == "csv":
        click.echo(csv_text(explained.atoms, index=True), nl=False)
    else:
        _print_table(explained)


def _draw(explained: "Explanation", target: str, path: str) -> None:
    from matplotlib.figure import Figure

    from taskgroup import plot

    size = (1 + _SLICE_WIDTH * len(explained.slices), _SLICE_HEIGHT)
    figure = Figure(figsize=size, layout="constrained")
    plot.explanation(explained, target, figure)
    plot.save(figure, path)


def _print_table(explained: "Explanation") -> None:
    from taskgroup.cli._console import plain_table, print_table

    headers = [f">{name}" for name in explained.predictions]
    table = plain_table("atom", ">a", ">b", ">c", *headers)
    units = [explained.units[name] for name in explained.predictions]
    table.add_row("", "", "", "", *units)
    values = [f"{value:.4g}" for value in explained.predictions.values()]
    table.add_row("prediction", "", "", "", *values)
    table.add_section()
    for number, atom in explained.atoms.iterrows():
        place = [f"{atom[axis]:.3f}" for axis in "abc"]
        changes = [f"{atom[name]:+.3g}" for name in explained.predictions]
        table.add_row(f"{atom['element']} {number}", *place, *changes)
    print_table(table)
    if explained.note:
        click.echo(f"Atoms are those of the primitive cell: {explained.note}", err=True)
