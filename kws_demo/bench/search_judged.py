"""What searches of images are judged by: a row for every question, of the searches that answer it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from kws_demo.bench.rows import row
from kws_demo.sweep_row import Row as SweepRow
from kws_demo.sweep_table import seeds_interval, summarise
from toolkit.budget import Budget

DEFAULT = "bsn"
GROUPED, PUBLISHED = DEFAULT, "bsn-published"  # one architecture for a group of examples, and one for each of them
Row = dict[str, Any]


def within_budgets(kind: str, rows: Sequence[Row]) -> Iterator[Row]:
    """Whether budgets are kept, and whether a better network was at hand."""
    share = statistics.fmean(each["budget_kept"] is True for each in rows)
    reason = f"{len(rows)} searches"
    if timed := [each for each in rows if each.get("p95_ms") is not None]:
        within = sum(each["p95_ms"] <= Budget.parse(each["budget"]).limit for each in timed)
        reason += f"; kept asks that of an upper bound of p95, and p95 itself is within the budget in {within}"
    yield row(f"budgets kept on images, {kind}", "= 1", share, lambda value: value == 1, reason=reason)
    name = f"of these, beaten within the budget on validation by over a standard error, {kind}"
    beaten = float(sum(each["beaten"] > 1 for each in rows))
    reason = f"{sum(each['tried'] for each in rows)} were fine-tuned; true by construction, unless silence decides"
    yield row(name, "= 0", beaten, lambda value: value == 0, reason=reason)
    name = f"of these, beaten so by what another search found within the budget, {kind}"
    elsewhere = [found for each in rows if (found := _better(each, rows)) is not None]
    told = "; ".join(f"{each['budget']} by {other['budget']} (seed {each['seed']})" for each, other in elsewhere)
    yield row(name, "-", float(len(elsewhere)), None, reason=told or "each search knows its own networks only")


def _better(found: Row, rows: Sequence[Row]) -> tuple[Row, Row] | None:
    """What was found, and what another search of that seed found within its budget, if that validates better."""
    limit = Budget.parse(found["budget"]).limit
    others = [each for each in rows if each["seed"] == found["seed"] and each["cost"] <= limit]
    best = max(others, key=lambda each: float(each["validation"]), default=found)
    return (found, best) if best["validation"] > found["validation"] + found["validation_error"] else None


def at_the_chain(rows: Sequence[Row], chain: float) -> Iterator[Row]:
    """Right at the cost of the chain ResNet."""
    dearest = max(rows, key=lambda each: Budget.parse(each["budget"]).limit)["budget"]
    right = {(each["strategy"], each["seed"]): each for each in rows if each["budget"] == dearest}
    pairs = [(right[DEFAULT, seed], right["hand-made", seed]) for strategy, seed in right if strategy == DEFAULT]
    more = [found["test"] - by_hand["test"] for found, by_hand in pairs]
    epochs = [" ".join(str(each.get("epochs", "?")) for each in side) for side in zip(*pairs, strict=True)]
    reason = f"{chain:.3g} MFLOPs; seeds " + " ".join(f"{each:+.3f}" for each in more)
    reason += f"; {epochs[0]} epochs against {epochs[1]}"
    name = "right at the chain ResNet's cost, less the chain's"
    yield row(name, ">= 0", statistics.fmean(more), lambda value: value >= 0, seeds_interval(more), reason)


def volume_row(kind: str, rows: Sequence[Row]) -> Row:
    """Over all costs."""
    found = summarise(as_of_a_sweep(rows))["strategies"]
    volumes = {each["name"]: each["hypervolume"] for each in found}
    best = max((name for name in volumes if name != DEFAULT), key=lambda name: volumes[name])
    ratio = volumes[DEFAULT] / volumes[best]
    shown = "; ".join(
        f"{each['name']} {each['hypervolume']:.3f}"
        + (f" ({each['low']:.3f} to {each['high']:.3f})" if each["low"] is not None else "")
        for each in found
    )
    name = f"hypervolume over that of the best {kind}, {best}, at equal wall-clock"
    return row(name, ">= 1", ratio, lambda value: value >= 1, reason=shown)


def as_of_a_sweep(rows: Sequence[Row]) -> list[SweepRow]:
    """As a sweep has them: without what only this benchmark asks."""
    known = {field.name for field in fields(SweepRow)}
    return [SweepRow(**{name: each[name] for name in known}) for each in rows]


def without(rows: Sequence[Row], names: Mapping[str, str]) -> Iterator[Row]:
    """What each improvement of the default is worth: what it is right more often within the same budgets and seeds.

    Args:
        rows: of searches with the default, and without one of its improvements.
        names: of the strategies without, by what they lack.
    """
    whole = {(each["budget"], each["seed"]): each["test"] for each in rows if each["strategy"] == DEFAULT}
    for told, strategy in names.items():
        name = f"right on images, less {DEFAULT} {told}"
        mine = [each for each in rows if each["strategy"] == strategy]
        if not mine:
            yield row(name, "-", None, None, reason="left out by --quick")
            continue
        more = [
            statistics.fmean(whole[each["budget"], seed] - each["test"] for each in mine if each["seed"] == seed)
            for seed in sorted({each["seed"] for each in mine})
        ]
        right = statistics.fmean(each["test"] for each in mine)
        reason = f"which is right for {100 * right:.1f} %; means of {len(mine) // len(more)} budgets for each seed"
        yield row(name, "-", statistics.fmean(more), None, seeds_interval(more), reason)


def by_costs(rows: Sequence[Row]) -> Iterator[Row]:
    """Half way from the cheapest to the whole by each cost, and within the same steps by the number of workers."""
    for view in dict.fromkeys(each["view"] for each in rows):
        found = [each for each in rows if each["view"] == view]
        edges = statistics.fmean(each["live_edges"] for each in found)
        reason = f"within {found[0]['budget']}; {edges:.3g} live edges"
        right = [each["test"] for each in found]
        yield row(
            f"right on images, limited in {view}", "-", statistics.fmean(right), None, seeds_interval(right), reason
        )


def timed_rows(times: Row) -> Iterator[Row]:
    """What searching takes beside training the whole network."""
    reason = f"the whole takes {times['whole_s']:.3g} s"
    for name, limit, told in ((GROUPED, 0.7, "grouped masks"), (PUBLISHED, 1.1, "a mask for every example")):
        title = f"time of a search with {told} over that of training the whole network"
        ratio = times["ratios"][name]
        yield row(title, f"<= {limit}", ratio, lambda value, limit=limit: value <= limit, reason=reason)  # type: ignore[misc]
