"""Two drawings of what was asked: against what was measured, and among everything that could have been chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from kws_demo.drawings.svg import FULL, SHORT, Canvas, Point, Scale, spanning, x_axis, y_axis
from kws_demo.drawings.values import items, number, rows, show_ms, show_share
from toolkit.budget import STATISTICS, TIMED, show

ROW = 34
# Of a candidate, by the metric of the budget: keys of what was predicted, of what was found, and of its upper bound.
KEYS = {
    "latency_ms": ("predicted_ms", "measured_p95_ms", "measured_upper_ms"),
    "makespan_ms": ("predicted_makespan_ms", "measured_makespan_ms", "measured_makespan_upper_ms"),
}
COUNTED = ("cost", "counted", "")
AXES = {
    "latency_ms": "ms per hop (p95)",
    "makespan_ms": "ms on all workers (median)",
    "memory_bytes": "memory",
    "multiply_adds": "multiply-adds",
    "parameters": "parameters",
    "steps": "steps",
    "cost": "cost",
}
Bar = tuple[str, float | None, str, float | None]  # name, ms, style, upper bound in ms


def asked_against_measured(run: Mapping[str, Any], limit_ms: float | None, statistic: str) -> str | None:
    """Bars of the predicted and the measured latency with the limit across them; None when there is neither."""
    chosen = next((row for row in rows(run, "pareto") if row.get("chosen") is True), None)
    predicted, most = number(run, "predicted_ms"), number(chosen, "predicted_upper_ms")
    bars: list[Bar] = [("predicted p95", predicted, "predicted", most)]
    for each in STATISTICS:
        style = "measured" if each == statistic else "measured aside"
        measured = number(run, "measured", f"{each}_ms")
        bars.append((f"measured {each}", measured, style, upper_ms(run, each, statistic)))
    known = _known(value for _, measured, _, upper in bars for value in (measured, upper))
    if not known:
        return None
    top, left, right = 30, 118, FULL - 76
    bottom = top + ROW * len(bars)
    canvas = Canvas(FULL, bottom + 42, "asked against measured latency")
    scale = spanning([*known, *([limit_ms] if limit_ms else [])], left, right, zero=True)
    if limit_ms:
        canvas.rectangle(scale(limit_ms), top, right - scale(limit_ms), bottom - top, "beyond")
    x_axis(canvas, scale, top, bottom, "ms per hop")
    if limit_ms:
        canvas.line((scale(limit_ms), top - 8), (scale(limit_ms), bottom), "limit")
        canvas.text(scale(limit_ms), top - 13, f"asked {limit_ms:g} ms", "strong", "middle")
    for index, (name, value, style, upper) in enumerate(bars):
        y = top + ROW * (index + 0.5)
        canvas.text(left - 9, y + 4, name, "strong" if style == "measured" else "", "end")
        _bar(canvas, scale, y, value, style, upper)
    return canvas.render()


def upper_ms(run: Mapping[str, Any], each: str, statistic: str) -> float | None:
    """The upper confidence bound of a measured statistic, given the one that the budget is on."""
    own = number(run, "measured", f"{each}_upper_ms")
    return number(run, "measured", "upper_ms") if own is None and each == statistic else own


def _bar(canvas: Canvas, scale: Scale, y: float, value: float | None, style: str, upper: float | None) -> None:
    if value is None:
        canvas.text(scale.start + 8, y + 4, "not measured", "small")
        return
    canvas.rectangle(scale.start, y - 10, scale(value) - scale.start, 20, style, show_ms(value))
    end, said = scale(value), show_ms(value)
    if upper is not None:
        end, said = max(end, scale(upper)), f"{said} (≤ {show_ms(upper)})"
        canvas.line((scale(value), y), (scale(upper), y), "whisker", f"upper 95 % confidence bound {show_ms(upper)}")
        canvas.line((scale(upper), y - 6), (scale(upper), y + 6), "whisker")
    canvas.text(end + 7, y + 4, said, "halo strong" if style == "measured" else "halo")


def pareto(run: Mapping[str, Any], limit: float | None, metric: str = "latency_ms") -> str | None:
    """Cost against validation accuracy of every candidate; None when there is none with both.

    Args:
        limit: of the budget, in the unit of its metric.
        metric: of the budget; the rows of one that is counted have a `cost`, and `counted`, the same where it is known
            to fit or not to fit.
    """
    keys = KEYS.get(metric, COUNTED)
    points = [row for row in rows(run, "pareto") if _predicted(row, keys[0])]
    if not points:
        return None
    top, bottom, left, right = 50, 396, 58, FULL - 16
    canvas = Canvas(FULL, bottom + 68, "cost against validation accuracy of the candidates")
    costs = _known(number(row, name) for row in points for name in keys)
    across = spanning([*costs, *([limit] if limit else [])], left, right)
    shares = _known(number(row, name) for row in points for name in ("accuracy", "fine_tuned_accuracy"))
    up = spanning(shares, bottom, top)
    if limit:
        canvas.rectangle(across(limit), top, right - across(limit), bottom - top, "beyond")
    x_axis(canvas, across, top, bottom, AXES.get(metric, metric), SHORT if metric in TIMED else partial(show, metric))
    y_axis(canvas, up, left, right, "validation accuracy", lambda share: f"{100 * share:.4g} %")
    front = _front([point for row in points if (point := _predicted(row, keys[0]))])
    canvas.path([(across(x), up(y)) for x, y in _steps(front)], "front")
    if limit:
        canvas.line((across(limit), top - 24), (across(limit), bottom), "limit")
        shown = f"{limit:g} ms" if metric in TIMED else show(metric, limit)
        canvas.text(across(limit), top - 29, f"asked {shown}", "strong", "middle")
    for row in sorted(points, key=lambda row: row.get("chosen") is True):
        _candidate(canvas, across, up, row, metric)
    found = "measured" if metric in TIMED else "fine-tuned"
    entries = [("dot", "hollow", f"{'predicted, ' if metric in TIMED else ''}shared weights")]
    entries += [("line", "front", "best of these"), ("dot", "solid", f"{found}, fits")]
    entries += [("dot", "solid over", f"{found}, over the budget"), ("dot", "solid chosen", "chosen")]
    canvas.legend(left, bottom + 58, entries)
    return canvas.render()


def _predicted(row: Mapping[str, Any], key: str) -> Point | None:
    cost, share = number(row, key), number(row, "accuracy")
    return None if cost is None or share is None else (cost, share)


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _front(points: Sequence[Point]) -> list[Point]:
    """The points that no cheaper one reaches in accuracy."""
    front: list[Point] = []
    for cost, share in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or share > front[-1][1]:
            front.append((cost, share))
    return front


def _steps(front: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    corners = [(after[0], before[1]) for before, after in pairwise(front)]
    return [point for pair in zip(front, [*corners, front[-1]], strict=True) for point in pair]


def _candidate(canvas: Canvas, across: Scale, up: Scale, row: Mapping[str, Any], metric: str) -> None:
    """A hollow dot where it was predicted, and joined to it a solid one where it was measured."""
    predicted, found, bound = KEYS.get(metric, COUNTED)
    point = _predicted(row, predicted)
    assert point is not None
    cost, share = point
    tuned, measured, upper = (number(row, name) for name in ("fine_tuned_accuracy", found, bound))
    about = _about(row, metric, point, measured, upper, tuned)
    start = (across(cost), up(share))
    if measured is None:
        canvas.circle(start, 5, "hollow", about)
        return
    end = (across(measured), up(share if tuned is None else tuned))
    canvas.line(start, end, "move")
    canvas.circle(start, 5, "hollow", about)
    if upper is not None:
        canvas.line(end, (across(upper), end[1]), "whisker")
        canvas.line((across(upper), end[1] - 5), (across(upper), end[1] + 5), "whisker")
    chosen, over = row.get("chosen") is True, row.get("fits") is False
    canvas.circle(end, 8 if chosen else 6, "solid" + " over" * over + " chosen" * chosen, about)
    if chosen:
        side = -1 if end[0] > (across.start + across.end) / 2 else 1
        canvas.text(end[0] + 13 * side, end[1] - 9, "chosen", "halo strong", "end" if side < 0 else "start")


def _about(
    row: Mapping[str, Any], metric: str, point: Point, measured: float | None, upper: float | None, tuned: float | None
) -> str:
    shown = show_ms(point[0]) if metric in TIMED else show(metric, point[0])
    about = f"{len(items(row, 'kept'))} edges: {'predicted ' if metric in TIMED else ''}{shown}"
    about += f", {show_share(point[1])} with shared weights"
    if metric in TIMED:
        name = "measured p95" if metric == "latency_ms" else "measured"
        about += "" if measured is None else f"; {name} {show_ms(measured)}"
        about += "" if upper is None else f" (≤ {show_ms(upper)})"
    return about if tuned is None else f"{about}; {show_share(tuned)} fine-tuned"
