"""The chosen sub-network drawn in its super-network: absent edges pale, live ones thick and coloured by their ms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from kws_demo.drawings.layout import depths_of, layered
from kws_demo.drawings.svg import CHARACTER, FULL, Canvas, Point
from kws_demo.drawings.values import show_us
from toolkit.graph import Edge, Graph
from toolkit.profile import EdgeCost

Places = Mapping[str, tuple[float, float]]
HEATS = 5  # steps of the colour scale of the page's style
NODE_HEIGHT, ROW_HEIGHT, PARALLEL = 26.0, 152.0, 23.0
MOST_LABELS = 90  # with more edges than this, only live ones are named
GRID = re.compile(r"([A-Za-z_]+?)_?(\d+)")


def network(graph: Graph, kept: Iterable[str], costs: Mapping[str, EdgeCost]) -> str | None:
    """The super-network with its live edges marked; None when nothing is live or a kept edge is of another graph."""
    known = frozenset(kept)
    live = frozenset() if known - graph.full else graph.live(known)
    if not live:
        return None
    priced_ms = {name: row.latency_ms for name, row in costs.items() if row.latency_ms is not None}
    places = in_pixels(cells(graph))
    height = max(y for _, y in places.values()) + ROW_HEIGHT / 2 + 26
    canvas = Canvas(FULL, height, f"{len(live)} live edges of {len(graph.edges)}")
    most_ms = max((priced_ms[name] for name in live if name in priced_ms), default=0.0)
    curves = _curves(graph, places)
    named = len(graph.edges) <= MOST_LABELS
    for edge in sorted(graph.edges, key=lambda edge: edge.name in live):
        _draw_edge(canvas, edge, curves[edge.name], edge.name in live, priced_ms.get(edge.name), most_ms)
    for edge in graph.edges:
        if named or edge.name in live:
            _name_edge(canvas, edge, curves[edge.name], edge.name in live, priced_ms.get(edge.name))
    used = {node for name in live for node in (graph.by_name[name].source, graph.by_name[name].target)}
    for node, (x, y) in places.items():
        width, style = _node_width(node), "used" if node in used else "unused"
        left, top = x - width / 2, y - NODE_HEIGHT / 2
        canvas.add("rect", f"node {style}", x=left, y=top, width=width, height=NODE_HEIGHT, rx=8)
        canvas.text(x, y + 4, node, f"small {style}", "middle")
    _key(canvas, height - 12, most_ms)
    return canvas.render()


def cells(graph: Graph) -> dict[str, tuple[float, float]]:
    """(column, row) of every node, by their names if these are words with numbers, else by their depth in the graph."""
    inner = [node for node in graph.nodes if node not in (graph.source, graph.sink)]
    parsed = {node: GRID.fullmatch(node) for node in inner}
    if inner and all(parsed.values()):
        found = {node: (int(match[2]), match[1]) for node, match in parsed.items() if match}
        first, last = (choose(number for number, _ in found.values()) for choose in (min, max))
        names = list(dict.fromkeys(graph_row for _, graph_row in _named_order(graph, found)))
        placed = {node: (float(number - first + 1), float(names.index(row))) for node, (number, row) in found.items()}
        middle = (len(names) - 1) / 2
        placed |= {graph.source: (0.0, middle), graph.sink: (float(last - first + 2), middle)}
        if last - first < 12 and all(placed[edge.source][0] < placed[edge.target][0] for edge in graph.edges):
            return placed
    return layered(depths_of(graph))


def _named_order(graph: Graph, found: Mapping[str, tuple[int, str]]) -> list[tuple[int, str]]:
    """The rows in the order in which the space lists their nodes."""
    listed = dict.fromkeys(node for edge in graph.edges for node in (edge.source, edge.target) if node in found)
    return [found[node] for node in listed]


def in_pixels(cells: Places) -> dict[str, Point]:
    """The centres of the nodes on the canvas."""
    last = max(column for column, _ in cells.values()) or 1
    margin = 40.0
    step = (FULL - 2 * margin) / last
    return {node: (margin + column * step, 64 + row * ROW_HEIGHT) for node, (column, row) in cells.items()}


def _node_width(node: str) -> float:
    return max(44.0, CHARACTER * min(len(node), 14) + 14)


def _curves(graph: Graph, places: Places) -> dict[str, Sequence[Point]]:
    """The four control points of every edge; edges that join the same two nodes fan out."""
    pairs: dict[tuple[str, str], list[str]] = {}
    for edge in graph.edges:
        pairs.setdefault((edge.source, edge.target), []).append(edge.name)
    columns = sorted({x for x, _ in places.values()})
    curves: dict[str, Sequence[Point]] = {}
    for (source, target), names in pairs.items():
        (x1, y1), (x2, y2) = places[source], places[target]
        x1, x2 = x1 + _node_width(source) / 2, x2 - _node_width(target) / 2
        passed = sum(places[source][0] < x < places[target][0] for x in columns) if y1 == y2 else 0
        for index, name in enumerate(names):
            # The middle of a curve lies three quarters of the way to its control points.
            lift = (PARALLEL * (index - (len(names) - 1) / 2) - 34 * passed) / 0.75
            reach = 0.4 * (x2 - x1)
            curves[name] = ((x1, y1), (x1 + reach, y1 + lift), (x2 - reach, y2 + lift), (x2, y2))
    return curves


def _draw_edge(
    canvas: Canvas, edge: Edge, curve: Sequence[Point], is_live: bool, cost_ms: float | None, most_ms: float
) -> None:
    start, one, two, end = (f"{x:.0f} {y:.0f}" for x, y in curve)
    share = cost_ms / most_ms if cost_ms and most_ms else 0.0
    style = f"live heat{min(HEATS - 1, int(share * HEATS))}" if is_live else "absent"
    width = 2.0 + 5.0 * share if is_live else 1.0
    priced = "no price" if cost_ms is None else show_us(cost_ms)
    tip = f"{edge.name}: {priced}{'' if is_live else ', not used'}"
    canvas.add("path", style, tip, d=f"M{start}C{one},{two},{end}", stroke_width=width)


def _name_edge(canvas: Canvas, edge: Edge, curve: Sequence[Point], is_live: bool, cost_ms: float | None) -> None:
    x, y = ((a + 3 * b + 3 * c + d) / 8 for a, b, c, d in zip(*curve, strict=True))
    kind = edge.name.removeprefix(f"{edge.source}-{edge.target}-")
    priced = f" {show_us(cost_ms)}" if is_live and cost_ms is not None else ""
    canvas.text(x, y + 4, f"{kind}{priced}", "edge-name halo used" if is_live else "edge-name halo unused", "middle")


def _key(canvas: Canvas, y: float, most_ms: float) -> None:
    canvas.legend(40, y, [("line", "absent", "not used")])
    x = 160.0
    canvas.text(x, y, "used, latency from 0", "small")
    x += 21 * CHARACTER
    for step in range(HEATS):
        begin = x + 26 * step
        canvas.add("path", f"live heat{step}", d=f"M{begin:.0f} {y - 4}h24", stroke_width=2.5 + step)
    canvas.text(x + 26 * HEATS + 6, y, f"to {show_us(most_ms)}", "small")
