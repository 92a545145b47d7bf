"""What a threshold trades: misses against false alarms per hour, with the intervals of both, as an SVG file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kws_demo.drawings.svg import FULL, Canvas, Point, Scale, x_axis, y_axis
from kws_demo.drawings.values import number, rows, show_share
from kws_demo.report_style import style_sheet

TOP, BOTTOM, LEFT, RIGHT = 52, 400, 58, FULL - 24
NAMESPACE = "http://www.w3.org/2000/svg"
LEAST = 0.1  # of the rate of one false alarm in all the hours: there the logarithmic axis ends, and means none
Row = Mapping[str, Any]


def tradeoff(tuned: Row) -> str | None:
    """False-reject rate against false alarms per hour of the summary of a tuning; None without a curve.

    Without clips of the keywords, false alarms against the threshold.
    """
    curve, hours = rows(tuned, "curve"), number(tuned, "hours")
    if not curve or not hours or hours <= 0:
        return None
    has_clips = all(number(row, "frr") is not None for row in curve)
    talk = f"{hours:.3g} h of {'synthetic talk' if tuned.get('synthetic') else 'recordings'}"
    canvas = Canvas(FULL, BOTTOM + 74, f"what a threshold trades, on {talk}")
    highest = max([number(row, "fa_high") or 0.0 for row in curve] + [10 / hours])
    rates = Scale(LEAST / hours, highest, *((LEFT, RIGHT) if has_clips else (BOTTOM, TOP)), log=True)
    (_misses if has_clips else _thresholds)(canvas, tuned, curve, rates)
    first = number(curve[0], "threshold") or 0.0
    canvas.text(LEFT, 16, f"One threshold for all keywords, from {first:g} to 1, on {talk}; intervals of 95 %", "small")
    entries = [("line", "score series0", "measured"), ("box", "band", "95 %"), ("line", "limit", "asked for")]
    entries += [("dot", "solid chosen", "the thresholds chosen, one for each keyword")] if has_clips else []
    canvas.legend(LEFT, BOTTOM + 62, entries)
    return canvas.render()


def standalone(markup: str) -> str:
    """A drawing of the report as a file of its own, with the style sheet inside."""
    style = f"<style>{style_sheet()}svg{{background:var(--card)}}</style>"
    head, _, rest = markup.partition(">")
    return head.replace("<svg", f'<svg xmlns="{NAMESPACE}"', 1) + f">{style}{rest}\n"


def _misses(canvas: Canvas, tuned: Row, curve: Sequence[Row], rates: Scale) -> None:
    highest = max(0.05, *(number(row, "frr_high") or 0.0 for row in curve))
    shares = Scale(0, highest, BOTTOM, TOP)
    x_axis(canvas, rates, TOP, BOTTOM, "false alarms an hour (logarithmic; at the left end: none)")
    y_axis(canvas, shares, LEFT, RIGHT, "keywords missed", form=lambda share: f"{100 * share:.3g} %")

    def place(row: Row, side: str) -> Point:
        return _rate(row, f"fa{side}", rates), shares(number(row, f"frr{side or ''}") or 0.0)

    _draw(canvas, curve, place)
    limit = _rate(tuned, "target_fa_per_hour", rates)
    canvas.line((limit, TOP), (limit, BOTTOM), "limit", f"asked for: {number(tuned, 'target_fa_per_hour'):g} an hour")
    if number(tuned, "frr") is not None:
        told = f"{number(tuned, 'fa_per_hour'):.3g} false alarms an hour, {show_share(number(tuned, 'frr'))} missed"
        canvas.circle(place(tuned, ""), 6, "solid chosen", told)


def _thresholds(canvas: Canvas, tuned: Row, curve: Sequence[Row], rates: Scale) -> None:
    across = Scale(number(curve[0], "threshold") or 0.0, 1, LEFT, RIGHT)
    x_axis(canvas, across, TOP, BOTTOM, "threshold")
    y_axis(canvas, rates, LEFT, RIGHT, "false alarms an hour (logarithmic; at the bottom: none)")
    _draw(canvas, curve, lambda row, side: (across(number(row, "threshold") or 0.0), _rate(row, f"fa{side}", rates)))
    limit = _rate(tuned, "target_fa_per_hour", rates)
    canvas.line((LEFT, limit), (RIGHT, limit), "limit", f"asked for: {number(tuned, 'target_fa_per_hour'):g} an hour")


def _draw(canvas: Canvas, curve: Sequence[Row], place: Callable[[Row, str], Point]) -> None:
    """The line through what was measured, in a band from both lower to both upper bounds."""
    upper, lower = ([place(row, side) for row in curve] for side in ("_high", "_low"))
    corners = (lower[-1][0], upper[-1][1]), (upper[0][0], lower[0][1])
    canvas.path([*upper, corners[0], *reversed(lower), corners[1]], "band", closed=True)
    canvas.path([place(row, "") for row in curve], "score series0")
    for row in curve:
        told = f"threshold {number(row, 'threshold'):g}: {number(row, 'fa_per_hour'):.3g} false alarms an hour"
        told += f", {show_share(number(row, 'frr'))} missed" if row.get("frr") is not None else ""
        canvas.circle(place(row, ""), 2, "net", told)


def _rate(row: Row, key: str, scale: Scale) -> float:
    name = "fa_per_hour" if key == "fa" else key
    return scale(min(max(number(row, name) or 0.0, scale.low), scale.high))
