"""An architecture drawn in its fabric: live edges coloured by their cost, or by when they are computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from kws_demo.drawings.layout import Layout, Sizes, lay_out
from kws_demo.drawings.svg import CHARACTER, FULL, Canvas, Point
from toolkit.graph import Edge, Graph

Form = Callable[[float], str]
Curve = tuple[Point, Point, Point, Point]  # control points
HEATS, TIMES = 5, 8  # steps of the colour scales of the page's style
TOP, MARGIN, NAMES, KEY = 62.0, 34.0, 82.0, 34.0
COLUMN, ROW = 170.0, 92.0  # the widest
FAN = 17.0  # between edges that join the same two nodes
RADIUS = 11.0
THINNEST, THICKEST = 1.8, 6.5


@dataclass(frozen=True)
class Setting:
    """What all drawings of one space share.

    Attributes:
        graph: of the super-network.
        sizes: of the map in every node, if known; see `lay_out`.
        joints: edges without weights, such as the ReLU after a sum, which are drawn as a part of their node.
        size_name: what a row of maps of one size is called.
    """

    graph: Graph
    sizes: Sizes | None = None
    joints: Collection[str] = ()
    size_name: Form = "{:g}".format


def by_cost(setting: Setting, kept: Collection[str], costs: Mapping[str, float], form: Form, title: str) -> str | None:
    """Live edges, as thick and as dark as they are dear; None where nothing is live.

    Args:
        costs: of edges; one that is not in it has none.
        form: shows a cost with its unit.
        title: what costs how much altogether.

    Raises:
        MilliwiseError: a kept name is no edge of the graph.
    """
    live = setting.graph.live(kept)
    most = max((costs.get(name, 0.0) for name in live), default=0.0)
    total = sum(costs.get(name, 0.0) for name in live)

    def mark(name: str) -> tuple[str, float, str]:
        cost = costs.get(name, 0.0)
        share = cost / most if most else 0.0
        part = f" ({100 * cost / total:.3g} %)" if total else ""
        heat = f"heat{min(HEATS - 1, int(share * HEATS))}"
        return heat, THINNEST + (THICKEST - THINNEST) * share, f"{name}: {form(cost)}{part}"

    def key(canvas: Canvas, x: float, y: float) -> None:
        x = _said(canvas, x, y, "an edge costs 0")
        x = _swatches(canvas, x, y, [(f"heat{step}", THINNEST + step) for step in range(HEATS)])
        _said(canvas, x, y, f"to {form(most)}")

    return _drawn(setting, live, mark, {}, title, key)


def by_kind(
    setting: Setting, kept: Collection[str], kinds: Sequence[tuple[str, Collection[str]]], title: str
) -> str | None:
    """Live edges by what kind they are.

    Args:
        kinds: names and edges of at most five, the cheapest first; joints may be of none.
    """
    live = setting.graph.live(kept)
    step = (HEATS - 1) / max(1, len(kinds) - 1)
    marks = [(f"heat{round(step * place)}", THINNEST + step * place) for place in range(len(kinds))]
    kind_of = {name: place for place, (_, names) in enumerate(kinds) for name in names}

    def mark(name: str) -> tuple[str, float, str]:
        place = kind_of.get(name)
        if place is None:
            return "heat0", THINNEST, name
        return *marks[place], f"{name}: {kinds[place][0]}"

    def key(canvas: Canvas, x: float, y: float) -> None:
        for (text, names), look in zip(kinds, marks, strict=True):
            x = _swatches(canvas, x, y, [look])
            x = _said(canvas, x, y, f"{text}: {len(live & frozenset(names))}") + 12

    return _drawn(setting, live, mark, {}, title, key)


def by_step(setting: Setting, kept: Collection[str], steps: Sequence[Sequence[str]], title: str) -> str | None:
    """Live edges by the step in which they are computed; a node says after which step it holds its value.

    Args:
        steps: the edges of each, as `Graph.schedule` gives them.
    """
    live = setting.graph.live(kept)
    when = {name: step for step, names in enumerate(steps, 1) for name in names}
    drawn = lay_out(setting.graph, setting.sizes, setting.joints).drawn
    ready: dict[str, int] = {}
    for edge in (edge for edge in setting.graph.ordered if edge.name in live):
        # What computes nothing is there as soon as its source is.
        step = when.setdefault(edge.name, ready.get(drawn[edge.source], 1))
        ready[drawn[edge.target]] = max(step, ready.get(drawn[edge.target], 0))
    last = max(len(steps), 1)

    def mark(name: str) -> tuple[str, float, str]:
        step = when[name]
        return f"time{(step - 1) * TIMES // last}", 2.6, f"{name}: step {step} of {last}"

    def key(canvas: Canvas, x: float, y: float) -> None:
        x = _said(canvas, x, y, "computed in step 1")
        shown = min(TIMES, last)
        x = _swatches(canvas, x, y, [(f"time{step * TIMES // shown}", 3.5) for step in range(shown)])
        x = _said(canvas, x, y, f"to {last}") + 10
        _said(canvas, x, y, "in a node: after which step it is done")

    return _drawn(setting, live, mark, {node: str(step) for node, step in ready.items()}, title, key)


def _drawn(
    setting: Setting,
    live: Collection[str],
    mark: Callable[[str], tuple[str, float, str]],
    notes: Mapping[str, str],
    title: str,
    key: Callable[[Canvas, float, float], None],
) -> str | None:
    """Style, width and tip of every live edge are given by `mark`, what is written into nodes by `notes`."""
    if not live:
        return None
    graph, layout = setting.graph, lay_out(setting.graph, setting.sizes, setting.joints)
    places, step = _in_pixels(layout)
    bottom = max(y for _, y in places.values())
    canvas = Canvas(FULL, bottom + RADIUS + 22 + KEY, f"{title}: {len(live)} live edges of {len(graph.edges)}")
    canvas.text(MARGIN, 22, title, "strong")
    curves = _curves(graph, layout, places)
    _name_rows(canvas, layout, places, setting.size_name)
    for edge in graph.edges:
        if edge.name in curves and edge.name not in live:
            canvas.add("path", "absent faint", f"{edge.name}: not used", d=_path(curves[edge.name]))
    for edge in sorted((graph.by_name[name] for name in live), key=lambda edge: (mark(edge.name)[1], edge.name)):
        if edge.name in curves:
            _draw_edge(canvas, curves[edge.name], *mark(edge.name))
    _draw_nodes(canvas, graph, layout, places, live, mark, notes, min(RADIUS, 0.36 * step))
    x = _said(canvas, MARGIN + 20, bottom + RADIUS + KEY + 8, "not used", ("absent faint", 1.2)) + 14
    key(canvas, x, bottom + RADIUS + KEY + 8)
    return canvas.render()


def _in_pixels(layout: Layout) -> tuple[dict[str, Point], float]:
    """The centres of the nodes, and how far apart columns are."""
    columns = max(column for column, _ in layout.cells.values())
    rows = max(row for _, row in layout.cells.values())
    left = MARGIN + RADIUS + (NAMES if layout.sizes else 0.0)
    room = FULL - MARGIN - RADIUS - left
    step = min(COLUMN, room / max(1.0, columns))
    start = left + (room - step * columns) / 2
    height = min(ROW, 640 / max(1.0, rows))
    return {node: (start + step * column, TOP + height * row) for node, (column, row) in layout.cells.items()}, step


def _name_rows(canvas: Canvas, layout: Layout, places: Mapping[str, Point], size_name: Form) -> None:
    left = min(x for x, _ in places.values()) - RADIUS - 12
    heights = {row: places[node][1] for node, (_, row) in layout.cells.items()}
    for row, size in enumerate(layout.sizes):
        canvas.text(left, heights[float(row)] + 4, size_name(size), "small", "end")
    if layout.sizes:
        canvas.text(left, heights[0.0] - 18, "a map holds", "tick", "end")


def _curves(graph: Graph, layout: Layout, places: Mapping[str, Point]) -> dict[str, Curve]:
    """Of every edge between two nodes that are drawn; those that join the same two fan out, others keep clear."""
    pairs: dict[tuple[str, str], list[str]] = {}
    for edge in graph.edges:
        source, target = layout.drawn[edge.source], layout.drawn[edge.target]
        if source != target:
            pairs.setdefault((source, target), []).append(edge.name)
    taken = set(layout.cells.values())
    curves = {}
    for (source, target), names in pairs.items():
        aside = 0.42 * ROW if _passes(layout.cells[source], layout.cells[target], taken) else 0.0
        for index, name in enumerate(names):
            lift = aside + FAN * (index - (len(names) - 1) / 2)
            curves[name] = _curve(places[source], places[target], lift)
    return curves


def _passes(start: tuple[float, float], end: tuple[float, float], taken: Collection[tuple[float, float]]) -> bool:
    """Whether a straight line between two cells runs through another node."""
    across, down = end[0] - start[0], end[1] - start[1]
    parts = math.gcd(round(2 * across), round(2 * down))  # rows may lie half a step off
    between = ((start[0] + across * i / parts, start[1] + down * i / parts) for i in range(1, parts))
    return any(cell in taken for cell in between)


def _curve(start: Point, end: Point, lift: float) -> Curve:
    """A curve whose middle lies that far to the left of the straight way: three quarters of its control points."""
    across, down = end[0] - start[0], end[1] - start[1]
    length = math.hypot(across, down) or 1.0
    x, y = down / length * lift / 0.75, -across / length * lift / 0.75
    one, two = ((start[0] + across * t + x, start[1] + down * t + y) for t in (1 / 3, 2 / 3))
    return start, one, two, end


def _at(curve: Curve, t: float) -> Point:
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    x, y = (sum(w * value for w, value in zip(weights, axis, strict=True)) for axis in zip(*curve, strict=True))
    return x, y


def _path(curve: Curve) -> str:
    start, one, two, end = (f"{x:.1f} {y:.1f}" for x, y in curve)
    return f"M{start}C{one},{two},{end}"


def _draw_edge(canvas: Canvas, curve: Curve, style: str, width: float, tip: str) -> None:
    """The curve, and on its way an arrow head that says where it leads."""
    canvas.add("path", f"live {style}", tip, d=_path(curve), stroke_width=width)
    (x, y), (x2, y2) = _at(curve, 0.6), _at(curve, 0.62)
    length = math.hypot(x2 - x, y2 - y) or 1.0
    ahead, wide = ((x2 - x) / length, (y2 - y) / length), width / 2 + 3.2
    back = (x - ahead[0] * wide, y - ahead[1] * wide)
    corners = [(back[0] + side * ahead[1] * wide, back[1] - side * ahead[0] * wide) for side in (1, -1)]
    canvas.path([corners[0], (x + ahead[0] * wide, y + ahead[1] * wide), corners[1]], f"arrow {style}", closed=True)


def _draw_nodes(
    canvas: Canvas,
    graph: Graph,
    layout: Layout,
    places: Mapping[str, Point],
    live: Collection[str],
    mark: Callable[[str], tuple[str, float, str]],
    notes: Mapping[str, str],
    radius: float,
) -> None:
    """Circles, those in use with what their joints cost in their tips; source and sink by name."""
    inside: dict[str, list[Edge]] = {}
    used = set()
    for edge in (graph.by_name[name] for name in sorted(live)):
        source, target = layout.drawn[edge.source], layout.drawn[edge.target]
        used |= {source, target}
        if source == target:
            inside.setdefault(source, []).append(edge)
    for node, centre in places.items():
        tip = "; ".join([node, *(mark(edge.name)[2] for edge in inside.get(node, ()))])
        canvas.circle(centre, radius if node in used else 0.45 * radius, f"node {'used' if node in used else ''}", tip)
        if node in notes and radius > 8:
            canvas.text(centre[0], centre[1] + 3.6, notes[node], "tick inside", "middle")
    (x, y), (x2, y2) = places[graph.source], places[layout.drawn[graph.sink]]
    canvas.text(x, y + radius + 14, "in", "small halo strong", "middle")
    canvas.text(x2 + radius + 5, y2 + 4, "out", "small halo strong")


def _said(canvas: Canvas, x: float, y: float, text: str, line: tuple[str, float] | None = None) -> float:
    """Text of a key, if asked with a line before it; where the next one begins."""
    if line is not None:
        canvas.add("path", line[0], d=f"M{x - 20:.1f} {y - 4:.1f}h15", stroke_width=line[1])
    canvas.text(x, y, text, "small")
    return x + CHARACTER * len(text) + 4


def _swatches(canvas: Canvas, x: float, y: float, marks: Sequence[tuple[str, float]]) -> float:
    for style, width in marks:
        canvas.add("path", f"live {style}", d=f"M{x + 3:.1f} {y - 4:.1f}h15", stroke_width=width)
        x += 22
    return x + 4
