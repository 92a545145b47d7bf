"""What strategies trade, as Fig. 3.5 of the thesis of BSN: test accuracy over cost, fronts chosen by validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from profilers.drawing import BAND, label, require_drawable, write_figure
from toolkit.budget import TIMED, UNITS

COLOURS = ("#0b62c4", "#d9480f", "#2b8a3e", "#9c36b5", "#a67c00", "#0c8599", "#c2255c", "#5f3dc4")  # of the report
MARKS = "osD^vP*X"  # of spaces
NAMES = {
    "latency_ms": "measured latency",
    "makespan_ms": "measured makespan",
    "memory_bytes": "memory",
    "multiply_adds": "multiply-adds",
    "parameters": "parameters",
    "steps": "sequential steps",
    "cost": "cost",
}
Row = Mapping[str, Any]


def draw_fronts(summary: Mapping[str, Any], points: Sequence[Row], path: Path) -> None:
    """Draw means over seeds with their intervals, the line through those on the front, and every seed as a faint dot.

    Args:
        summary: of `summarise`.
        points: the rows of the sweep, as JSON values.

    Raises:
        MilliwiseError: neither PNG nor SVG, or it cannot be written.
        ModuleNotFoundError: matplotlib is not installed.
    """
    require_drawable(path)
    from matplotlib.figure import Figure

    table = [row for row in summary["table"] if row["cost"] is not None]
    factor, unit = _unit(summary["metric"], [row["cost"] for row in table])
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    axes = figure.add_subplot()
    spaces = [*dict.fromkeys(row["space"] for row in table)]
    names = [*dict.fromkeys(row["strategy"] for row in table)]
    for index, name in enumerate(names):
        mine, colour = [row for row in table if row["strategy"] == name], COLOURS[index % len(COLOURS)]
        seeds = [each for each in points if each["strategy"] == name and each["failed"] is None]
        axes.scatter(
            [each["cost"] / factor for each in seeds], [100 * each["test"] for each in seeds],
            s=7, color=colour, alpha=0.35, linewidths=0, zorder=2,
        )  # fmt: skip
        _means(axes, mine, factor, colour, spaces)
        chosen = sorted((row for row in mine if row["front"]), key=lambda row: row["cost"])
        line = [row["cost"] / factor for row in chosen], [100 * row["test"] for row in chosen]
        axes.plot(*line, color=colour, linewidth=1.6, zorder=3, label=label(name))
    if len(spaces) > 1:
        for space, mark in zip(spaces, MARKS * len(spaces), strict=False):
            axes.plot([], [], mark, color="#6b7280", markersize=5, label=label(space))
    _axes(axes, f"{NAMES.get(summary['metric'], summary['metric'])}{unit}", [row["cost"] / factor for row in table])
    intervals = "; ".join(sorted({row["interval"] for row in table}))
    title = f"Fronts chosen by validation accuracy; costs are billed on {summary['accounting']}; 95 %: {intervals}"
    figure.suptitle(title if table else "Nothing was finished", parse_math=False, fontsize=10)
    write_figure(figure, path)


def _means(axes: Any, rows: Sequence[Row], factor: float, colour: str, spaces: Sequence[str]) -> None:
    """Of one strategy; what is not on its front is hollow."""
    for row in rows:
        low, high = (abs(100 * (row["test"] - row[f"test_{side}"])) for side in ("low", "high"))
        axes.errorbar(
            [row["cost"] / factor], [100 * row["test"]], yerr=[[low], [high]],
            fmt=MARKS[spaces.index(row["space"]) % len(MARKS)], markersize=5, color=colour, elinewidth=0.8, capsize=2,
            markerfacecolor=colour if row["front"] else "white", zorder=4,
        )  # fmt: skip


def _axes(axes: Any, cost: str, costs: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    if costs:
        axes.set_xlim(0.85 * min(costs), 1.18 * max(costs))
        steps = (1, 1.5, 2, 3, 5, 7) if max(costs) < 10 * min(costs) else (1, 2, 5)
        axes.xaxis.set_major_locator(LogLocator(subs=steps, numticks=12))
        axes.legend(fontsize=8, loc="lower right", frameon=False)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(cost, fontsize=8)
    axes.set_ylabel("test accuracy, %", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(color=BAND)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _unit(metric: str, costs: Sequence[float]) -> tuple[float, str]:
    """The largest unit that the dearest network has at least one of, and how it is written behind a name."""
    if metric in TIMED:
        return 1.0, ", ms"
    steps = [(factor, shown) for of, factor, shown in UNITS.values() if of == metric]
    factor, shown = max((step for step in steps if step[0] <= max(costs, default=1.0)), default=min(steps))
    return factor, "" if metric == "steps" else f", {shown}"
