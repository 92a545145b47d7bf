"""The drawings of the report: every mark stands where the figure that it shows puts it, and all of it can be read."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import fake_search as fake
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from markup import Reader, drawing, of_class, words

from kws_demo.drawings import budget, latency, network, stream, training
from kws_demo.drawings.svg import CHARACTER, Scale, plain
from kws_demo.drawings.values import number, show_bytes, show_ms
from toolkit.graph import Edge, Graph


def test_the_measured_bar_ends_at_its_value_and_below_the_limit() -> None:
    root = drawing(budget.asked_against_measured(fake.run(), 1.0, "p95"))
    (bar,) = [element for element in of_class(root, "measured") if "aside" not in element.get("class", "")]
    (limit,) = of_class(root, "limit")
    start, end = float(bar.get("x", "")), float(bar.get("x", "")) + float(bar.get("width", ""))
    assert (end - start) / (float(limit.get("x1", "")) - start) == pytest.approx(0.781, abs=0.001)
    assert "0.781 ms (≤ 0.853 ms)" in words(root) and "asked 1 ms" in words(root)


def test_the_pareto_plot_tells_measured_from_predicted_and_the_chosen_from_both() -> None:
    run = fake.run()
    root = drawing(budget.pareto(run, 1.0))
    measured = [row for row in run["pareto"] if row["measured_p95_ms"]]
    key = 1  # every style stands once more in the legend
    assert len(of_class(root, "hollow")) == len(run["pareto"]) + key
    assert len(of_class(root, "solid")) == len(measured) + 3 * key
    assert len(of_class(root, "over")) == sum(row["fits"] is False for row in measured) + key > key
    assert len(of_class(root, "chosen")) == 1 + key
    (tip,) = [element.findtext("title") for element in of_class(root, "chosen") if element.find("title") is not None]
    assert tip is not None and "measured p95 0.781 ms" in tip and "93.0 % fine-tuned" in tip
    (front,) = [element for element in of_class(root, "front") if element.tag == "path"]
    corners = [tuple(map(float, point.split())) for point in re.split("[ML]", front.get("d", ""))[1:]]
    assert corners == sorted(corners, key=lambda corner: (corner[0], -corner[1]))  # to the right, and never down


def test_the_network_drawing_shows_exactly_the_live_edges() -> None:
    dead = fake.KEPT | {"mel-coarse0-conv9"}  # kept, but leads nowhere
    costs = fake.profile().edges
    root = drawing(network.network(fake.graph(), dead, costs))
    drawn = {element.findtext("title") for element in of_class(root, "live")} - {None}
    assert {str(title).split(":")[0] for title in drawn} == fake.graph().live(dead) == fake.KEPT
    absent = [element for element in of_class(root, "absent") if element.find("title") is not None]
    assert len(absent) == len(fake.graph().edges) - len(fake.KEPT)
    widths = {
        str(e.findtext("title")).split(":")[0]: float(e.get("stroke-width", ""))
        for e in of_class(root, "live")
        if e.findtext("title")
    }
    slowest = max(fake.KEPT, key=lambda name: costs[name].latency_ms)
    assert max(widths, key=lambda name: widths[name]) == slowest
    assert {"mel", "fine0", "middle3", "coarse3", "out"} <= set(words(root))


def test_the_network_drawing_is_legible() -> None:
    """No name lies on another name, and all lie on the canvas."""
    root = drawing(network.network(fake.graph(), fake.KEPT, fake.profile().edges))
    _, _, width, height = map(float, root.get("viewBox", "").split())
    names = [element for element in root.iter("text") if element.get("text-anchor") == "middle"]
    boxes = [(float(e.get("x", "")), float(e.get("y", "")), CHARACTER * 0.9 * len(e.text or "")) for e in names]
    assert len(boxes) == len(fake.graph().edges) + len(fake.graph().nodes)
    for index, (x, y, wide) in enumerate(boxes):
        assert wide / 2 <= x <= width - wide / 2 and 10 <= y <= height
        for other_x, other_y, other_wide in boxes[:index]:
            assert abs(y - other_y) >= 12 or abs(x - other_x) >= (wide + other_wide) / 2


def test_rows_and_columns_come_from_the_names_of_the_nodes() -> None:
    cells = network.cells(fake.graph())
    assert cells["mel"] == (0, 1) and cells["out"] == (5, 1)
    assert cells["fine0"] == (1, 0) and cells["middle0"] == (1, 1) and cells["coarse3"] == (4, 2)


@given(graph=toy.graphs())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_any_other_graph_is_drawn_in_layers(graph: Graph) -> None:
    cells = network.cells(graph)
    assert cells.keys() == set(graph.nodes) and len(set(cells.values())) == len(cells)
    for edge in graph.edges:
        assert cells[edge.source][0] < cells[edge.target][0]
    root = drawing(network.network(graph, graph.full, {}))
    assert {
        str(e.findtext("title")).split(":")[0] for e in of_class(root, "live") if e.findtext("title")
    } == graph.live(graph.full)


def test_numbered_names_that_lead_backwards_are_drawn_by_depth() -> None:
    graph = Graph((Edge("a", "in", "x2"), Edge("b", "x2", "x1"), Edge("c", "x1", "out")), "in", "out")
    assert network.cells(graph)["x2"][0] < network.cells(graph)["x1"][0]


def test_the_held_out_points_lie_in_the_band_as_often_as_the_profile_says() -> None:
    profile = fake.profile()
    root = drawing(latency.held_out(profile))
    (band,) = [element for element in of_class(root, "band") if element.tag == "path"]
    corners = [tuple(map(float, point.split())) for point in re.split("[MLZ]", band.get("d", ""))[1:-1]]
    points = [
        (float(e.get("cx", "")), float(e.get("cy", ""))) for e in of_class(root, "net") if e.find("title") is not None
    ]
    assert len(points) == profile.held_out.nets
    inside = sum(contains(corners, point) for point in points)
    assert inside == round(profile.held_out.within_10 * profile.held_out.nets) < len(points)


def contains(polygon: list[tuple[float, ...]], point: tuple[float, float]) -> bool:
    """The even-odd rule: a ray to the right crosses the outline an odd number of times."""
    x, y = point
    ends = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return (
        sum((y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1 for (x1, y1), (x2, y2) in ends) % 2 == 1
    )


def test_the_parts_of_the_latency_add_up_to_the_prediction() -> None:
    profile = fake.profile()
    root = drawing(latency.milliseconds(profile, fake.graph(), fake.KEPT))
    bars = [element for element in root.iter("rect")]
    (total,) = of_class(root, "total")
    assert total.findtext("title") == f"predicted p95: {show_ms(profile.paced_ms(fake.graph(), fake.KEPT))}"
    assert len(bars) == len(fake.KEPT) + 5  # front-end, base, joins, the pace, the total
    ends = [float(bar.get("x", "")) + float(bar.get("width", "")) for bar in bars]
    for bar, end in zip(bars[1:-1], ends, strict=False):
        assert float(bar.get("x", "")) == pytest.approx(end, abs=1.6)  # a staircase
    assert ends[-1] == pytest.approx(ends[-2], abs=0.2)


def test_many_edges_share_a_row_and_none_is_drawn_without_a_price() -> None:
    graph, profile = fake.graph(), fake.profile()
    texts = words(drawing(latency.milliseconds(profile, graph, graph.full)))
    assert f"{len(graph.edges) - latency.MOST_ROWS} cheaper edges" in texts
    priced = {name: row for name, row in profile.edges.items() if name != "mel-fine0-conv3"}
    assert latency.milliseconds(replace(profile, edges=priced), graph, fake.KEPT) is None


def test_the_timeline_marks_detections_and_truth_where_they_are() -> None:
    heard = stream.read_stream(fake.stream(20))
    assert heard is not None
    root = drawing(stream.timeline(heard))
    scale = Scale(0, 20, stream.LEFT, stream.RIGHT)
    pins = [float(element.get("x1", "")) for element in of_class(root, "pin")]
    assert pins == pytest.approx([scale(start) for _, start, _ in heard.detections], abs=0.06)
    said = [float(element.get("x1", "")) for element in of_class(root, "said-line")]
    assert said == pytest.approx([scale(start) for _, start in heard.truth], abs=0.06)
    assert len(said) == len(pins) + 1
    # A score of one hop judges the second that ends with it.
    (bed,) = [element for element in of_class(root, "score") if element.findtext("title") == "bed"]
    line = [tuple(map(float, point.split())) for point in re.split("[ML]", bed.get("d", ""))[1:]]
    peak_x, peak_y = min(line, key=lambda point: point[1])
    (limit,) = [element for element in of_class(root, "limit") if element.find("title") is not None]
    assert peak_y < float(limit.get("y1", ""))
    peak = max(range(len(heard.scores)), key=lambda hop: heard.scores[hop][2])
    assert peak_x == pytest.approx(scale((peak + 1) * 0.2 - 1.0), abs=0.1)


def test_the_loss_has_a_line_for_every_stage() -> None:
    root = drawing(training.losses(fake.log(), 400))
    titles = [element.findtext("title") for element in root.iter("path")]
    assert titles == ["training the super-network", *(f"fine-tuning candidate {index}" for index in (1, 2, 3))]


def test_the_heat_map_is_as_strong_as_the_probabilities() -> None:
    order = [edge.name for edge in fake.graph().ordered]
    log = fake.log()
    root = drawing(training.probabilities(log, order, fake.KEPT))
    last = [row for row in log if "probabilities" in row][-1]["probabilities"]
    named = [element.text for element in of_class(root, "heat-name")]
    assert named[::2] == order and named[1::2] == [f"{last[name]:.2f}" for name in order]
    cells: dict[str, ElementTree.Element] = {}
    for cell in of_class(root, "heat"):
        if title := cell.findtext("title"):
            cells[title.split(":")[0]] = cell  # the last one of a row stays
    for name in order:
        assert float(cells[name].get("fill-opacity", "1")) == pytest.approx(last[name], abs=0.006)
    bold = {e.text for e in of_class(root, "used") if e.get("text-anchor") == "end"}
    assert bold == fake.KEPT


def test_the_confusion_matrix_shows_every_count() -> None:
    matrix = fake.run()["accuracy"]["confusion"]
    root = drawing(training.confusion(fake.LABELS, matrix))
    assert [text for text in words(root) if text.isdigit()] == [str(count) for row in matrix for count in row if count]
    assert "bed heard as _unknown_: 3 (3.8 %)" in [element.findtext("title") for element in of_class(root, "wrong")]
    assert training.confusion(fake.LABELS, matrix[1:]) is None
    assert training.confusion((), []) is None


@given(text=st.text())
def test_plain_text_survives_the_browser(text: str) -> None:
    reader = Reader(f"<p>{plain(text)}</p>")
    assert [tag for tag, _ in reader.tags] == ["p"]
    shown = "".join(reader.text)
    assert len(shown) <= 200
    kept = text if len(text) <= 200 else text[:199] + "…"
    assert all(a == b or b == "\ufffd" for a, b in zip(kept, shown, strict=True))


@given(st.floats(1e-6, 1e6), st.floats(1.001, 1e3), st.integers(2, 12))
def test_ticks_are_few_round_and_inside(low: float, factor: float, about: int) -> None:
    for log in (False, True):
        ticks = Scale(low, low * factor, 0, 100, log).ticks(about)
        assert all(low * (1 - 1e-6) <= tick <= low * factor * (1 + 1e-6) for tick in ticks)
        assert ticks == sorted(ticks) and len(ticks) <= 2 * about + 10
    assert len(Scale(low, low * factor, 0, 100).ticks(about)) >= 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.781, "0.781 ms"), (12.42, "12.4 ms"), (0.0512, "0.0512 ms"), (150.2, "150 ms"), (0.0, "0.00 ms")],
)
def test_milliseconds_have_three_digits(value: float, shown: str) -> None:
    assert show_ms(value) == shown


def test_figures() -> None:
    assert [show_bytes(size) for size in (None, 12, 41_300, 2_000_000)] == [
        "not measured",
        "12 B",
        "41.3 kB",
        "2.00 MB",
    ]
    odd: object
    for odd in (None, True, "1", float("nan"), float("inf"), 1e300, [], {}):
        assert number({"a": odd}, "a") is None
    assert number({"a": {"b": 2}}, "a", "b") == 2.0 and number({"a": 1}, "a", "b") is None
