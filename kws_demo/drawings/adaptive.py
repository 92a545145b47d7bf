"""Drawings of a listener that chooses its network: what it costs, when, and what that brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

from exporters.metadata import SILENCE
from kws_demo.drawings import stream as lanes
from kws_demo.drawings.svg import FULL, HALF, Canvas, Point, Scale, spanning, x_axis, y_axis
from kws_demo.drawings.values import number, numbers, show_ms, show_share, texts
from kws_demo.operating_points import pareto_front
from toolkit.budget import AVERAGED, show

TOP, BOTTOM, LEFT, RIGHT = 34, 420, 58, FULL - 30
LOG_FROM = 8.0  # times the cheapest: dearest costs from which the axis is logarithmic
LABEL_HEIGHT = 14.0
LEGEND_HEIGHT, MODE_COLUMNS, WORD_COLUMNS = 19, 4, 6  # no text of a column is as wide as it
UNITS = {"latency_ms": (1, "ms"), "multiply_adds": (1e6, "MFLOPs")}  # of axes
MODES, SPENT = 16, 44  # heights of the lanes of a strip
Row = Mapping[str, Any]
Entry = tuple[str, str, str]  # of a legend: mark, style, text


def pareto(points: Sequence[Row], ours: str) -> str | None:
    """Cost against misses of every policy, a colour each; None without a point.

    Args:
        points: as `ParetoPoint.facts` gives them, all at the same rate of false alarms.
        ours: the policy whose points are marked.
    """
    shown = [row for row in points if (number(row, "ms_per_second") or 0) > 0 and number(row, "misses") is not None]
    if not shown:
        return None
    names = sorted(dict.fromkeys(str(row.get("name")) for row in shown), key=lambda name: name != ours)
    entries = [("dot", _series(place), f"{name} (ours)" if name == ours else name) for place, name in enumerate(names)]
    entries.append(("line", "front", "the best of all"))
    height = BOTTOM + 50 + _legend_height(entries, MODE_COLUMNS)
    canvas = Canvas(FULL, height, "cost against misses of every policy")
    costs = [number(row, "ms_per_second") or 0.0 for row in shown]
    log = max(costs) > LOG_FROM * min(costs)
    across = Scale(min(costs) / 1.2, max(costs) * 1.2, LEFT, RIGHT, log=True) if log else spanning(costs, LEFT, RIGHT)
    most = max(number(row, name) or 0.0 for row in shown for name in ("misses", "misses_high"))
    up = Scale(0.0, 1.06 * most or 1.0, BOTTOM, TOP)
    x_axis(canvas, across, TOP, BOTTOM, f"ms of work per second of audio{' (logarithmic)' if log else ''}")
    y_axis(canvas, up, LEFT, RIGHT, "keywords missed, with intervals of 95 %", lambda share: f"{100 * share:.3g} %")
    front = [(across(x), up(y)) for x, y in map(_cost_and_misses, pareto_front(shown, _cost_and_misses))]
    corners = [point for before, after in pairwise(front) for point in (before, (after[0], before[1]))]
    canvas.path([*corners, front[-1], (RIGHT, front[-1][1])], "front")
    for place, name in reversed([*enumerate(names)]):  # ours last: on top
        rows = [row for row in shown if str(row.get("name")) == name]
        _policy(canvas, across, up, rows, _series(place), name == ours)
    _legend(canvas, LEFT, BOTTOM + 58, entries, MODE_COLUMNS)
    return canvas.render()


def _cost_and_misses(row: Row) -> Point:
    return number(row, "ms_per_second") or 0.0, number(row, "misses") or 0.0


def _legend_height(entries: Sequence[Entry], columns: int) -> float:
    return LEGEND_HEIGHT * -(-len(entries) // columns)


def _legend(canvas: Canvas, x: float, y: float, entries: Sequence[Entry], columns: int) -> None:
    """Rows of so many columns of equal width: how wide a text is depends on its letters."""
    for place, entry in enumerate(entries):
        line, column = divmod(place, columns)
        canvas.legend(x + column * (FULL - x) / columns, y + LEGEND_HEIGHT * line, [entry])


def _series(place: int) -> str:
    return f"series{place}" if place < lanes.SERIES else "series-other"


def _policy(canvas: Canvas, across: Scale, up: Scale, rows: Sequence[Row], style: str, ours: bool) -> None:
    """Its points in the order of their cost, joined; ours in rings, and named beside the cheapest."""
    rows = sorted(rows, key=_cost_and_misses)
    places = [(across(cost), up(misses)) for cost, misses in map(_cost_and_misses, rows)]
    if style != "series-other":
        canvas.path(places, f"score {style}")
    for row, (x, y) in zip(rows, places, strict=True):
        low, high = number(row, "misses_low"), number(row, "misses_high")
        if low is not None and high is not None:
            canvas.line((x, up(low)), (x, up(high)), "move")
        if ours:
            canvas.circle((x, y), 8, "hollow")
        canvas.circle((x, y), 5 if ours else 3.5, style, _told(row))
    if ours:
        x, y = places[0]
        canvas.text(x - 11, y + 16, "ours", "halo strong", "end")


def _told(row: Row) -> str:
    told = f"{row.get('name')} at {row.get('parameter')}: {number(row, 'ms_per_second'):.3g} ms per second"
    told += f", {show_share(number(row, 'misses'))} missed"
    rate = number(row, "false_alarms_per_hour")
    return told if rate is None else f"{told}, {rate:.2g} false alarms an hour"


def cost_by_label(log: Sequence[Row], labels: Sequence[str], metric: str = "latency_ms") -> str | None:
    """Mean cost of the hops of every label over the epochs of a training (thesis, Fig. 4.10); None without any.

    Args:
        log: rows of `ControllerTraining`, {"epoch", "ms_by_label": {place of the label: ms}}, or with
            "multiply_adds_by_label" for that metric; others are left out.
    """
    key, (factor, unit) = f"{AVERAGED[metric].removeprefix('mean_')}_by_label", UNITS[metric]
    lines: dict[str, list[Point]] = {}
    for row in log:
        epoch, spent = number(row, "epoch"), row.get(key)
        for place, label in enumerate(labels):
            value = number(spent, str(place))
            if epoch is not None and value is not None:
                lines.setdefault(label, []).append((epoch, value / factor))
    if not lines:
        return None
    right, bottom = FULL - 130, 360
    canvas = Canvas(FULL, bottom + 44, "cost of a hop by its label over the training")
    points = [point for line in lines.values() for point in line]
    across = spanning((x for x, _ in points), LEFT, right, room=0.02)
    up = spanning((y for _, y in points), bottom, TOP, zero=True)
    x_axis(canvas, across, TOP, bottom, "epoch")
    y_axis(canvas, up, LEFT, right, f"mean {unit} of a hop, by what is said in it")
    words = [label for label in lines if label != SILENCE]
    beside = _apart({label: up(line[-1][1]) for label, line in lines.items()}, TOP, bottom)
    for label, line in lines.items():
        style = "front" if label == SILENCE else f"score series{words.index(label) % lanes.SERIES}"
        end = (across(line[-1][0]), up(line[-1][1]))
        canvas.path(
            [(across(x), up(y)) for x, y in line], style, f"{label}: {show(metric, factor * line[-1][1])} in the end"
        )
        canvas.line(end, (right + 12, beside[label]), "grid")
        canvas.text(right + 15, beside[label] + 4, label[:17], "small halo")
    return canvas.render()


def _apart(wanted: Mapping[str, float], top: float, bottom: float) -> dict[str, float]:
    """Heights of texts as near those wanted as they can be with none on another, in the same order."""
    step = min(LABEL_HEIGHT, (bottom - top) / len(wanted))
    names = sorted(wanted, key=lambda name: wanted[name])
    groups: list[tuple[float, int]] = []  # where the first text stands, and how many touch it from below
    for place, name in enumerate(names):
        first, count = wanted[name] - place * step, 1
        while groups and groups[-1][0] > first:  # pool adjacent violators: those that would overlap move together
            other, others = groups.pop()
            first, count = (first * count + other * others) / (count + others), count + others
        groups.append((first, count))
    firsts = [min(max(first, top), bottom - step * (len(names) - 1)) for first, count in groups for _ in range(count)]
    return {name: first + place * step for place, (name, first) in enumerate(zip(names, firsts, strict=True))}


def cost_by_share(bins: Sequence[Row], width: int = HALF) -> str | None:
    """Mean ms of the hops by how much of their window is word (thesis, Fig. 4.11); None without a bin.

    Args:
        bins: as `operating_points.cost_by_share` gives them.
    """
    known = [row for row in bins if None not in (number(row, "from"), number(row, "to"), number(row, "ms"))]
    if not known:
        return None
    bottom, right = 300, width - 26
    canvas = Canvas(width, bottom + 44, "cost of a hop by the share of word in its window")
    across = Scale(0.0, 1.0, LEFT, right)
    tops = [number(row, name) for row in known for name in ("ms", "high")]
    up = spanning([top for top in tops if top is not None], bottom, TOP, zero=True)
    x_axis(canvas, across, TOP, bottom, "share of the window that is word", lambda share: f"{100 * share:.3g} %")
    y_axis(canvas, up, LEFT, right, "mean ms of a hop, with intervals of 95 %")
    places = [(across((row["from"] + row["to"]) / 2), up(row["ms"])) for row in known]
    canvas.path(places, "score series0")
    for row, (x, y) in zip(known, places, strict=True):
        low, high = number(row, "low"), number(row, "high")
        if low is not None and high is not None:
            canvas.line((x, up(low)), (x, up(high)), "whisker")
        canvas.circle((x, y), 4, "series0", f"{show_ms(row['ms'])}, {number(row, 'hops') or 0:g} hops")
    return canvas.render()


def timeline(stream: Row) -> str | None:
    """The first half minute of a stream: scores and detections, which mode ran, its ms, sound level and truth.

    Scores and detections stand where their window begins, modes and ms where their hop is. None without modes.

    Args:
        stream: as the other timeline has it, with `modes` (the name of every hop's) and `ms` of every hop.
    """
    heard, modes, ms = lanes.read_stream(stream), texts(stream, "modes"), numbers(stream, "ms")
    hop_s = (number(stream, "hop_ms") or 0.0) / 1000
    if heard is None or not modes or len(ms) != len(modes) or hop_s <= 0:
        return None
    shown = max(1, min(len(modes), int(lanes.STRIP_SECONDS / hop_s)))
    styles = _mode_styles(modes, ms)
    words: list[Entry] = [
        ("line", f"score {heard.colour(keyword)}", keyword[:16]) for keyword in list(heard.keywords)[:12]
    ]
    words.append(("line", "limit", "threshold"))
    ran: list[Entry] = [("box", style, name[:24]) for name, style in list(styles.items())[: lanes.SERIES + 1]]
    legends = lanes.STRIP + MODES + SPENT + 18
    below = legends + _legend_height(words, WORD_COLUMNS)
    height = below + _legend_height(ran, MODE_COLUMNS) - 10
    canvas = Canvas(FULL, height, "scores, modes, ms, sound level and detections over time")
    across = Scale(0.0, shown * hop_s, lanes.LEFT, lanes.RIGHT)
    top = lanes.NAMES + lanes.SCORES
    lanes.draw_scores(canvas, heard, across, lanes.NAMES)
    _modes(canvas, modes[:shown], styles, across, hop_s, top)
    _spent(canvas, ms[:shown], across, hop_s, top + MODES)
    lanes.draw_level(canvas, heard, across, top + MODES + SPENT)
    lanes.draw_truth(canvas, heard, across, top + MODES + SPENT + lanes.LEVEL)
    lanes.draw_detections(canvas, heard, across, 0)
    _legend(canvas, lanes.LEFT, legends, words, WORD_COLUMNS)
    _legend(canvas, lanes.LEFT, below, ran, MODE_COLUMNS)
    return canvas.render()


def _mode_styles(modes: Sequence[str], ms: Sequence[float]) -> dict[str, str]:
    """The style of every mode, the cheapest first and without a colour."""
    spent: dict[str, list[float]] = {}
    for mode, value in zip(modes, ms, strict=True):
        spent.setdefault(mode, []).append(value)
    order = sorted(spent, key=lambda mode: sum(spent[mode]) / len(spent[mode]))
    colours = ["idle", *(f"series{place}" for place in reversed(range(lanes.SERIES)))]
    return {mode: colours[min(place, lanes.SERIES)] for place, mode in enumerate(order)}


def _modes(
    canvas: Canvas, modes: Sequence[str], styles: Mapping[str, str], across: Scale, hop_s: float, top: float
) -> None:
    """A strip; hops of one mode in a row are one rectangle."""
    canvas.text(lanes.LEFT - 7, top + MODES - 4, "mode", "tick", "end")
    place = 0
    for mode, run in groupby(modes):
        start, place = place, place + len(list(run))
        x = across(start * hop_s)
        canvas.rectangle(x, top + 2, across(place * hop_s) - x, MODES - 4, styles[mode], mode)


def _spent(canvas: Canvas, ms: Sequence[float], across: Scale, hop_s: float, top: float) -> None:
    """A step for every hop, the dearest filling the lane."""
    up = Scale(0.0, max(ms) or 1.0, top + SPENT - 4, top + 6)
    for value in (0.0, up.high):
        canvas.line((lanes.LEFT, up(value)), (lanes.RIGHT, up(value)), "grid")
        canvas.text(lanes.LEFT - 7, up(value) + 4, f"{value:.2g}" if value else "0 ms", "tick", "end")
    steps = [(across(place * hop_s), up(value)) for hop, value in enumerate(ms) for place in (hop, hop + 1)]
    canvas.path([(lanes.LEFT, up(0.0)), *steps, (steps[-1][0], up(0.0))], "sound", closed=True)
