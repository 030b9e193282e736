"""Draw the pictures of docs/concepts.md: boxes and arrows, as SVG files that need nothing from elsewhere.

python tools/concept_pictures.py docs/images
"""

import sys
from pathlib import Path
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

# Okabe and Ito's colours, pale.
_BLUE, _ORANGE, _GREEN, _GREY = "#D6E9F5", "#FBE8C5", "#CDEBE0", "#ECECEC"
_LINE = "#5A6570"

Point = tuple[float, float]


class Box(NamedTuple):
    """A box: its text, its centre in grid steps, its colour."""

    text: str
    at: Point
    colour: str = _BLUE


class Picture(NamedTuple):
    """Boxes by name, arrows between them (``a>b`` or ``a>b:word``; ``a~b`` is dashed), and the size in inches."""

    boxes: dict[str, Box]
    arrows: tuple[str, ...]
    size: Point


PICTURES = {
    "flow": Picture(
        {
            "densities": Box("charge densities", (0, 1)),
            "table": Box("property table", (0, 0)),
            "graph": Box("target graph", (1.2, 0.5), _ORANGE),
            "groupings": Box("candidate\ngroupings", (2.3, 0.5), _ORANGE),
            "networks": Box("networks,\ntrained once", (3.4, 0.5), _GREEN),
            "assembly": Box("exact\nassembly", (4.4, 0.5), _GREEN),
            "bundle": Box("bundle", (5.3, 0.5), _GREY),
        },
        (
            "densities>graph", "table>graph", "graph>groupings", "groupings>networks", "networks>assembly",
            "assembly>bundle",
        ),
        (9.2, 1.7),
    ),
    "groups": Picture(
        {
            "one": Box("network 1\n{band_gap + volume}", (0.1, 1), _GREEN),
            "two": Box("network 2\n{modulus, volume}", (0.1, 0), _GREEN),
            "gap": Box("band_gap", (2.2, 1.1)),
            "volume": Box("volume", (2.2, 0.5)),
            "modulus": Box("modulus", (2.2, -0.1)),
        },
        ("one>gap:serves", "one~volume:helper", "two>volume", "two>modulus:serves"),
        (6.4, 2.6),
    ),
    "study": Picture(
        {
            "baselines": Box("baselines: each alone, all together,\ncorrelations, random", (0.3, 3), _ORANGE),
            "trials": Box("trials: Optuna proposes\na grouping and hyper-parameters", (2.2, 3), _ORANGE),
            "train": Box("train; stop groups\nthat cannot win", (0.3, 2), _GREEN),
            "known": Box("trained before:\ntake it", (2.2, 2), _GREEN),
            "pool": Box("table of all trained networks", (1.2, 1.1), _GREY),
            "solver": Box("exact solver:\nthe best combination", (0.3, 0.2)),
            "again": Box("the best few again: new seeds,\nother validation rows", (2.2, 0.2)),
            "test": Box("test rows, once", (1.2, -0.7), _GREY),
        },
        (
            "baselines>train", "trials>train", "trials>known", "train>pool", "known>pool", "pool>solver",
            "solver>again", "again>test",
        ),
        (7.4, 4.8),
    ),
    "leak": Picture(
        {
            "train": Box("training row:\nNaCl, rocksalt", (0, 0), _GREEN),
            "test": Box("test row:\nNaCl, CsCl type", (3, 0), _ORANGE),
        },
        ("train~test:nearly the same crystal: the test would be too easy",),
        (7.6, 1.1),
    ),
}  # fmt: skip


def draw(picture: Picture, path: Path) -> None:
    """Save one picture as SVG."""
    figure = Figure(figsize=picture.size, layout="constrained")
    axes = figure.add_subplot()
    texts = {}
    for name, box in picture.boxes.items():
        style = {"boxstyle": "round,pad=0.5", "facecolor": box.colour, "edgecolor": _LINE}
        texts[name] = axes.text(*box.at, box.text, ha="center", va="center", fontsize=9, bbox=style)
    for arrow in picture.arrows:
        _draw_arrow(axes, texts, arrow)
    across = [box.at[0] for box in picture.boxes.values()]
    up = [box.at[1] for box in picture.boxes.values()]
    axes.set_xlim(min(across) - 0.6, max(across) + 0.6)
    axes.set_ylim(min(up) - 0.4, max(up) + 0.4)
    axes.axis("off")
    # The salt makes the file the same each time.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):
        figure.savefig(path, facecolor="white", metadata={"Date": None})


def _draw_arrow(axes: Axes, texts: dict[str, Text], arrow: str) -> None:
    """Draw an arrow from the edge of one box to the edge of another."""
    ends, _, word = arrow.partition(":")
    sign = ">" if ">" in ends else "~"
    start, end = (texts[name] for name in ends.split(sign))
    look = {
        "arrowstyle": "-|>",
        "color": _LINE,
        "linestyle": "--" if sign == "~" else "-",
        "patchA": start.get_bbox_patch(),
        "patchB": end.get_bbox_patch(),
    }
    axes.annotate("", end.get_position(), start.get_position(), arrowprops=look)
    if word:
        (x_1, y_1), (x_2, y_2) = start.get_position(), end.get_position()
        axes.text(
            (x_1 + x_2) / 2, (y_1 + y_2) / 2 + 0.1, word, ha="center", va="bottom", fontsize=8
        )


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name, picture in PICTURES.items():
        draw(picture, folder / f"concept_{name}.svg")
