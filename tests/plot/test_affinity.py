"""Pictures: they are written, labels never meet, and the marks on them are those of the data."""

import itertools

import networkx as nx
import numpy as np
import pytest
from matplotlib import pyplot

from taskgroup import plot
from taskgroup.affinity import Affinity
from taskgroup.errors import ConfigError
from taskgroup.grouping import Group, Grouping, cluster
from taskgroup.grouping.testing import noisy, two_blocks

LONG = [
    "band_gap",
    "formation_energy",
    "bulk_modulus",
    "magnetisation",
    "dielectric_constant",
    "volume",
]


@pytest.fixture(autouse=True)
def closed():
    """Figures that pyplot keeps are closed after each test."""
    yield
    pyplot.close("all")


@pytest.fixture
def figures(monkeypatch):
    """The figures saved, kept for a look."""
    from matplotlib.figure import Figure

    kept, save = [], Figure.savefig

    def keep(figure, *args, **settings):
        kept.append(figure)
        return save(figure, *args, **settings)

    monkeypatch.setattr(Figure, "savefig", keep)
    return kept


def corners(texts, figure):
    """Corners of the text boxes, rotation included, in pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    boxes = []
    for text in texts:
        turn, anchor = text.get_rotation(), text.get_transform().transform(text.get_position())
        text.set_rotation(0.0)
        box = text.get_window_extent(renderer)
        boxes.append((Bbox(box.get_points()), turn, anchor))
        text.set_rotation(turn)
    return boxes


def polygon(box, turn, anchor):
    angle = np.radians(turn)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.array([[box.x0, box.y0], [box.x1, box.y0], [box.x1, box.y1], [box.x0, box.y1]])
    return (points - anchor) @ rotation.T + anchor


def apart(one, other):
    """Whether a line separates two convex polygons (one along a side of either exists if any does)."""
    for shape in (one, other):
        for side in np.roll(shape, -1, axis=0) - shape:
            normal = np.array([-side[1], side[0]])
            a, b = one @ normal, other @ normal
            if a.max() <= b.min() or b.max() <= a.min():
                return True
    return False


@pytest.mark.parametrize("targets", [1, 2, 5, 9, 12, 13, 16, 20, 60])
def test_labels_of_a_graph_do_not_meet(targets, figures, tmp_path):
    graph = noisy(targets, share=0.2)
    names = {name: f"{LONG[i % len(LONG)]}_{i}" for i, name in enumerate(graph)}
    graph = nx.relabel_nodes(graph, names)
    plot.save(plot.target_graph(graph, cluster(graph)), tmp_path / "graph.png")
    figure = figures[0]
    texts = figure.axes[0].texts
    assert sorted(text.get_text() for text in texts) == sorted(graph)
    shapes = [polygon(*corner) for corner in corners(texts, figure)]
    assert all(apart(one, other) for one, other in itertools.combinations(shapes, 2))


def test_signs_and_groups_are_in_the_picture_of_a_graph(figures, tmp_path):
    graph = two_blocks(between=0.05)
    plot.save(plot.target_graph(graph, cluster(graph)), tmp_path / "graph.svg")
    axes = figures[0].axes[0]
    assert len(axes.patches) == graph.number_of_edges()
    negative = sum(weight < 0.0 for *_, weight in graph.edges(data="weight"))
    assert (
        sum(patch.get_linestyle() not in ("-", "solid") for patch in axes.patches) == negative > 0
    )
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend[:2] == ["positive", "negative"]
    assert len({line.get_color() for line in axes.lines}) == 2


def test_helpers_get_a_dot_of_the_group_they_help(figures, tmp_path):
    graph = two_blocks()
    plain = cluster(graph)
    gap_group, other = plain.serving("gap"), plain.serving("volume")
    cover = Grouping((gap_group, Group((*other.targets, "gap"), other.targets)))
    plot.save(plot.target_graph(graph, plain), tmp_path / "plain.png")
    plot.save(plot.target_graph(graph, cover), tmp_path / "cover.png")
    assert len(figures[1].axes[0].lines) == len(figures[0].axes[0].lines) + 1


@pytest.mark.parametrize("targets", [1, 2, 9, 200])
def test_heat_maps_of_any_size_are_drawn(targets, figures, tmp_path):
    rng = np.random.default_rng(0)
    values = rng.uniform(-1.0, 1.0, (targets, targets))
    plot.save(
        plot.affinity(Affinity([f"t{i}" for i in range(targets)], values)), tmp_path / "map.png"
    )
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    image = figures[0].axes[0].images[0].get_array()
    assert image.shape == (targets, targets)


def test_a_heat_map_frames_groups_and_brackets_what_may_be_chance(figures, tmp_path):
    values = np.array([[1.0, -0.6, np.nan], [-0.6, 1.0, 0.1], [np.nan, 0.1, 1.0]])
    p = np.array([[0.0, 0.001, 1.0], [0.001, 0.0, 0.4], [1.0, 0.4, 0.0]])
    grouping = Grouping.from_partition([["a"], ["b", "c"]])
    plot.save(plot.affinity(Affinity(("b", "a", "c"), values, p), grouping), tmp_path / "map.pdf")
    axes = figures[0].axes[0]
    falling = "\N{MINUS SIGN}.60"
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(0, 1): falling, (1, 0): falling, (0, 2): "(.10)", (2, 0): "(.10)"}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert [frame.get_width() for frame in axes.patches] == [1, 2]
    assert axes.get_xlabel() == ""


def test_directed_affinities_say_which_way(figures, tmp_path):
    plot.save(
        plot.affinity(Affinity(("a", "b"), [[1.0, 0.02], [-0.01, 1.0]])), tmp_path / "map.png"
    )
    axes = figures[0].axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("affected target", "helper")
    assert axes.images[0].get_clim() == (-0.02, 0.02)


def test_pictures_of_graphs_from_labels_are_drawn_without_a_grouping(tmp_path):
    plot.save(plot.target_graph(two_blocks()), tmp_path / "graph.pdf")
    assert (tmp_path / "graph.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("name", "told"), [("graph.doc", "must end in one of"), ("no/graph.png", "does not exist")]
)
def test_bad_files_are_refused(name, told, tmp_path):
    with pytest.raises(ConfigError, match=told):
        plot.save(plot.target_graph(two_blocks()), tmp_path / name)
