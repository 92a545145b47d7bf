"""What the listener heard in a recording: scores over time with the threshold, detections, sound level and truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporters.metadata import SILENCE, UNKNOWN
from kws_demo.drawings.svg import CHARACTER, FULL, Canvas, Point, Scale, x_axis
from kws_demo.drawings.values import items, number, numbers, rows, show_share, texts

STRIP_SECONDS, MOST_STRIPS = 30, 6
MOST_SECONDS = STRIP_SECONDS * MOST_STRIPS
WINDOW_MS = 1000  # of sound that a score judges, where the stream does not say
SERIES = 8  # colours of the page's style
LEFT, RIGHT = 46, FULL - 20
NAMES, SCORES, LEVEL, TRUTH, AXIS = 18, 104, 36, 18, 30  # heights of the lanes of a strip
STRIP = NAMES + SCORES + LEVEL + TRUTH + AXIS


@dataclass(frozen=True)
class Heard:
    """A stream as it is drawn: times are starts of windows in seconds."""

    seconds: float
    keywords: Mapping[str, int]  # to its place among the labels
    times: Sequence[float]
    scores: Sequence[Sequence[float]]
    level: Sequence[float]
    detections: Sequence[tuple[str, float, float | None]]
    truth: Sequence[tuple[str, float]]
    threshold: float | None

    def colour(self, keyword: str) -> str:
        """The style of a keyword."""
        names = list(self.keywords)
        return f"series{names.index(keyword) % SERIES}" if keyword in names else "series-other"


def read_stream(stream: Mapping[str, Any]) -> Heard | None:
    """A stream's facts, as many as it has; None when there is neither a score nor a level."""
    labels, hop_s = texts(stream, "labels"), (number(stream, "hop_ms") or 0.0) / 1000
    scores = [numbers({"": row}, "") for row in items(stream, "scores")] if hop_s > 0 else []
    level = [min(1.0, abs(value)) for value in numbers(stream, "level")]
    window_s = (number(stream, "window_ms") or WINDOW_MS) / 1000
    seconds = number(stream, "seconds") or len(scores) * hop_s
    if seconds <= 0 or not (scores or level):
        return None
    found, truth = (
        [(str(row.get("keyword")), number(row, "start_s"), number(row, "score")) for row in rows(stream, name)]
        for name in ("detections", "truth")
    )
    return Heard(
        seconds=seconds,
        keywords={label: place for place, label in enumerate(labels) if label not in (SILENCE, UNKNOWN)},
        times=[(index + 1) * hop_s - window_s for index in range(len(scores))],
        scores=scores,
        level=level,
        detections=[(keyword, max(0.0, start), score) for keyword, start, score in found if start is not None],
        truth=[(keyword, start) for keyword, start, _ in truth if start is not None],
        threshold=number(stream, "threshold"),
    )


def timeline(heard: Heard) -> str:
    """The recording in strips of equal length, one under another; the first three minutes of a long one."""
    shown = min(heard.seconds, MOST_SECONDS)
    count = max(1, math.ceil(shown / STRIP_SECONDS))
    length = shown / count
    canvas = Canvas(FULL, count * STRIP + 22, "scores, detections and sound level over time")
    for strip in range(count):
        top = strip * STRIP
        scale = Scale(strip * length, (strip + 1) * length, LEFT, RIGHT)
        draw_scores(canvas, heard, scale, top + NAMES)
        draw_level(canvas, heard, scale, top + NAMES + SCORES)
        draw_truth(canvas, heard, scale, top + NAMES + SCORES + LEVEL)
        draw_detections(canvas, heard, scale, top)
    entries = [("line", f"score {heard.colour(keyword)}", keyword[:16]) for keyword in list(heard.keywords)[:12]]
    canvas.legend(LEFT, canvas.height - 8, [*entries, ("line", "limit", "threshold")])
    return canvas.render()


