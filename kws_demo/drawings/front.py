"""What strategies trade, as Fig. 3.5 of the thesis of BSN: test accuracy over cost, fronts chosen by validation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from kws_demo.drawings.svg import FULL, SHORT, Canvas, Form, Point, Scale, spanning, x_axis, y_axis
from kws_demo.drawings.values import show_share
from toolkit.budget import TIMED, show

TOP, BOTTOM, LEFT, RIGHT = 62, 420, 58, FULL - 16
SERIES = 8  # colours of the style sheet
SHAPES = (
    (0, 0),
    (4, 45),
    (3, -90),
    (4, 0),
    (3, 90),
    (5, -90),
)  # of spaces: corners (none: a circle), turned by degrees
TINY = 1e-9  # below it, logarithms are not drawn
IN_ONE_ROW = 5  # names of a legend
NAMES = {
    "latency_ms": "measured latency, ms",
    "makespan_ms": "measured makespan, ms",
    "memory_bytes": "memory",
    "multiply_adds": "multiply-adds",
    "parameters": "parameters",
    "steps": "sequential steps",
    "cost": "cost",
}
Row = Mapping[str, Any]


def fronts(summary: Row, points: Sequence[Row]) -> str | None:
    """Means over seeds with their intervals, the line through those on the front, and every seed as a faint dot.

    Args:
        summary: of `summarise`.
        points: the rows of the sweep, as JSON values.

    Returns:
        The drawing, or None if nothing was finished.
    """
    table, metric = [row for row in summary["table"] if row["cost"] is not None], summary["metric"]
    if not table:
        return None
    done = [each for each in points if each["failed"] is None]
    spaces, names = ([*dict.fromkeys(row[key] for row in table)] for key in ("space", "strategy"))
    legend = [names[start : start + IN_ONE_ROW] for start in range(0, len(names), IN_ONE_ROW)]
    lines = len(legend) + (len(spaces) if len(spaces) > 1 else 0)
    canvas = Canvas(FULL, BOTTOM + 44 + 18 * lines, "accuracy over cost by strategy")
    across = _costs([row["cost"] for row in [*table, *done]])
    shares = [row[key] for row in table for key in ("test_low", "test_high")]
    up = spanning([*shares, *(each["test"] for each in done)], BOTTOM, TOP, room=0.04)
    form: Form = SHORT if metric in TIMED else partial(show, metric)
    kinds = "; ".join(sorted({row["interval"] for row in table}))
    told = f"Fronts chosen by validation accuracy; costs are billed on {summary['accounting']}; 95 %: {kinds}"
    canvas.text(LEFT, 16, told, "small")
    x_axis(canvas, across, TOP, BOTTOM, f"{NAMES.get(metric, metric)}{' (logarithmic)' * across.log}", form)
    y_axis(canvas, up, LEFT, RIGHT, "test accuracy", lambda share: f"{100 * share:.4g} %")
    for index, name in enumerate(names):
        style = f"series{index % SERIES}"
        for each in (each for each in done if each["strategy"] == name):
            canvas.circle((across(each["cost"]), up(each["test"])), 2, f"{style} aside", each["point"])
        mine = [row for row in table if row["strategy"] == name]
        chosen = sorted((row for row in mine if row["front"]), key=lambda row: row["cost"])
        canvas.path([(across(row["cost"]), up(row["test"])) for row in chosen], f"score {style}")
        for row in mine:
            _mean(canvas, across, up, row, style, SHAPES[spaces.index(row["space"]) % len(SHAPES)], form)
    _legend(canvas, legend, spaces)
    return canvas.render()


def _costs(costs: Sequence[float]) -> Scale:
    """Logarithmic wherever that has round ticks to show."""
    low, high = min(costs), max(costs)
    if low >= TINY and high >= 3 * low:
        return Scale(0.9 * low, 1.1 * high, LEFT, RIGHT, log=True)
    return spanning(costs, LEFT, RIGHT)


def _mean(canvas: Canvas, across: Scale, up: Scale, row: Row, style: str, shape: tuple[int, int], form: Form) -> None:
    """What one place of the grid found; hollow if it is not on the front of its strategy."""
    x = across(row["cost"])
    low, high = up(row["test_low"]), up(row["test_high"])
    canvas.line((x, low), (x, high), style)
    for end in (low, high):
        canvas.line((x - 3, end), (x + 3, end), style)
    told = f"{row['strategy']} within {row['budget']}: {form(row['cost'])}, {show_share(row['test'])} of test examples"
    told += f" right ({show_share(row['test_low'])} to {show_share(row['test_high'])})"
    centre = (x, up(row["test"]))
    _mark(canvas, shape, centre, 5, style, told)
    if not row["front"]:
        _mark(canvas, shape, centre, 3, "inner", told)


def _mark(canvas: Canvas, shape: tuple[int, int], centre: Point, radius: float, style: str, tip: str = "") -> None:
    corners, turned = shape
    if not corners:
        canvas.circle(centre, radius, style, tip)
        return
    angles = [math.radians(turned + 360 * corner / corners) for corner in range(corners)]
    reach = 1.2 * radius  # corners are farther out than a circle of the same size
    outline = [(centre[0] + reach * math.cos(angle), centre[1] + reach * math.sin(angle)) for angle in angles]
    canvas.path(outline, style, tip, closed=True)


def _legend(canvas: Canvas, names: Sequence[Sequence[str]], spaces: Sequence[str]) -> None:
    y, index = BOTTOM + 54.0, 0
    for part in names:
        canvas.legend(LEFT, y, [("dot", f"series{(index + n) % SERIES}", name) for n, name in enumerate(part)])
        y, index = y + 18, index + len(part)
    for number, space in enumerate(spaces if len(spaces) > 1 else ()):
        _mark(canvas, SHAPES[number % len(SHAPES)], (LEFT + 7, y - 4), 5, "series-other")
        canvas.text(LEFT + 21, y, space, "small")
        y += 18
