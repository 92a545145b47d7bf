"""Pictures of device profiles: what all of them share, and the one that shows a profile."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from profilers.show import Times, costliest, in_ms, short, uncertainty_ms
from toolkit.errors import MilliwiseError
from toolkit.files import require_writable, write_bytes
from toolkit.profile import Bound, DeviceProfile, EdgeCost

FORMATS = ("png", "svg")
MOST_BARS = 60  # more cannot be read on one page
LONGEST_NAME = 40
LEAST_MS, MOST_MS = 1e-6, 1e6  # beyond, nothing is drawn to scale
SLOWER, FASTER, STILL, BAND = "#c2410c", "#0f766e", "#6b7280", "#e5e7eb"


def require_drawable(path: Path) -> str:
    """The format of a drawing with this name; nothing is written.

    Raises:
        MilliwiseError: it is neither PNG nor SVG, or cannot be written there.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise MilliwiseError(f"cannot draw into {path.name!r}: name it .png or .svg")
    require_writable(path)
    return kind


def write_figure(figure: Any, path: Path) -> None:
    """Write a matplotlib figure as PNG or SVG, aside and renamed; equal figures give equal files.

    Raises:
        MilliwiseError: another format, or it cannot be written.
    """
    kind = require_drawable(path)
    from matplotlib import rc_context

    content = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "milliwise"}):
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(content, format=kind, dpi=120, metadata=metadata)
    write_bytes(path, content.getvalue())


