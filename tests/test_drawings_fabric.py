"""Fabrics: nodes stand on the grid that their names tell, and marks are what the figures make them."""

from __future__ import annotations

import io
import math
import re
import xml.etree.ElementTree as ElementTree
from itertools import combinations, pairwise
from pathlib import Path

import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from markup import drawing, of_class, words
from PIL import Image, ImageColor

from kws_demo.drawings.fabric import THICKEST, THINNEST, Setting, by_cost, by_kind, by_step
from kws_demo.drawings.layout import lay_out
from kws_demo.drawings.picture import to_png, write_picture
from kws_demo.drawings.svg import Canvas
from kws_demo.report_style import DARK, LIGHT
from toolkit.graph import Edge, Graph
from toolkit.spaces import neural_fabric, resnet_fabric


def neural(columns: int, scales: int) -> Setting:
    """Of a neural fabric: nodes are named map<column>-<scale>; each scale halves the side."""
    graph = neural_fabric.fabric(2, columns, 1, scales).graph
    sizes = {node: 4.0 ** -int(node.rpartition("-")[2]) for node in graph.nodes if node != graph.source}
    return Setting(graph, sizes, {name for name in graph.full if name.startswith("relu")})


def resnet(blocks: int) -> Setting:
    """Of a ResNet fabric: nodes are named map<group>-<block>; what enters a group has the size of the group before."""
    graph = resnet_fabric.fabric(blocks, 2, width=1).graph
    sizes = {}
    for node in graph.nodes:
        group = int(re.findall(r"\d+", node)[0]) if node != graph.source else 0
        sizes[node] = 2.0 ** -(max(0, group - 1) if node.startswith("entry") else group)
    free = {name for name in graph.full if name.startswith(("relu", "entry"))}
    return Setting(graph, sizes, free)


def placed(of: Setting) -> dict[str, tuple[float, float]]:
    """Where every node is drawn."""
    layout = lay_out(of.graph, of.sizes, of.joints)
    return {node: layout.cells[layout.drawn[node]] for node in of.graph.nodes}


def test_a_neural_fabric_is_a_grid_of_columns_and_scales() -> None:
    cells = placed(neural(8, 6))
    for node, cell in cells.items():
        if node != "image":
            column, scale = map(int, re.findall(r"\d+", node))
            assert cell == (column + 1, scale)
    assert cells["image"] == (0, 0)


@pytest.mark.parametrize("blocks", [2, 3, 18])
def test_a_resnet_fabric_is_folded_so_that_straight_shortcuts_are_short(blocks: int) -> None:
    of = resnet(blocks)
    cells = placed(of)
    assert all(cells[node][1] == int(node[3]) for node in cells if node.startswith("map"))
    for name, edge in of.graph.by_name.items():
        across = abs(cells[edge.source][0] - cells[edge.target][0])
        if name.startswith("straight"):
            assert across == 0
        elif name.startswith(("left", "right")):
            assert across == 1


