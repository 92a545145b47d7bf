"""Drawings of learning: loss and entropy per epoch, the probability of every edge, the confusion matrix."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kws_demo.drawings.svg import FULL, HALF, SHORT, Canvas, Form, Point, Scale, spanning, x_axis, y_axis
from kws_demo.drawings.values import items, number, numbers

Row = Mapping[str, Any]
SERIES = 8
PANEL, BETWEEN = 118.0, 40.0  # heights of a curve of learning, and of what is between two
MOST_EPOCHS, MOST_EDGES = 100, 150
CELL = 12.0


def losses(log: Sequence[Row], width: int = HALF) -> str | None:
    """The loss of every stage in the log, a line each; None without one."""
    stages: dict[str, list[tuple[float, float]]] = {}
    for row in log:
        epoch, loss = number(row, "epoch"), number(row, "loss")
        if epoch is not None and loss is not None:
            stages.setdefault(str(row.get("stage")), []).append((epoch, loss))
    if not stages:
        return None
    top, bottom, left, right = 26, 210, 46, width - 14
    shown = list(stages.items())[:SERIES]
    canvas = Canvas(width, bottom + 44 + 19 * len(shown), "training loss per epoch")
    points = [point for _, line in shown for point in line]
    across = spanning((x for x, _ in points), left, right, room=0.03)
    up = spanning((y for _, y in points), bottom, top, zero=True)
    x_axis(canvas, across, top, bottom, "epoch")
    y_axis(canvas, up, left, right, "training loss")
    for index, (stage, line) in enumerate(shown):
        laid = [(across(x), up(y)) for x, y in line]
        canvas.path(laid, f"score series{index}", stage)
        epoch, loss = line[-1]
        canvas.circle(laid[-1], 3.5, f"series{index}", f"{stage}: {loss:.3g} after epoch {epoch:g}")
        entry = ("line", f"score series{index}", f"{stage[:48]}: {loss:.3g} in the end")
        canvas.legend(left, bottom + 56 + 19 * index, [entry])
    return canvas.render()


@dataclass(frozen=True)
class _Panel:
    """A curve of `learning`, with a line across it where there is a limit."""

    name: str
    line: Sequence[Point]
    form: Form = SHORT
    log: bool = False
    limit: float | None = None


def learning(log: Sequence[Row], limit: float | None = None, form: Form = SHORT, unit: str = "epoch") -> str | None:
    """What a search learns, one above the other: the loss, how open its choices are, λ, and the cost of its favourite.

    Args:
        log: rows of `log.jsonl`; whatever they lack is not drawn. The loss is that of the first stage; the others are
            `entropy_bits`, `penalty` and `likely_cost`.
        limit: of the cost.
        form: shows a cost.
        unit: what time is counted in: the key of it in every row.

    Returns:
        None where no entropy was logged.
    """
    first = next((row.get("stage") for row in log if number(row, "loss") is not None), None)
    losses = _line([row for row in log if row.get("stage") == first], unit, "loss")
    entropy = _line(log, unit, "entropy_bits")
    penalties = [(x, y) for x, y in _line(log, unit, "penalty") if y > 0]
    if not entropy:
        return None
    panels = (
        _Panel("training loss", losses),
        _Panel("entropy of a decision, in bit", entropy),
        _Panel("λ, the price of exceeding the budget (logarithmic)", penalties, log=True),
        _Panel("cost of the most probable network", _line(log, unit, "likely_cost"), form, limit=limit),
    )
    shown = [panel for panel in panels if panel.line]
    canvas = Canvas(FULL, len(shown) * (PANEL + BETWEEN) + 30, f"what the search learns, {unit} by {unit}")
    across = spanning((x for panel in shown for x, _ in panel.line), 80.0, FULL - 24.0, room=0.01)
    for index, panel in enumerate(shown, 1):
        _draw_panel(canvas, panel, across, index * (PANEL + BETWEEN) - 14, unit if index == len(shown) else "")
    return canvas.render()


def _line(rows: Sequence[Row], unit: str, name: str) -> list[Point]:
    found = ((number(row, unit), number(row, name)) for row in rows)
    return [(x, y) for x, y in found if x is not None and y is not None]


def _draw_panel(canvas: Canvas, panel: _Panel, across: Scale, bottom: float, unit: str) -> None:
    values = [*(y for _, y in panel.line), *([] if panel.limit is None else [panel.limit])]
    top = bottom - PANEL
    up = spanning(values, bottom, top, zero=True)
    if panel.log:
        up = Scale(min(values) / 1.5, max(values) * 1.5, bottom, top, log=True)
    x_axis(canvas, across, top, bottom, unit, SHORT if unit else lambda _: "")
    last = panel.line[-1][1]
    told = f"{last:.3g}" if panel.form is SHORT else panel.form(last)
    y_axis(canvas, up, across.start, across.end, f"{panel.name}: {told} in the end", panel.form)
    if panel.limit is not None:
        canvas.line((across.start, up(panel.limit)), (across.end, up(panel.limit)), "limit")
        canvas.text(across.end, up(panel.limit) - 5, f"asked {panel.form(panel.limit)}", "halo strong", "end")
    laid = [(across(x), up(y)) for x, y in panel.line]
    canvas.path(laid, "score series0", panel.name)
    canvas.circle(laid[-1], 3.5, "series0")


def probabilities(log: Sequence[Row], order: Sequence[str], live: Collection[str]) -> str | None:
    """A heat map of edges by epochs under a curve of λ; None when the strategy has no probabilities."""
    told = [row for row in log if isinstance(row.get("probabilities"), Mapping) and row["probabilities"]]
    if not told:
        return None
    told = told[:: -(-len(told) // MOST_EPOCHS)]
    known = told[-1]["probabilities"]
    names = [*(name for name in order if name in known), *(sorted(map(str, known.keys() - set(order))))][:MOST_EDGES]
    left, right, top = 196.0, FULL - 60.0, 112.0
    bottom = top + CELL * len(names)
    canvas = Canvas(FULL, bottom + 66, "probability of every edge over the search")
    column = (right - left) / len(told)
    _penalty(canvas, told, left, column, right)
    for index, name in enumerate(names):
        y, style = top + CELL * index, "small used" if name in live else "small unused"
        canvas.text(left - 8, y + 9.5, name[:32], f"{style} heat-name", "end")
        values = [number(row["probabilities"], name) for row in told]
        _heat_row(canvas, values, left, y, column, name)
        canvas.text(right + 7, y + 9.5, "–" if values[-1] is None else f"{values[-1]:.2f}", f"{style} heat-name")
    _epochs(canvas, told, left, column, bottom)
    canvas.text((left + right) / 2, bottom + 33, "epoch", "small", "middle")
    canvas.legend(left, bottom + 56, [("box", "heat", "probability 1")])
    for step, share in enumerate((0.75, 0.5, 0.25, 0.0)):
        canvas.rectangle(left + 130 + 52 * step, bottom + 46, 13, 11, "heat framed", opacity=share)
        canvas.text(left + 148 + 52 * step, bottom + 56, f"{share:g}", "small")
    return canvas.render()


def _heat_row(canvas: Canvas, values: Sequence[float | None], left: float, y: float, column: float, name: str) -> None:
    """Equal neighbours are one rectangle, which keeps the page small."""
    begin = 0
    for index in range(1, len(values) + 1):
        if index == len(values) or _shade(values[index]) != _shade(values[begin]):
            tip, opacity = f"{name}: {_shade(values[begin])}", min(1.0, max(0.0, values[begin] or 0.0))
            canvas.rectangle(left + column * begin, y, column * (index - begin), CELL - 1, "heat", tip, opacity)
            begin = index


def _shade(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _penalty(canvas: Canvas, told: Sequence[Row], left: float, column: float, right: float) -> None:
    found = [(index, number(row, "penalty")) for index, row in enumerate(told)]
    points = [(left + column * (index + 0.5), value) for index, value in found if value is not None and value > 0]
    if not points:
        canvas.text(left, 60, "λ was not logged", "small")
        return
    lowest, highest = min(value for _, value in points), max(value for _, value in points)
    up = Scale(lowest / 1.5, highest * 1.5, 98, 22, log=True)
    for tick in up.ticks():
        canvas.line((left, up(tick)), (right, up(tick)), "grid")
        canvas.text(left - 7, up(tick) + 4, f"{tick:g}", "tick", "end")
    canvas.path([(x, up(value)) for x, value in points], "score series0", "λ")
    canvas.text(left, 13, "λ, the price of exceeding the budget (logarithmic)", "small")
    canvas.text(right + 7, up(points[-1][1]) + 4, f"{points[-1][1]:.3g}", "small")


def _epochs(canvas: Canvas, told: Sequence[Row], left: float, column: float, bottom: float) -> None:
    every = max(1, -(-len(told) // 12))
    for index, row in enumerate(told):
        epoch = number(row, "epoch")
        if index % every == 0 and epoch is not None:
            canvas.text(left + column * (index + 0.5), bottom + 15, f"{epoch:g}", "tick", "middle")


def confusion(labels: Sequence[str], matrix: object, truth: str = "said", given: str = "heard") -> str | None:
    """Counts of what was said (rows) and heard (columns); None when they do not fit the labels.

    Args:
        truth, given: what that is called, of images.
    """
    counts = [numbers({"": row}, "") for row in items({"": matrix}, "")]
    if not counts or len(counts) != len(labels) or any(len(row) != len(labels) for row in counts):
        return None
    left, top = 104.0, 84.0
    cell = min(64.0, (HALF - left - 48) / len(labels))
    canvas = Canvas(HALF, top + cell * len(labels) + 12, "confusion matrix")
    canvas.text(2, top - 10, f"{truth} ↓  {given} →", "small")
    for index, label in enumerate(labels):
        canvas.text(left - 8, top + cell * (index + 0.5) + 4, label[:14], "small", "end")
        canvas.text(left + cell * (index + 0.5) + 2, top - 8, label[:12], "small", "start", turn=-45)
    for said, row in enumerate(counts):
        total = sum(max(0.0, count) for count in row) or 1.0
        for heard, count in enumerate(row):
            x, y, is_right, share = left + cell * heard, top + cell * said, said == heard, max(0.0, count) / total
            tip = f"{labels[said]} {given} as {labels[heard]}: {count:g} ({100 * share:.1f} %)"
            # Errors are few: the root makes a single one visible.
            opacity = 0.75 * (share if is_right else share**0.5)
            canvas.rectangle(x, y, cell - 1.5, cell - 1.5, "cell")
            canvas.rectangle(x, y, cell - 1.5, cell - 1.5, "right" if is_right else "wrong", tip, opacity)
            if cell >= 20 and count:
                style = "strong" if is_right else "small"
                canvas.text(x + cell / 2 - 0.75, y + cell / 2 + 4, f"{count:g}", style, "middle")
    return canvas.render()
