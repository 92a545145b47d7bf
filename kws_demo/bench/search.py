"""`milliwise bench search`: Budgeted Super Networks beside the published figures, and on toys whose best is known."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import nn

from kws_demo.bench.rows import Results, machine, row
from kws_demo.bench.search_gpu import gpu_rows, judged_gpu, on_gpu
from kws_demo.bench.search_images import DATA, SEVERAL, ImageSearches
from kws_demo.bench.search_pictures import draw
from kws_demo.bench.search_time import time_rows
from kws_demo.bench.search_toys import cloud_rows, toy_rows, trade_rows
from kws_demo.bench.search_workers import judged_workers, makespan_row, worker_rows
from kws_demo.sweep_row import Row as SweepRow
from kws_demo.sweep_table import seeds_interval, summarise
from profilers.published import published_multiply_adds
from toolkit.budget import Budget
from toolkit.progress import progress
from toolkit.spaces import neural_fabric, resnet_fabric
from toolkit.supernet import SuperNetwork

DEFAULT = "bsn"
VARIANTS = (DEFAULT, "bsn-greedy", "bsn-published")  # as toys can tell: what they learn needs no gradient of a network
CLOSE = 1.05
IMAGE = (1, 3, 32, 32)
ABLATIONS: dict[str, dict[str, Any]] = {
    "with a penalty that stays": {"penalty": 1.0},
    "with independent edges": {"connected": False},
    "with dense networks at first": {"initial": 0.5},
    "free from the first moment": {"temperature": 0.0},
    "with costs of the trained networks only": {"cost_samples": 4},
}
# MFLOPs, parameters, and steps of 1, 2 and 4 workers (thesis, tables 3.1 to 3.9), as they round there.
RESNETS = {
    20: (40.899, 0.2733, (22, 20, 20)),
    32: (69.268, 0.4681, (34, 32, 32)),
    44: (97.637, 0.6630, (46, 44, 44)),
    56: (126.006, 0.8579, (58, 56, 56)),
    110: (253.666, 1.7349, (112, 110, 110)),
}
RESNET_FABRICS = {3: (91.1, (50, 29, 20)), 18: (635.3, (320, 179, 110))}
NEURAL_FABRICS = {
    1: (53.82, 0.744, (12, 12, 12)),
    2: (406.21, 3.849, (39, 26, 19)),
    4: (1010.33, 8.580, (83, 47, 31)),
    8: (2218.57, 18.042, (171, 90, 53)),
}
BUDGETS, QUICK_BUDGETS = 20, 6
SEEDS, QUICK_SEEDS = 3, 2
QUICK_WARM_UP = 3.0  # minutes, once for each seed
PEERS = ("evolution", "gumbel-softmax", "magnitude-pruning", "uniform", "hand-made")
GROUPED, PUBLISHED = DEFAULT, "bsn-published"  # one architecture for a group of examples, and one for each of them
Row = dict[str, Any]


def run(results: Results, *, quick: bool, recordings: Path, seed: int) -> Row:
    """Measure what `results` does not hold yet; `quick` leaves out the two largest networks, and most budgets.

    Returns:
        rows (name, target, measured, interval, met, reason) and machine.
    """
    golden = results.keep("golden figures" + (", quick" if quick else ""), lambda: list(golden_rows(quick)))
    toys, trades = {}, {}
    for name in VARIANTS:
        toys[name] = results.keep(f"toy fabrics: {name}, seed {seed}", partial(toy_rows, name, seed))
        trades[name] = results.keep(f"toy trades: {name}, seed {seed}", partial(trade_rows, name, seed))
    for name, options in ABLATIONS.items():
        work = partial(toy_rows, DEFAULT, seed, **options)
        toys[f"{DEFAULT} {name}"] = results.keep(f"toy fabrics: {name}, seed {seed}", work)
        work = partial(trade_rows, DEFAULT, seed, **options)
        trades[f"{DEFAULT} {name}"] = results.keep(f"toy trades: {name}, seed {seed}", work)
    clouds = results.keep(f"clouds: {DEFAULT}, seed {seed}", lambda: cloud_rows(DEFAULT, seed))
    seeds = range(seed, seed + (QUICK_SEEDS if quick else SEEDS))
    pictures = _pictures(results, recordings, seeds, quick)
    rows = [*_judged(golden, toys, clouds), *_traded(trades), *_for_workers(results, seed), *pictures]
    by_view = _runs(results.path.with_suffix(""), results.get(_by_cost(seeds)) or ())
    drawn = {name: toys[name] for name in VARIANTS}
    draw(results.path.parent / "search-pictures", drawn, clouds, seed, by_view)
    return {"rows": rows, "machine": machine()}


def _by_cost(seeds: Sequence[int]) -> str:
    return f"images by cost, seeds {seeds[0]} to {seeds[-1]}"


def _runs(folder: Path, rows: Sequence[Row]) -> dict[str, Path]:
    """One search for every view, of those that were made here."""
    found = {str(each["view"]): folder / str(each["run"]) for each in reversed(rows)}
    return {view: run for view, run in found.items() if (run / "run.json").exists()}


def _for_workers(results: Results, seed: int) -> Iterator[Row]:
    toys = results.keep(f"workers: {DEFAULT}, seed {seed}", lambda: worker_rows(DEFAULT, seed))
    folder = results.path.with_suffix("")
    real = results.keep(f"makespan of winners, seed {seed}", lambda: makespan_row(seed, folder))
    yield from judged_workers(toys, real)


def _pictures(results: Results, recordings: Path, seeds: Sequence[int], quick: bool) -> Iterator[Row]:
    if not (recordings / DATA).is_file():
        yield row("searches of images", "-", None, None, reason=f"no images in {recordings / DATA}")
        return
    folder, minutes = results.path.with_suffix(""), QUICK_WARM_UP if quick else 0.0
    searches = cache(lambda: ImageSearches(recordings, folder, minutes, results.resume))
    count = QUICK_BUDGETS if quick else BUDGETS
    limits = results.keep(f"image budgets, {count}", lambda: searches().limits(count))
    by_hand = results.keep("image networks made by hand", lambda: searches().made_by_hand)
    common = [limits[0], limits[count // 3], *by_hand]

    def kept(name: str, limits: Sequence[float], strategies: Sequence[str], fine_tuned: int) -> list[Row]:
        """Seed by seed, so that a sitting which ends early has something to go on with."""

        def search(seed: int) -> list[Row]:
            return searches().counted_searches(limits, strategies, [seed], fine_tuned)

        keys = {f"images: {name}, {count} budgets, seed {seed}": seed for seed in seeds}
        return [found for key, seed in keys.items() for found in results.keep(key, partial(search, seed))]

    own = kept(DEFAULT, limits, [DEFAULT], SEVERAL)
    peers = kept("peers", common, [DEFAULT, *PEERS], 1)
    variants = kept("variants", common, VARIANTS[1:], 1)
    costs = results.keep(_by_cost(seeds), lambda: searches().searches_by_cost(DEFAULT, seeds))
    timed = results.keep(f"images in ms, seed {seeds[0]}", lambda: searches().timed_searches(DEFAULT, seeds[0]))
    times = results.keep(
        f"time of searching images, seed {seeds[0]}",
        lambda: time_rows(recordings / DATA, searches().counted, 1e6 * by_hand[-1], (GROUPED, PUBLISHED), seeds[0]),
    )
    key = f"images on a GPU, seed {seeds[0]}"
    if not quick and on_gpu():
        results.keep(key, lambda: gpu_rows(recordings / DATA, folder, DEFAULT, seeds[0]))
    yield from judged_gpu(results.get(key))
    yield from _within_budgets("counted", own)
    yield from _within_budgets("in ms, measured as p95", timed)
    yield from _at_the_chain(peers, by_hand[-1])
    yield _volume_row("peer", peers)
    yield _volume_row("variant", [*(each for each in peers if each["strategy"] == DEFAULT), *variants])
    yield from _by_costs(costs)
    yield from _timed(times)


def _within_budgets(kind: str, rows: Sequence[Row]) -> Iterator[Row]:
    share = statistics.fmean(each["budget_kept"] is True for each in rows)
    yield row(f"budgets kept on images, {kind}", "= 1", share, lambda value: value == 1, reason=f"{len(rows)} searches")
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


def _at_the_chain(rows: Sequence[Row], chain: float) -> Iterator[Row]:
    """Right at the cost of the chain ResNet."""
    dearest = max(rows, key=lambda each: Budget.parse(each["budget"]).limit)["budget"]
    right = {(each["strategy"], each["seed"]): each["test"] for each in rows if each["budget"] == dearest}
    more = [right[DEFAULT, seed] - right["hand-made", seed] for strategy, seed in right if strategy == DEFAULT]
    reason = f"{chain:.3g} MFLOPs; seeds " + " ".join(f"{each:+.3f}" for each in more)
    name = "right at the chain ResNet's cost, less the chain's"
    yield row(name, ">= 0", statistics.fmean(more), lambda value: value >= 0, seeds_interval(more), reason)


def _volume_row(kind: str, rows: Sequence[Row]) -> Row:
    """Over all costs."""
    known = {field.name for field in fields(SweepRow)}
    found = summarise([SweepRow(**{name: each[name] for name in known}) for each in rows])["strategies"]
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


def _by_costs(rows: Sequence[Row]) -> Iterator[Row]:
    """Half way from the cheapest to the whole by each cost, and within the same steps by the number of workers."""
    for view in dict.fromkeys(each["view"] for each in rows):
        found = [each for each in rows if each["view"] == view]
        edges = statistics.fmean(each["live_edges"] for each in found)
        reason = f"within {found[0]['budget']}; {edges:.3g} live edges"
        right = [each["test"] for each in found]
        yield row(
            f"right on images, limited in {view}", "-", statistics.fmean(right), None, seeds_interval(right), reason
        )


def _timed(times: Row) -> Iterator[Row]:
    reason = f"the whole takes {times['whole_s']:.3g} s"
    for name, limit, told in ((GROUPED, 0.7, "grouped masks"), (PUBLISHED, 1.1, "a mask for every example")):
        title = f"time of a search with {told} over that of training the whole network"
        ratio = times["ratios"][name]
        yield row(title, f"<= {limit}", ratio, lambda value, limit=limit: value <= limit, reason=reason)  # type: ignore[misc]


def _judged(golden: Sequence[Row], toys: dict[str, list[Row]], clouds: Sequence[Row]) -> Iterator[Row]:
    wrong = [each for each in golden if each["found"] != each["published"]]
    told = "; ".join(f"{each['name']} {each['found']}, not {each['published']}" for each in wrong)
    reason = told or f"{len(golden)} figures"
    yield row("published figures that differ", "= 0", float(len(wrong)), lambda value: value == 0, reason=reason)
    target = 0.9 * len(toys[DEFAULT])
    name = f"of {len(toys[DEFAULT])} random costs, within 5 % of the cheapest path"
    for strategy, found in toys.items():
        close = sum(each["ratio"] <= CLOSE for each in found)
        exact = sum(each["ratio"] <= 1 + 1e-9 for each in found)
        reason = f"{exact} exact, the worst {max(each['ratio'] for each in found):.3g} times as dear"
        asked: tuple[str, Callable[[float], bool] | None] = ("-", None)
        if strategy == DEFAULT:
            asked = (f">= {target:g}", lambda value: value >= target)
        yield row(f"{name}: {strategy}", asked[0], float(close), asked[1], reason=reason)
    bits = [each["entropy_bits"] for each in toys[DEFAULT]]
    spread = f"mean {statistics.fmean(bits):.3g}"
    yield row(
        "entropy over reachable edges, the most, in bit", "< 0.1", max(bits), lambda value: value < 0.1, None, spread
    )
    links = [each["links"] for each in clouds]
    off = float(sum(each != 1 for each in links))
    yield row(
        "clouds that are reached by no or several links", "= 0", off, lambda value: value == 0, None, f"of {len(links)}"
    )


def _traded(trades: dict[str, list[Row]]) -> Iterator[Row]:
    for strategy, found in trades.items():
        lost = [each["regret"] for each in found]
        name = f"of a loss of 0.5 to 1, more than hill climbing finds: {strategy}"
        yield row(name, "-", statistics.fmean(lost), None, reason=f"of {len(lost)}, the most {max(lost):.3g}")


def golden_rows(quick: bool) -> Iterator[Row]:
    """Every published figure, with what our networks give."""
    with progress("counting published networks", 4 + 2 * 3 + 5) as advance:
        for layers, (mega, parameters, steps) in RESNETS.items():
            network = resnet_fabric.fabric((layers - 2) // 6, 10, "")
            yield from _figures(f"ResNet-{layers}", network, (mega, 3), (parameters, 4), steps)
            advance(1)
        for blocks, (mega, steps) in RESNET_FABRICS.items():
            if not (quick and blocks > 3):
                yield from _figures(f"ResNet fabric {blocks}", resnet_fabric.fabric(blocks, 10), (mega, 1), None, steps)
            advance(3)
        for columns, (mega, parameters, steps) in NEURAL_FABRICS.items():
            if not (quick and columns > 4):
                network = neural_fabric.fabric(10, columns, 128, 6)
                yield from _figures(f"neural fabric {columns}", network, (mega, 2), (parameters, 3), steps, legacy=True)
            advance(1)


def _figures(
    name: str,
    network: SuperNetwork,
    mega: tuple[float, int],
    parameters: tuple[float, int] | None,
    steps: tuple[int, ...],
    legacy: bool = False,
) -> Iterator[Row]:
    network.eval()
    found = round(published_multiply_adds(network, IMAGE, legacy=legacy) / 1e6, mega[1])
    yield {"name": f"{name}, MFLOPs", "published": mega[0], "found": found}
    if parameters is not None:
        values = sum(value.numel() for value in network.parameters())
        found = round(values / 1e6, parameters[1])
        yield {"name": f"{name}, Mparams", "published": parameters[0], "found": found}
    free = {edge: 0 for edge, operation in network.operations.items() if isinstance(operation, nn.Identity)}
    for workers, published in zip((1, 2, 4), steps, strict=True):
        # The classifier, which is our head, takes the last step.
        count = len(network.graph.schedule(network.graph.full, workers, free)) + 1
        yield {"name": f"{name}, steps of {workers}", "published": published, "found": count}
