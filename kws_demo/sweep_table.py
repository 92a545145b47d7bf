"""What a sweep tells: a table with intervals over seeds, and the strategy whose trade-offs are the best."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from kws_demo.intervals import CONFIDENCE, share_interval
from kws_demo.sweep_row import Row
from toolkit.budget import Budget, show
from toolkit.costs import ACCOUNTING
from toolkit.errors import MilliwiseError
from toolkit.pareto import chosen_volume, front

Interval = tuple[float, float]
BEYOND = 2.0  # times the largest budget is the reference, so that accuracy at that one counts for a halving of cost
HALVINGS = 100


def seeds_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """The two-sided interval of the mean of what seeds gave (Student 1908); None for fewer than two."""
    if len(values) < 2:
        return None
    half = _t_quantile(confidence, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values) - half, statistics.fmean(values) + half


def largest_budget(texts: Iterable[str]) -> Budget:
    """The largest of at least one.

    Raises:
        MilliwiseError: they are of several kinds, which have no common table.
    """
    budgets = [Budget.parse(text) for text in texts]
    kinds = {(each.metric, each.statistic, each.workers): each for each in budgets}
    if len(kinds) > 1:
        raise MilliwiseError(f"{' and '.join(map(str, kinds.values()))} cannot be compared: sweep each kind alone")
    return max(budgets, key=lambda budget: budget.limit)


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """The sweep as JSON values.

    Keys:
        metric: of the budgets.
        accounting: what costs are billed on.
        table[]: space, strategy, budget, penalty; seeds (that are done), failed, kept, unmeasured (whose budget is of
            time on a device that is away); cost, validation, test and seconds, means over seeds; validation_low and so
            on, with what their interval is; front: whether its validation accuracy is on the front of its strategy.
        strategies[]: the best first: name; hypervolume with low and high; seeds; seconds of one seed.
        best: name of the first, or None; clear: whether the interval of no other reaches into its.
        reference: cost and accuracy of the hypervolume.

    Accuracies are fractions; a failed point is counted, and is in no mean.

    Raises:
        MilliwiseError: see `largest_budget`.
    """
    largest = largest_budget(row.budget for row in rows)
    grouped: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row.space, row.strategy, row.budget, row.penalty), []).append(row)
    table = [_group(group) for group in grouped.values()]
    for strategy in {row.strategy for row in rows}:
        mine = [each for each in table if each["strategy"] == strategy and each["cost"] is not None]
        for place in front([(each["cost"], each["validation"]) for each in mine]):
            mine[place]["front"] = True
    labels = [row.labels for row in rows if row.labels]
    reference = {"cost": BEYOND * largest.limit, "accuracy": 1 / min(labels) if labels else 0.0}
    compared = _compared(rows, reference)
    best = compared[0] if compared and compared[0]["hypervolume"] is not None else None
    return {
        "metric": largest.metric,
        "accounting": ACCOUNTING,
        "table": table,
        "strategies": compared,
        "best": best and best["name"],
        "clear": best is not None and _is_clear(best, compared[1:]),
        "reference": reference,
    }


def _group(rows: Sequence[Row]) -> dict[str, Any]:
    """The seeds of one place of the grid."""
    first, done = rows[0], [row for row in rows if row.failed is None]
    told: dict[str, Any] = {name: getattr(first, name) for name in ("space", "strategy", "budget", "penalty")}
    told |= {"seeds": len(done), "failed": len(rows) - len(done), "kept": sum(row.budget_kept is True for row in done)}
    told["unmeasured"] = sum(row.budget_kept is None for row in done)
    for name in ("cost", "validation", "test", "seconds"):
        values = [getattr(row, name) for row in done]
        told[name] = statistics.fmean(values) if done else None
    for name in ("validation", "test"):
        told[f"{name}_low"], told[f"{name}_high"] = _accuracy_interval(done, name) or (None, None)
    told["interval"] = _kind(done)
    return {**told, "front": False}


def _accuracy_interval(rows: Sequence[Row], name: str) -> Interval | None:
    values = [getattr(row, name) for row in rows]
    if found := seeds_interval(values):
        return max(0.0, found[0]), min(1.0, found[1])
    if not rows:
        return None
    (row,) = rows
    if name == "test" and not row.pixels and row.clips:
        return share_interval(round(values[0] * row.clips), row.clips)
    half = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * getattr(row, f"{name}_error")
    return max(0.0, values[0] - half), min(1.0, values[0] + half)


def _kind(rows: Sequence[Row]) -> str | None:
    """What the intervals are about, in words."""
    if len(rows) > 1:
        return f"t over {len(rows)} seeds"
    if not rows:
        return None
    return f"one seed: of its {rows[0].clips} test examples"


def _compared(rows: Sequence[Row], reference: dict[str, float]) -> list[dict[str, Any]]:
    """Every strategy, best first, over the seeds of which nothing failed or was free.

    As in the thesis of BSN the front is chosen by validation, from all spaces, budgets and λ, and tested then: where
    that tells that a dearer network is a worse one, the volume is smaller.
    """
    odd = {row.seed for row in rows if row.failed is not None or row.cost == 0}  # 0 has no halvings
    whole = sorted({row.seed for row in rows} - odd)
    found = []
    for name in dict.fromkeys(row.strategy for row in rows):
        of_seeds = [[row for row in rows if (row.strategy, row.seed) == (name, seed)] for seed in whole]
        volumes = [_volume(some, reference) for some in of_seeds]
        low, high = seeds_interval(volumes) or (None, None)
        mean = statistics.fmean(volumes) if volumes else None
        seconds = statistics.fmean(sum(row.seconds or 0.0 for row in some) for some in of_seeds) if of_seeds else None
        points = max(map(len, of_seeds), default=0)
        told = {"name": name, "hypervolume": mean, "low": low, "high": high, "points": points}
        found.append({**told, "seeds": len(volumes), "seconds": seconds})
    return sorted(found, key=lambda each: -(each["hypervolume"] or 0.0))


def _volume(rows: Sequence[Row], reference: dict[str, float]) -> float:
    known = [(row.cost or 0.0, row.validation or 0.0, row.test or 0.0) for row in rows]
    chosen = [known[place] for place in front([(cost, validation) for cost, validation, _test in known])]
    return chosen_volume([(cost, test) for cost, _, test in chosen], reference["cost"], reference["accuracy"])


def _is_clear(best: dict[str, Any], others: Sequence[dict[str, Any]]) -> bool:
    return best["low"] is not None and all(other["high"] < best["low"] for other in others)


def text(summary: dict[str, Any]) -> str:
    """The same for people."""
    return "\n".join([*_aligned(lines(summary)), *_told(summary)])


def lines(summary: dict[str, Any]) -> list[list[str]]:
    """The table, a text for every cell; what its columns are comes first."""
    metric, penalties = summary["metric"], any(row["penalty"] is not None for row in summary["table"])
    head = ["strategy", "budget", *(["λ"] if penalties else []), "cost", "validation %", "test %", "seconds", "seeds"]
    told = [["space", *head]]
    for row in summary["table"]:
        penalty = "-" if row["penalty"] is None else f"{row['penalty']:g}"
        named = [row["space"], row["strategy"], row["budget"], *([penalty] if penalties else [])]
        seeds = f"{row['seeds']}" + (f", {row['failed']} failed" if row["failed"] else "")
        if row["cost"] is None:
            told.append([*named, "-", "-", "-", "-", seeds])
            continue
        shares = [_share(row, "validation"), _share(row, "test")]
        over, unmeasured = row["seeds"] - row["kept"] - row["unmeasured"], row["unmeasured"]
        seeds += "".join(f", {n} {what}" for n, what in ((over, "over the budget"), (unmeasured, "unmeasured")) if n)
        told.append([*named, show(metric, row["cost"]), *shares, f"{row['seconds']:.0f}", seeds])
    return told


def volumes(summary: dict[str, Any]) -> list[list[str]]:
    """Every strategy, the best first: its hypervolume with the interval, and what a seed took."""
    told = []
    for each in summary["strategies"]:
        if each["hypervolume"] is None:
            told.append([each["name"], "unknown, for of every seed a point failed, or costs nothing"])
            continue
        interval = f" ({each['low']:.4f} to {each['high']:.4f})" if each["low"] is not None else " (one seed)"
        told.append([each["name"], f"{each['hypervolume']:.4f}{interval}, {each['seconds']:.0f} s a seed"])
    return told


def about(summary: dict[str, Any]) -> tuple[str, str]:
    """What intervals and costs are of, and what the hypervolume is."""
    kinds = sorted({row["interval"] for row in summary["table"] if row["interval"]})
    reference = summary["reference"]
    against = f"{show(summary['metric'], reference['cost'])} and {100 * reference['accuracy']:.3g} %"
    return (
        f"95 % intervals, {'; '.join(kinds)}; costs are billed on {summary['accounting']}",
        f"hypervolume (accuracy × halvings of cost, against {against})",
    )


def verdict(summary: dict[str, Any]) -> str | None:
    """Which strategy is the best, and whether that is sure; None where there is nothing to choose."""
    if not summary["best"] or len(summary["strategies"]) < 2:
        return None
    unsure = "" if summary["clear"] else ", though intervals do not tell them apart: more seeds would"
    points = {each["name"]: each["points"] for each in summary["strategies"]}
    if len(set(points.values())) > 1:
        counted = ", ".join(f"{name} {count}" for name, count in points.items())
        unsure += f"; but some had more tries than others (points a seed: {counted})"
    return f"best: {summary['best']}{unsure}"


def _share(row: dict[str, Any], name: str) -> str:
    mean, low, high = (100 * row[key] for key in (name, f"{name}_low", f"{name}_high"))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]


def _told(summary: dict[str, Any]) -> list[str]:
    """What stands below the table."""
    intervals, volume = about(summary)
    best = verdict(summary)
    named = [f"  {name}: {value}" for name, value in volumes(summary)]
    return [intervals, f"{volume}:", *named, *([best] if best else [])]


def _t_quantile(confidence: float, freedom: int) -> float:
    """The t that so much of Student's distribution lies within ± of."""
    low, high = 0.0, 1.0
    while _within(high, freedom) < confidence:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """How much of Student's distribution lies within ± t (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    first = 3 if freedom % 2 else 2
    term = math.cos(angle) if freedom % 2 else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(first, freedom - 1, 2):
        term *= (k - 1) / k * math.cos(angle) ** 2
        total += term
    if freedom % 2:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total
