"""The drawings of adaptive listeners: every mark stands where the figure that it shows puts it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise, permutations, product
from typing import Any

import fake_search as fake
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markup import Reader, drawing, of_class, words

from kws_demo.drawings import adaptive, stream
from kws_demo.drawings.svg import Scale

POLICIES = ("static", "energy", "learned")
LABELS = ["_silence_", "_unknown_", "yes", "no"]


def row(name: str, ms: float, misses: float, **more: Any) -> dict[str, Any]:
    return {"name": name, "parameter": 1, "ms_per_second": ms, "misses": misses, **more}


def points() -> list[dict[str, Any]]:
    interval = {"misses_low": 0.01, "misses_high": 0.5, "false_alarms_per_hour": 0.4}
    found = [row(name, ms, 0.4 / ms + 0.02 * place) for place, name in enumerate(POLICIES) for ms in (1.0, 4.0, 16.0)]
    return [*found, row("learned", 2.0, 0.05, **interval)]


def placed(element: ElementTree.Element) -> tuple[float, float]:
    return float(element.get("cx", "")), float(element.get("cy", ""))


def steps(element: ElementTree.Element) -> list[tuple[float, ...]]:
    return [tuple(map(float, point.split())) for point in re.split("[MLZ]", element.get("d", ""))[1:] if point]


def marks(root: ElementTree.Element) -> dict[str, tuple[float, float]]:
    """Where each point is, by what is told of it."""
    return {tip: placed(each) for each in root.iter("circle") if (tip := each.findtext("title"))}


def running(names: list[str], ms: list[float]) -> dict[str, Any]:
    return {**fake.stream(20), "modes": names, "ms": ms}


def test_the_policies_stand_at_their_cost_and_misses_and_ours_are_ringed() -> None:
    root = drawing(adaptive.pareto(points(), "learned"))
    found = marks(root)
    assert len(found) == len(points())
    across = Scale(1 / 1.2, 16 * 1.2, adaptive.LEFT, adaptive.RIGHT, log=True)
    up = Scale(0, 1.06 * 0.5, adaptive.BOTTOM, adaptive.TOP)
    told = "learned at 1: 2 ms per second, 5.0 % missed, 0.4 false alarms an hour"
    assert found[told] == pytest.approx((across(2), up(0.05)), abs=0.06)
    assert sorted(map(placed, of_class(root, "hollow"))) == sorted(
        place for tip, place in found.items() if tip.startswith("learned")
    )
    assert "ours" in words(root) and "learned (ours)" in words(root) and len(of_class(root, "move")) == 1
    (front,) = [each for each in of_class(root, "front") if each.tag == "path"]
    corners = steps(front)
    assert corners == sorted(corners, key=lambda corner: (corner[0], corner[1]))  # to the right and down
    assert corners[0] == pytest.approx((across(1), up(0.4)), abs=0.06)
    assert corners[1] == pytest.approx((across(2), up(0.4)), abs=0.06)  # until then, nothing is better
    styles = {each.get("class") for each in root.iter("circle") if each.find("title") is not None}
    assert styles == {"series0", "series1", "series2"}


def test_what_has_no_figures_is_left_out_of_the_pareto_plot() -> None:
    assert adaptive.pareto([], "ours") is None
    assert adaptive.pareto([row("vad", 0, 0.1), {"name": "x"}, row("a", float("nan"), 0)], "vad") is None
    root = drawing(adaptive.pareto([row("<b>", 2, 0.0), {"name": "energy", "misses": None}], "ours"))
    assert len(marks(root)) == 1 and "ours" not in words(root)
    many = [row(str(number), 1 + number / 10, 0.1) for number in range(12)]
    assert len(marks(drawing(adaptive.pareto(many, "3")))) == 12


def test_every_label_has_a_line_over_the_epochs() -> None:
    log: list[dict[str, Any]] = [{"stage": "training", "epoch": 1, "loss": 1.0}]
    log += [{"epoch": n, "ms_by_label": {"0": 1 / n, "2": 2.0, "3": 2.0 + n, "9": 1.0}} for n in range(1, 6)]
    root = drawing(adaptive.cost_by_label(log, LABELS))
    lines = {str(each.findtext("title")).split(":")[0]: steps(each) for each in root.iter("path")}
    assert lines.keys() == {"_silence_", "yes", "no"} and all(len(line) == 5 for line in lines.values())
    assert len({y for _, y in lines["yes"]}) == 1
    rises = [before[1] - after[1] for before, after in pairwise(lines["no"])]
    assert rises == pytest.approx([rises[0]] * 4, abs=0.11) and rises[0] > 0
    assert {"_silence_", "yes", "no"} <= set(words(root))
    counted = [{"epoch": n, "multiply_adds_by_label": {"2": n * 1.25e6}} for n in (1, 2)]
    (line,) = drawing(adaptive.cost_by_label(counted, LABELS, "multiply_adds")).iter("path")
    assert line.findtext("title") == "yes: 2.5 MFLOPs in the end" and adaptive.cost_by_label(counted, LABELS) is None
    assert adaptive.cost_by_label(log[:1], LABELS) is None and adaptive.cost_by_label([], []) is None


@given(st.lists(st.floats(30, 360), min_size=1, max_size=24))
def test_names_beside_lines_stand_apart_and_as_near_as_they_can(heights: list[float]) -> None:
    wanted = {str(place): y for place, y in enumerate(heights)}
    found = adaptive._apart(wanted, 30, 360)
    order = sorted(found, key=lambda name: found[name])
    assert [wanted[name] for name in order] == sorted(heights)
    gaps = [found[after] - found[before] for before, after in pairwise(order)]
    step = min(adaptive.LABEL_HEIGHT, 330 / len(heights))
    assert all(gap >= step - 1e-6 for gap in gaps)
    assert all(30 - 1e-6 <= y <= 360 + 1e-6 for y in found.values())
    if all(b - a >= step for a, b in pairwise(sorted(heights))):
        assert found == pytest.approx(wanted)


def test_the_bins_stand_in_their_middles_with_their_intervals() -> None:
    bins: list[dict[str, Any]] = [
        {"from": 0.0, "to": 0.1, "hops": 9, "ms": 1.0, "low": 0.5, "high": 2.0},
        {"from": 0.5, "to": 0.6, "hops": 1, "ms": 4.0, "low": None, "high": None},
        {"from": 0.9, "to": 1.0, "ms": None},
    ]
    root = drawing(adaptive.cost_by_share(bins))
    found = marks(root)
    assert list(found) == ["1.00 ms, 9 hops", "4.00 ms, 1 hops"]
    (first, second), zero = found.values(), 300
    across = Scale(0, 1, adaptive.LEFT, 470 - 26)
    assert (first[0], second[0]) == pytest.approx((across(0.05), across(0.55)), abs=0.06)
    assert (zero - second[1]) / (zero - first[1]) == pytest.approx(4, abs=0.02)
    (whisker,) = of_class(root, "whisker")
    assert (zero - float(whisker.get("y2", ""))) / (zero - float(whisker.get("y1", ""))) == pytest.approx(4, abs=0.04)
    assert adaptive.cost_by_share([]) is None and adaptive.cost_by_share(bins[2:]) is None


def test_the_strip_of_modes_and_their_ms_stand_where_the_hops_are() -> None:
    names = ["off"] * 40 + ["deep cold"] + ["deep warm"] * 9 + ["off"] * 50
    ms = [{"off": 0.4, "deep cold": 4.0, "deep warm": 2.0}[name] for name in names]
    root = drawing(adaptive.timeline(running(names, ms)))
    scale = Scale(0, 20, stream.LEFT, stream.RIGHT)
    strip = [each for each in root.iter("rect") if each.findtext("title")]
    assert [each.findtext("title") for each in strip] == ["off", "deep cold", "deep warm", "off"]
    starts = [float(each.get("x", "")) for each in strip]
    assert starts == pytest.approx([scale(t) for t in (0, 8, 8.2, 10)], abs=0.06)
    assert sum(float(each.get("width", "")) for each in strip) == pytest.approx(stream.RIGHT - stream.LEFT, abs=0.3)
    assert len({each.get("class") for each in strip}) == 3 and strip[0].get("class") == "idle"
    (spent,) = [each for each in of_class(root, "sound") if len(steps(each)) == 2 * len(ms) + 2]
    top = min(steps(spent), key=lambda point: point[1])
    assert top[0] == pytest.approx(scale(8), abs=0.06) and {"4", "0 ms"} <= set(words(root))
    assert {"off", "deep cold", "deep warm", "threshold"} <= set(words(root))
    assert len(of_class(root, "pin")) == len(fake.stream(20)["detections"])


def test_every_mode_is_named_below_and_none_stands_on_another() -> None:
    """At 8 pixels a letter, as wide as those of `wide warm+deep warm` are on average."""
    states = ["", " cold", " warm"]
    names = ["+".join(f"{gate}{state}" for gate, state in zip(("wide", "deep"), pair, strict=True) if state) or "off"
             for pair in product(states, states)]  # fmt: skip
    root = drawing(adaptive.timeline(running(names * 11 + ["off"], [float(len(name)) for name in names * 11] + [3.0])))
    texts = {each.text: (float(each.get("x", "")), float(each.get("y", ""))) for each in of_class(root, "small")}
    assert set(names) <= set(texts) and len(set(names)) == 9
    height = float(root.get("viewBox", "").split()[3])
    axis = max(float(each.get("y", "")) for each in of_class(root, "tick"))
    below = {text: place for text, place in texts.items() if place[1] > axis}
    assert set(below) == {*names, "bed", "cat", "happy", "threshold"}
    for (text, (x, y)), (_other, (other_x, other_y)) in permutations(below.items(), 2):
        assert x + 8 * len(str(text)) <= adaptive.FULL and axis + 14 <= y <= height - 4
        assert other_y != y or other_x < x or other_x - 21 >= x + 8 * len(str(text))
        assert other_y == y or abs(other_y - y) >= 14


def test_a_long_stream_is_shown_for_half_a_minute_and_one_without_modes_not_at_all() -> None:
    hops = round(60 / 0.2)
    long = {**fake.stream(60), "modes": ["off", "deep"] * (hops // 2), "ms": [1.0, 2.0] * (hops // 2)}
    root = drawing(adaptive.timeline(long))
    strip = [each for each in root.iter("rect") if each.findtext("title")]
    assert len(strip) == 150 and "30 s" in words(root)
    assert all(float(each.get("x1", "")) <= stream.RIGHT + 0.1 for each in of_class(root, "pin"))
    broken: Any
    for broken in ({}, {**long, "ms": [1.0]}, {**long, "modes": []}, {**long, "hop_ms": 0}, {**long, "hop_ms": None}):
        assert adaptive.timeline(broken) is None


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=30))
def test_names_from_anywhere_are_harmless(name: str) -> None:
    costs = adaptive.pareto([row(name, 1, 0.1)], name)
    learning = adaptive.cost_by_label([{"epoch": 1, "ms_by_label": {"0": 1.0}}], [name])
    for each in (costs, learning, adaptive.timeline(running([name] * 100, [1.0] * 100))):
        assert each is not None
        Reader(each).assert_harmless()
