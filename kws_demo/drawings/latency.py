"""Two drawings of the latency model: how right it was on networks it had not seen, and where a network's ms go."""

from __future__ import annotations

from collections.abc import Iterable

from kws_demo.drawings.svg import HALF, Canvas, Scale, spanning, x_axis, y_axis
from kws_demo.drawings.values import number, show_ms, show_us
from toolkit.graph import Graph
from toolkit.profile import DeviceProfile

BAND = 0.1  # the band drawn around a right prediction, a fraction
MOST_ROWS = 22


def held_out(profile: DeviceProfile) -> str | None:
    """Predicted against measured latency with the band of ±10 %; None without held-out networks."""
    pairs = [(number(row, "predicted_ms"), number(row, "measured_ms")) for row in profile.held_out.rows]
    points = [(x, y) for x, y in pairs if x is not None and y is not None and x > 0 and y > 0]
    if not points:
        return None
    top, bottom, left, right = 26, 420, 54, HALF - 12
    canvas = Canvas(HALF, bottom + 42, "predicted against measured latency of held-out networks")
    least, most = min(map(min, points)) / 1.25, max(map(max, points)) * 1.25
    across, up = Scale(least, most, left, right, log=True), Scale(least, most, bottom, top, log=True)
    x_axis(canvas, across, top, bottom, "predicted ms (tight loop, logarithmic)")
    y_axis(canvas, up, left, right, "measured ms")
    # An error is a share of the measured value. Both scales are one, so the band runs along the diagonal.
    low, high = 1 - BAND, 1 + BAND
    above, below = ((least, least / low), (most * low, most)), ((most, most / high), (least * high, least))
    corners = (*above, (most, most), *below, (least, least))
    canvas.path([(across(x), up(y)) for x, y in corners], "band", closed=True)
    canvas.line((across(least), up(least)), (across(most), up(most)), "ideal")
    for x, y in points:
        inside = abs(y - x) <= BAND * y
        tip = f"predicted {show_ms(x)}, measured {show_ms(y)}"
        canvas.circle((across(x), up(y)), 4, "net" if inside else "net over", tip)
    canvas.legend(left + 14, top + 20, [("box", "band", f"within ±{100 * BAND:g} %"), ("dot", "net over", "outside")])
    return canvas.render()


def milliseconds(profile: DeviceProfile, graph: Graph, live: Iterable[str]) -> str | None:
    """The predicted cost as a staircase, part by part; None when an edge has no price."""
    live = frozenset(live)
    if not live or live - profile.edges.keys() or live - graph.by_name.keys():
        return None
    parts = _parts(profile, graph, live)
    total = sum(value for _, value, _ in parts)
    row = min(24.0, max(17.0, 394 / (len(parts) + 1)))
    top, left, right = 8, 190, HALF - 66
    bottom = top + row * (len(parts) + 1)
    canvas = Canvas(HALF, bottom + 42, "where the milliseconds go")
    # A part may be negative (a paced call below the tight sum): the staircase then steps back.
    reached = [sum(value for _, value, _ in parts[:count]) for count in range(len(parts) + 1)]
    scale = spanning(reached, left, right, zero=True, room=0.02)
    x_axis(canvas, scale, top, bottom, "ms per hop")
    for index, (name, value, style) in enumerate([*parts, ("predicted p95", total, "total")]):
        y, is_total = top + row * index, style == "total"
        begin, end = (0.0, total) if is_total else (reached[index], reached[index + 1])
        low, high = scale(min(begin, end)), scale(max(begin, end))
        said = show_ms(value) if is_total else show_us(value)
        canvas.text(left - 8, y + row / 2 + 4, name, "strong" if is_total else "small", "end")
        canvas.rectangle(low, y + 2, max(1.5, high - low), row - 4, style, f"{name}: {said}")
        canvas.text(high + 5, y + row / 2 + 4, said, "strong halo" if is_total else "tick halo")
    return canvas.render()


def _parts(profile: DeviceProfile, graph: Graph, live: frozenset[str]) -> list[tuple[str, float, str]]:
    """(name, ms, style) of the paced p95, adding up to it; the least edges in one row when they are many."""
    model = profile.latency
    table_ms = profile.table_ms(graph, live)
    edges = [(edge.name, profile.edges[edge.name].latency_ms or 0.0) for edge in graph.ordered if edge.name in live]
    edges.sort(key=lambda edge: -edge[1])
    shown, rest = edges[:MOST_ROWS], edges[MOST_ROWS:]
    joins_ms = table_ms - model.front_end_ms - model.base_ms - sum(value for _, value in edges)
    return [
        *([("front-end (log-mel)", model.front_end_ms, "front-end")] if model.front_end_ms else []),
        ("runtime call and head", model.base_ms, "fixed"),
        *((name, value, "edge") for name, value in shown),
        *([(f"{len(rest)} cheaper edges", sum(value for _, value in rest), "edge")] if rest else []),
        *([("adding edges in nodes", joins_ms, "fixed")] if joins_ms > 1e-9 else []),
        (f"called every {profile.hop_ms} ms", profile.paced_ms(graph, live) - table_ms, "idle"),
    ]
