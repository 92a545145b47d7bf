"""Two drawings of what was asked: against what was measured, and among everything that could have been chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from kws_demo.drawings.svg import FULL, Canvas, Scale, spanning, x_axis, y_axis
from kws_demo.drawings.values import items, number, rows, show_ms, show_share
from toolkit.budget import STATISTICS

ROW = 34
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


def pareto(run: Mapping[str, Any], limit_ms: float | None) -> str | None:
    """Cost against validation accuracy of every candidate; None when there is none with both."""
    points = [row for row in rows(run, "pareto") if _predicted(row)]
    if not points:
        return None
    top, bottom, left, right = 50, 396, 58, FULL - 16
    canvas = Canvas(FULL, bottom + 68, "cost against validation accuracy of the candidates")
    names = ("predicted_ms", "measured_p95_ms", "measured_upper_ms")
    costs = _known(number(row, name) for row in points for name in names)
    across = spanning([*costs, *([limit_ms] if limit_ms else [])], left, right)
    shares = _known(number(row, name) for row in points for name in ("accuracy", "fine_tuned_accuracy"))
    up = spanning(shares, bottom, top)
    if limit_ms:
        canvas.rectangle(across(limit_ms), top, right - across(limit_ms), bottom - top, "beyond")
    x_axis(canvas, across, top, bottom, "ms per hop (p95)")
    y_axis(canvas, up, left, right, "validation accuracy", lambda share: f"{100 * share:.4g} %")
    canvas.path([(across(x), up(y)) for x, y in _steps(_front(points))], "front")
    if limit_ms:
        canvas.line((across(limit_ms), top - 24), (across(limit_ms), bottom), "limit")
        canvas.text(across(limit_ms), top - 29, f"asked {limit_ms:g} ms", "strong", "middle")
    for row in sorted(points, key=lambda row: row.get("chosen") is True):
        _candidate(canvas, across, up, row)
    canvas.legend(
        left,
        bottom + 58,
        (
            ("dot", "hollow", "predicted, shared weights"),
            ("line", "front", "best of these"),
            ("dot", "solid", "measured, fits"),
            ("dot", "solid over", "measured, over the budget"),
            ("dot", "solid chosen", "chosen"),
        ),
    )
    return canvas.render()


def _predicted(row: Mapping[str, Any]) -> tuple[float, float] | None:
    cost, share = number(row, "predicted_ms"), number(row, "accuracy")
    return None if cost is None or share is None else (cost, share)


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _front(points: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """The predicted points that no cheaper one reaches in accuracy."""
    front: list[tuple[float, float]] = []
    places = (point for row in points if (point := _predicted(row)))
    for cost, share in sorted(places, key=lambda point: (point[0], -point[1])):
        if not front or share > front[-1][1]:
            front.append((cost, share))
    return front


def _steps(front: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    corners = [(after[0], before[1]) for before, after in pairwise(front)]
    return [point for pair in zip(front, [*corners, front[-1]], strict=True) for point in pair]


def _candidate(canvas: Canvas, across: Scale, up: Scale, row: Mapping[str, Any]) -> None:
    """A hollow dot where it was predicted, and joined to it a solid one where it was measured."""
    point = _predicted(row)
    assert point is not None
    cost, share = point
    tuned = number(row, "fine_tuned_accuracy")
    measured, upper = number(row, "measured_p95_ms"), number(row, "measured_upper_ms")
    about = f"{len(items(row, 'kept'))} edges: predicted {show_ms(cost)}, {show_share(share)} with shared weights"
    about += "" if measured is None else f"; measured p95 {show_ms(measured)}"
    about += "" if upper is None else f" (≤ {show_ms(upper)})"
    about += "" if tuned is None else f"; {show_share(tuned)} fine-tuned"
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