def label(name: str) -> str:
    """A name that a drawing can hold, whatever a profile holds."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in name)
    return short(plain, LONGEST_NAME)


def lanes(axes: Any, names: Iterable[str], told: Sequence[str]) -> None:
    """Make horizontal bars readable: their names on the left, what there is to tell of each on the right."""
    places, values = range(len(told)), axes.twinx()
    axes.set_yticks(places, labels=[label(name) for name in names], parse_math=False, fontsize=8)
    values.set_yticks(places, labels=told, parse_math=False, fontsize=8)
    for side in (axes, values):
        side.set_ylim(max(len(told), 1) - 0.4, -0.6)
        side.tick_params(axis="y", length=0)
        side.spines[["top", "left", "right"]].set_visible(False)
    axes.grid(axis="x", color=BAND)
    axes.set_axisbelow(True)


def draw_profile(profile: DeviceProfile, times: Sequence[Times], path: Path) -> None:
    """Draw what a profile predicts against what was measured, and the cost of every distinct edge, as PNG or SVG.

    Args:
        times: of the held-out networks.

    Raises:
        MilliwiseError: another format, or it cannot be written.
        ModuleNotFoundError: matplotlib is not installed.
    """
    require_drawable(path)
    from matplotlib.figure import Figure

    costs = costliest(profile)
    bars = costs[:MOST_BARS]
    heights = (4.2, 1.0 + 0.22 * max(len(bars), 3))
    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=heights)
    above, below = halves
    drawn = [pair for pair in times if all(LEAST_MS <= value <= MOST_MS for value in pair)]
    plane, strip = (above.add_subplot(1, 2, place) for place in (1, 2))
    _plane(plane, drawn, profile.latency.bound)
    _strip(strip, drawn, profile.latency.bound)
    above.suptitle(_title(profile, len(drawn), len(times)), parse_math=False, fontsize=10)
    part = "" if len(bars) == len(costs) else f" (the dearest {len(bars)} of {len(costs)})"
    below.suptitle(f"What each distinct edge adds to a network{part}", fontsize=10)
    _bars(below.add_subplot(), bars)
    write_figure(figure, path)


def _title(profile: DeviceProfile, drawn: int, networks: int) -> str:
    device = label(str(profile.fingerprint.get("cpu_model") or "an unknown device"))
    part = "" if drawn == networks else f" ({drawn} drawn)"
    return f"{label(profile.space)} on {device}: {networks} networks that took no part in the fit{part}"


def _plane(axes: Any, times: Sequence[Times], bound: Bound | None) -> None:
    """Predicted against measured, both logarithmic."""
    known = [value for pair in times for value in pair] or [0.1, 1.0]
    low, high = min(known) / 1.15, max(known) * 1.15
    ends = [low, high]
    for share, alpha in ((0.10, 0.6), (0.05, 1.0)):
        axes.fill_between(ends, [end * (1 - share) for end in ends], [end * (1 + share) for end in ends],
                          color=BAND, alpha=alpha, linewidth=0)  # fmt: skip
    axes.plot(ends, ends, color="black", linewidth=0.8)
    if bound is not None and bound.factor > 0:
        axes.plot(ends, [end / bound.factor for end in ends], color=SLOWER, linewidth=0.8, linestyle="--")
    axes.scatter([pair[1] for pair in times], [pair[0] for pair in times], s=10, color=_colours(times), zorder=3)
    for axis, scale, limit in (
        (axes.xaxis, axes.set_xscale, axes.set_xlim),
        (axes.yaxis, axes.set_yscale, axes.set_ylim),
    ):
        scale("log")
        limit(low, high)
        _plain_ticks(axis, high / low)
    axes.set_aspect("equal")
    axes.set_xlabel("measured, ms", fontsize=8)
    axes.set_ylabel("predicted, ms", fontsize=8)


def _plain_ticks(axis: Any, reach: float) -> None:
    """0.05 and 2 instead of powers of ten, as many as there is room for."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    rooms = ((3.0, (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)), (10.0, (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)))
    steps = next((steps for most, steps in (*rooms, (1000.0, (1.0, 2.0, 5.0))) if reach < most), (1.0,))
    axis.set_major_locator(LogLocator(subs=steps, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(labelsize=8)


def _strip(axes: Any, times: Sequence[Times], bound: Bound | None) -> None:
    """The same networks: by how much each prediction is off."""
    errors = [100 * error for error in map(_error, times)]
    for share, alpha in ((10, 0.6), (5, 1.0)):
        axes.axhspan(-share, share, color=BAND, alpha=alpha, linewidth=0)
    axes.axhline(0, color="black", linewidth=0.8)
    reach = max(12.0, *(1.1 * min(abs(error), 300.0) for error in errors)) if errors else 12.0
    if bound is not None and bound.factor > 0:
        below = 100 * (1 / bound.factor - 1)
        axes.axhline(below, color=SLOWER, linewidth=0.8, linestyle="--")
        text = f"bound: {100 * bound.coverage:.3g} % stay above"
        axes.text(0.99, below, text, transform=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=7)
        reach = max(reach, min(-1.1 * below, 100.0))
    axes.scatter([pair[1] for pair in times], errors, s=10, color=_colours(times), zorder=3)
    measured = [pair[1] for pair in times] or [0.1, 1.0]
    axes.set_xscale("log")
    axes.set_xlim(min(measured) / 1.15, max(measured) * 1.15)
    _plain_ticks(axes.xaxis, 1.3 * max(measured) / min(measured))
    axes.set_ylim(-reach, reach)
    axes.tick_params(labelsize=8)
    axes.set_xlabel("measured, ms", fontsize=8)
    axes.set_ylabel("prediction off by, %; grey: ±5 and ±10", fontsize=8)


def _error(pair: Times) -> float:
    return pair[0] / pair[1] - 1


def _colours(times: Sequence[Times]) -> list[str]:
    return [FASTER if abs(_error(pair)) <= 0.10 else SLOWER for pair in times]


def _bars(axes: Any, rows: Sequence[tuple[str, EdgeCost]]) -> None:
    """Cost of each edge with a whisker as long as it may be off."""
    costs = [min(row.latency_ms or 0.0, MOST_MS) for _name, row in rows]
    may_be_off = [min(uncertainty_ms(row), MOST_MS) for _name, row in rows]
    axes.barh(range(len(rows)), costs, 0.6, color=FASTER)
    named = [(name, _told(row, max(costs))) for name, row in rows]
    whiskers = [[min(pair) for pair in zip(costs, may_be_off, strict=True)], may_be_off]
    axes.errorbar(costs, range(len(rows)), xerr=whiskers, fmt="none", ecolor="black", elinewidth=0.8, capsize=0)
    lanes(axes, [name for name, _told in named], [told for _name, told in named])
    axes.set_xlim(0, 1.05 * max(map(sum, zip(costs, may_be_off, strict=True)), default=1.0))
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel("ms; the whisker is how far it may be off", fontsize=8)


def _told(row: EdgeCost, most_ms: float) -> str:
    cost_ms, off_ms = row.latency_ms or 0.0, uncertainty_ms(row)
    sure = f" ± {100 * min(off_ms / cost_ms, 9.99):.0f} %" if off_ms and cost_ms else ""
    return f"{in_ms(cost_ms, most_ms)} ms{sure}"
