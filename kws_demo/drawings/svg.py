"""A small canvas for SVG inside HTML: elements with escaped text, scales with round ticks, axes, legends.

Colours are classes of the page's style sheet, so that one drawing serves light and dark pages.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

Point = tuple[float, float]
Form = Callable[[float], str]
SHORT: Form = "{:.6g}".format
FULL, HALF = 960, 470  # widths in pixels: of the page, of a column
CHARACTER = 6.4  # mean width of one, in pixels, in the size the drawings use
JOINERS = "\u200c\u200d"  # parts of words in several scripts


def plain(text: object, limit: int = 200) -> str:
    """Text from anywhere, made fit for HTML: no markup, no control or direction characters, not endless."""
    shown = str(text)
    shown = shown if len(shown) <= limit else shown[: limit - 1] + "…"
    return html.escape("".join(sign if sign.isprintable() or sign in JOINERS else "\ufffd" for sign in shown))


class Canvas:
    """Collects the elements of one drawing of `width` × `height` pixels; `label` says in words what it shows."""

    def __init__(self, width: float, height: float, label: str) -> None:
        self.width, self.height = width, height
        size, box = "full" if width > HALF else "half", f"0 0 {_short(width)} {_short(height)}"
        self._parts = [f'<svg viewBox="{box}" class="{size}" role="img" aria-label="{plain(label)}">']

    def add(self, name: str, style: str, tip: str = "", **attributes: float | str) -> None:
        """An element, its attributes with _ for -; `style` names classes, `tip` is shown to a resting pointer."""
        self._add(name, style, f"<title>{plain(tip)}</title>" if tip else "", attributes)

    def text(
        self, x: float, y: float, content: object, style: str = "", anchor: str = "start", turn: float = 0
    ) -> None:
        """Text whose baseline starts (or has its middle, or ends) at a point, turned by degrees around it."""
        turned = {"transform": f"rotate({_short(turn)} {_short(x)} {_short(y)})"} if turn else {}
        self._add("text", style, plain(content), {"x": x, "y": y, "text_anchor": anchor, **turned})

    def line(self, start: Point, end: Point, style: str, tip: str = "") -> None:
        """A straight line."""
        self.add("line", style, tip, x1=start[0], y1=start[1], x2=end[0], y2=end[1])

    def rectangle(
        self, x: float, y: float, width: float, height: float, style: str, tip: str = "", opacity: float = 1
    ) -> None:
        """A rectangle; one of negative size is drawn as nothing."""
        faded = {} if opacity >= 1 else {"fill_opacity": f"{opacity:.2f}"}
        self.add("rect", style, tip, x=x, y=y, width=max(0.0, width), height=max(0.0, height), **faded)

    def circle(self, centre: Point, radius: float, style: str, tip: str = "") -> None:
        """A circle."""
        self.add("circle", style, tip, cx=centre[0], cy=centre[1], r=radius)

    def path(self, points: Sequence[Point], style: str, tip: str = "", closed: bool = False) -> None:
        """Straight lines through points; nothing for fewer than two."""
        if len(points) > 1:
            steps = "L".join(f"{_short(x)} {_short(y)}" for x, y in points)
            self.add("path", style, tip, d=f"M{steps}{'Z' if closed else ''}")

    def legend(self, x: float, y: float, entries: Iterable[tuple[str, str, str]]) -> None:
        """Entries (mark, style, text) in one row; a mark is `dot`, `line` or `box`."""
        for mark, style, content in entries:
            if mark == "dot":
                self.circle((x + 7, y - 4), 5, style)
            elif mark == "line":
                self.line((x, y - 4), (x + 16, y - 4), style)
            else:
                self.rectangle(x + 1, y - 10, 13, 11, style)
            self.text(x + 21, y, content, "small")
            x += 21 + CHARACTER * min(len(content), 200) + 18

    def render(self) -> str:
        """The drawing as markup."""
        return "".join([*self._parts, "</svg>"])

    def _add(self, name: str, style: str, content: str, attributes: dict[str, float | str]) -> None:
        shown = {key: value if isinstance(value, str) else _short(value) for key, value in attributes.items()}
        told = "".join(f' {key.replace("_", "-")}="{html.escape(value)}"' for key, value in shown.items())
        styled = f' class="{style}"' if style else ""
        self._parts.append(f"<{name}{styled}{told}>{content}</{name}>")


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` laid on pixels from `start` to `end`, by their logarithm if asked."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, here = self.low, self.high, value
        if self.log:
            low, high, here = (math.log(max(each, 1e-12)) for each in (low, high, value))
        return self.start + (self.end - self.start) * (here - low) / (high - low)

    def ticks(self, about: int = 6) -> list[float]:
        """Round values within the scale: multiples of 1, 2 or 5 times a power of ten."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            factors = (1, 2, 5) if len(powers) < 5 else (1,)
            values = [factor * 10.0**power for power in powers for factor in factors]
            return [value for value in values if self.low <= value <= self.high]
        rough = (self.high - self.low) / max(3, about)  # of fewer, none might fall inside
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [index * step for index in range(first, math.floor(self.high / step + 1e-9) + 1)]


def spanning(values: Iterable[float], start: float, end: float, zero: bool = False, room: float = 0.06) -> Scale:
    """A scale that holds all the values (0 as well if asked) with a share of room around them."""
    held = [*values, *([0.0] if zero else [])] or [0.0, 1.0]
    low, high = min(held), max(held)
    margin = room * (high - low) or abs(high) * 0.1 or 1.0
    return Scale(0.0 if zero and low >= 0 else low - margin, high + margin, start, end)


def x_axis(canvas: Canvas, scale: Scale, top: float, bottom: float, label: str = "", form: Form = SHORT) -> None:
    """Vertical grid lines at the ticks, their values below, and what they are."""
    for tick in scale.ticks(max(2, round(abs(scale.end - scale.start) / 75))):
        canvas.line((scale(tick), top), (scale(tick), bottom), "grid")
        canvas.text(scale(tick), bottom + 15, form(tick), "tick", "middle")
    canvas.line((scale.start, bottom), (scale.end, bottom), "axis")
    if label:
        canvas.text((scale.start + scale.end) / 2, bottom + 33, label, "small", "middle")


def y_axis(canvas: Canvas, scale: Scale, left: float, right: float, label: str = "", form: Form = SHORT) -> None:
    """Horizontal grid lines at the ticks, their values on the left, and above them what they are."""
    for tick in scale.ticks(max(2, round(abs(scale.end - scale.start) / 50))):
        canvas.line((left, scale(tick)), (right, scale(tick)), "grid")
        canvas.text(left - 7, scale(tick) + 4, form(tick), "tick", "end")
    if label:
        canvas.text(left, min(scale.start, scale.end) - 9, label, "small")


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