def _within(scale: Scale, time_s: float) -> bool:
    return scale.low <= time_s < scale.high


def draw_scores(canvas: Canvas, heard: Heard, scale: Scale, top: float) -> None:
    """A line for every keyword, over the grid and with the threshold."""
    up = Scale(0.0, 1.0, top + SCORES - 4, top + 4)
    for share in (0.0, 0.5, 1.0):
        canvas.line((LEFT, up(share)), (RIGHT, up(share)), "grid")
        canvas.text(LEFT - 7, up(share) + 4, f"{share:g}", "tick", "end")
    shown = [index for index, time_s in enumerate(heard.times) if _within(scale, time_s)]
    shown += [shown[-1] + 1] if shown and shown[-1] + 1 < len(heard.times) else []  # a line does not end in mid-air
    for keyword, place in heard.keywords.items():
        points: list[Point] = []
        for index in shown:
            row = heard.scores[index]
            share = min(1.0, max(0.0, row[place])) if place < len(row) else 0.0
            points.append((scale(heard.times[index]), up(share)))
        canvas.path(points, f"score {heard.colour(keyword)}", keyword)
    if heard.threshold is not None:
        y = up(min(1.0, max(0.0, heard.threshold)))
        canvas.line((LEFT, y), (RIGHT, y), "limit", f"threshold {heard.threshold:g}")


def draw_level(canvas: Canvas, heard: Heard, scale: Scale, top: float) -> None:
    """The envelope around a middle line, the loudest of a recording filling the lane."""
    middle, most = top + LEVEL / 2, max(heard.level, default=0.0) or 1.0
    step_s = heard.seconds / max(1, len(heard.level))
    loudest: dict[int, float] = {}  # by pixel column
    for index, value in enumerate(heard.level):
        if _within(scale, index * step_s):
            column = round(scale(index * step_s))
            loudest[column] = max(value, loudest.get(column, 0.0))
    upper = [(float(x), middle - max(0.5, value / most * (LEVEL / 2 - 2))) for x, value in sorted(loudest.items())]
    canvas.path([*upper, *((x, 2 * middle - y) for x, y in reversed(upper))], "sound", closed=True)
    canvas.text(LEFT - 7, middle + 4, "level", "tick", "end")


def draw_truth(canvas: Canvas, heard: Heard, scale: Scale, top: float) -> None:
    """The words that were said, and the axis of the seconds below them."""
    if heard.truth:
        canvas.text(LEFT - 7, top + 13, "said", "tick", "end")
    for keyword, start in heard.truth:
        if _within(scale, start):
            x = scale(start)
            canvas.line((x, top - LEVEL), (x, top + TRUTH), "said-line")
            canvas.rectangle(x, top + 3, 3, TRUTH - 4, heard.colour(keyword))
            _beside(canvas, x, 6, top + 13, keyword, "small halo")
    x_axis(canvas, scale, top + TRUTH, top + TRUTH, form="{:g} s".format)


def draw_detections(canvas: Canvas, heard: Heard, scale: Scale, top: float) -> None:
    """A pin for every word heard, from above the scores down through them."""
    for keyword, start, score in heard.detections:
        if _within(scale, start):
            x, style = scale(start), heard.colour(keyword)
            canvas.line((x, top + 8), (x, top + NAMES + SCORES), f"pin {style}")
            canvas.circle((x, top + 8), 5, style, f"heard {keyword} at {start:.2f} s, score {show_share(score)}")
            _beside(canvas, x, 8, top + 12, keyword, "small strong halo")


def _beside(canvas: Canvas, x: float, gap: float, y: float, keyword: str, style: str) -> None:
    """A word on the right of a mark, or on its left where the strip ends."""
    shown = keyword if len(keyword) <= 12 else f"{keyword[:11]}…"
    fits = x + gap + CHARACTER * len(shown) <= FULL
    canvas.text(x + (gap if fits else -gap), y, shown, style, "start" if fits else "end")