@given(graph=toy.graphs(), data=st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_graph_is_laid_out_with_no_node_on_another(graph: Graph, data: st.DataObject) -> None:
    sizes = data.draw(
        st.none() | st.fixed_dictionaries({node: st.sampled_from([1.0, 2.0, 4.0]) for node in graph.nodes})
    )
    joints = data.draw(st.frozensets(st.sampled_from(sorted(graph.full))))
    layout = lay_out(graph, sizes, joints)
    assert layout.drawn.keys() == set(graph.nodes) and layout.cells.keys() == set(layout.drawn.values())
    assert len(set(layout.cells.values())) == len(layout.cells)
    root = drawing(by_cost(Setting(graph, sizes, joints), graph.full, dict.fromkeys(graph.full, 1.0), str, "all"))
    merged = {name for name, edge in graph.by_name.items() if layout.drawn[edge.source] == layout.drawn[edge.target]}
    told = {title.split(":")[0] for e in of_class(root, "live") if (title := e.findtext("title"))}
    assert merged <= joints and told == graph.live(graph.full) - merged


def test_live_edges_are_as_thick_and_dark_as_they_are_dear_and_dead_ends_are_faint() -> None:
    of = neural(3, 3)
    path = {"conv", "conv1-0-0", "relu1-0", "conv2-0-0", "relu2-0", "zip2-0-1", "relu2-1", "zip2-1-2", "relu2-2"}
    costs = dict.fromkeys(of.graph.full, 3.0) | {"conv": 10.0, "conv1-0-0": 5.0, "conv2-0-0": 0.0}
    root = drawing(by_cost(of, path | {"conv1-1-2"}, costs, "{:g} units".format, "a title <&>"))
    live = {str(e.findtext("title")).split(":")[0]: e for e in of_class(root, "live") if e.find("title") is not None}
    assert live.keys() == {name for name in path if not name.startswith("relu")}  # those belong to their nodes
    width = {name: float(e.get("stroke-width", "")) for name, e in live.items()}
    assert width["conv"] == THICKEST and width["conv2-0-0"] == pytest.approx(THINNEST)
    assert width["conv1-0-0"] == pytest.approx((THICKEST + THINNEST) / 2, abs=0.06)
    assert live["conv"].get("class") == "live heat4" and live["conv2-0-0"].get("class") == "live heat0"
    total = 10 + 5 + 0 + 2 * 3 + 4 * 3
    assert live["conv"].findtext("title") == f"conv: 10 units ({1000 / total:.3g} %)"
    assert len(of_class(root, "used")) == 6 and "to 10 units" in words(root) and "a title <&>" in words(root)
    absent = {str(e.findtext("title")) for e in of_class(root, "absent")}
    assert "conv1-1-2: not used" in absent
    assert by_cost(of, {"conv1-1-2"}, costs, str, "nothing is live") is None


def test_a_schedule_says_when_every_edge_runs_and_every_node_is_done() -> None:
    of = neural(3, 3)
    steps = of.graph.schedule(of.graph.full, 2)
    root = drawing(by_step(of, of.graph.full, steps, "two workers"))
    when = {name: number for number, names in enumerate(steps, 1) for name in names}
    for element in of_class(root, "live"):
        if title := element.findtext("title"):
            name, told = title.split(": ")
            assert told == f"step {when[name]} of {len(steps)}"
    inside = sorted(int(text.text or "") for text in of_class(root, "inside"))
    assert inside == sorted(when[of_map] for of_map in when if of_map == "conv" or of_map.startswith("relu"))


def test_what_computes_nothing_is_there_as_soon_as_its_source() -> None:
    """A step of identities alone is none of the schedule's."""
    graph = Graph((Edge("a", "in", "x"), Edge("b", "x", "y"), Edge("c", "y", "z"), Edge("d", "z", "out")), "in", "out")
    steps = graph.schedule(graph.full, 1, {"b": 0, "d": 0})
    assert steps == (("a",), ("c",))
    root = drawing(by_step(Setting(graph), graph.full, steps, "one worker"))
    told = {str(each.findtext("title")) for each in of_class(root, "live")} - {"None"}
    assert told == {"a: step 1 of 2", "b: step 1 of 2", "c: step 2 of 2", "d: step 2 of 2"}


def test_kinds_are_counted_in_the_key() -> None:
    of = neural(2, 2)
    root = drawing(
        by_kind(of, of.graph.full, [("cheap", {"conv"}), ("dear", of.graph.full - {"conv"} - of.joints)], "t")
    )
    assert "cheap: 1" in words(root) and f"dear: {len(of.graph.full) - 1 - len(of.joints)}" in words(root)


@pytest.mark.parametrize("of", [neural(8, 6), resnet(3), resnet(18)], ids=["neural 8", "resnet 3", "resnet 18"])
def test_large_fabrics_are_legible(of: Setting) -> None:
    """No node comes near another, and everything lies on the canvas."""
    root = drawing(by_step(of, of.graph.full, of.graph.schedule(of.graph.full, 4), "all"))
    _, _, width, height = map(float, root.get("viewBox", "").split())
    nodes = [tuple(float(e.get(name, "")) for name in ("cx", "cy", "r")) for e in of_class(root, "node")]
    assert all(r < x < width - r and r < y < height - r for x, y, r in nodes)
    assert all(math.dist(a[:2], b[:2]) > a[2] + b[2] + 8 for a, b in combinations(nodes, 2))
    for element in [*of_class(root, "live"), *of_class(root, "arrow")]:
        numbers = [float(each) for each in re.findall(r"-?\d+\.?\d*", element.get("d", ""))]
        assert all(0 <= each <= max(width, height) for each in numbers)


def test_both_colour_scales_read_in_grey() -> None:
    for theme in (LIGHT, DARK):
        found = dict(re.findall(r"--(\w+):(#\w+)", theme))
        for letter, count in (("h", 5), ("t", 8)):
            grey = [ImageColor.getcolor(found[f"{letter}{step}"], "L") for step in range(count)]
            assert all(isinstance(value, int) for value in grey)
            steps = [after - before for before, after in pairwise(grey)]  # type: ignore[operator]
            assert all(step > 4 for step in steps) or all(step < -4 for step in steps), (letter, grey)


def test_a_picture_shows_what_the_drawing_says(tmp_path: Path) -> None:
    canvas = Canvas(120, 60, "marks")
    canvas.rectangle(10, 10, 20, 20, "measured", 'a < b & "c"')
    canvas.circle((60, 20), 10, "node used")
    canvas.add("path", "live heat4", d="M80 20h20", stroke_width=8)
    canvas.text(60, 55, "$x_1$ <b>&", "strong", "middle", turn=-20)
    paths = write_picture(tmp_path, "marks", canvas.render())
    assert [path.name for path in paths] == ["marks.svg", "marks.png"]
    ElementTree.fromstring(paths[0].read_text())
    image = Image.open(paths[1]).convert("RGB")
    assert image.size == (240, 120)
    colours = dict(re.findall(r"--([\w-]+):(#\w+)", LIGHT))
    expected = {(40, 40): "accent", (120, 40): "card", (180, 40): "h4", (10, 10): "card"}
    assert {place: image.getpixel(place) for place in expected} == {
        place: ImageColor.getrgb(colours[name]) for place, name in expected.items()
    }
    text = image.crop((70, 80, 170, 120)).getcolors()
    assert text is not None and len(text) > 1
    assert to_png(canvas.render()) == paths[1].read_bytes()


def test_a_fabric_as_a_picture_has_its_colours() -> None:
    of = neural(3, 3)
    costs = {name: 1.0 for name in of.graph.full} | {"conv": 2.0}
    png = to_png(by_cost(of, of.graph.full, costs, str, "all") or "")
    found = {colour for _, colour in Image.open(io.BytesIO(png)).convert("RGB").getcolors(100_000) or ()}
    colours = dict(re.findall(r"--(\w+):(#\w+)", LIGHT))
    assert {ImageColor.getrgb(colours[name]) for name in ("h4", "h2", "ink")} <= found


def test_edges_beside_each_other_and_past_nodes_are_told_apart() -> None:
    edges = (Edge("a", "in", "mid"), Edge("b", "in", "mid"), Edge("c", "mid", "out"), Edge("past", "in", "out"))
    root = drawing(by_cost(Setting(Graph(edges, "in", "out")), {"a", "b", "c", "past"}, {}, str, "t"))
    ways = {str(e.findtext("title")).split(":")[0]: e.get("d", "") for e in of_class(root, "live") if len(e)}
    assert len(set(ways.values())) == 4
    heights = {name: [float(y) for y in re.findall(r"-?[\d.]+ (-?[\d.]+)", d)] for name, d in ways.items()}
    assert min(heights["past"]) < min(heights["c"]) - 20  # it keeps clear of the node between
