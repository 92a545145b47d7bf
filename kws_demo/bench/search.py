"""`milliwise bench search`: Budgeted Super Networks beside the published figures, and on toys whose best is known."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from kws_demo.bench.rows import Results, machine, row
from kws_demo.bench.search_golden import golden_rows
from kws_demo.bench.search_gpu import gpu_rows, judged_gpu, on_gpu
from kws_demo.bench.search_images import DATA, SEVERAL, ImageSearches
from kws_demo.bench.search_judged import (
    DEFAULT,
    GROUPED,
    PUBLISHED,
    as_of_a_sweep,
    at_the_chain,
    by_costs,
    timed_rows,
    volume_row,
    within_budgets,
    without,
)
from kws_demo.bench.search_pictures import draw
from kws_demo.bench.search_time import time_rows
from kws_demo.bench.search_toys import cloud_rows, toy_rows, trade_rows
from kws_demo.bench.search_workers import judged_workers, makespan_row, worker_rows

VARIANTS = (DEFAULT, "bsn-greedy", "bsn-published")  # as toys can tell: what they learn needs no gradient of a network
CLOSE = 1.05
# Strategies by what they lack of the default.
ABLATIONS = {
    "with a penalty that stays": "bsn-fixed-penalty",
    "with independent edges": "bsn-independent-edges",
    "with dense networks at first": "bsn-dense-start",
    "free from the first moment": "bsn-free-from-the-start",
    "with costs of the trained networks only": "bsn-few-costs",
}
BY_TRAINING = {**ABLATIONS, "with a network for every example": "bsn-per-example"}  # which toys cannot tell
BUDGETS, QUICK_BUDGETS = 20, 6
SEEDS, QUICK_SEEDS = 3, 2
QUICK_WARM_UP = 3.0  # minutes, once for each seed
PEERS = ("evolution", "gumbel-softmax", "magnitude-pruning", "uniform", "hand-made")
Row = dict[str, Any]


def run(results: Results, *, quick: bool, recordings: Path, seed: int) -> Row:
    """Measure what `results` does not hold yet.

    `quick` leaves out the two largest networks, most budgets, and what each improvement is worth on images.

    Returns:
        rows (name, target, measured, interval, met, reason) and machine.
    """
    golden = results.keep("golden figures" + (", quick" if quick else ""), lambda: list(golden_rows(quick)))
    toys, trades = {}, {}
    for name in VARIANTS:
        toys[name] = results.keep(f"toy fabrics: {name}, seed {seed}", partial(toy_rows, name, seed))
        trades[name] = results.keep(f"toy trades: {name}, seed {seed}", partial(trade_rows, name, seed))
    for name, strategy in ABLATIONS.items():
        told = f"{DEFAULT} {name}"
        toys[told] = results.keep(f"toy fabrics: {name}, seed {seed}", partial(toy_rows, strategy, seed))
        trades[told] = results.keep(f"toy trades: {name}, seed {seed}", partial(trade_rows, strategy, seed))
    clouds = results.keep(f"clouds: {DEFAULT}, seed {seed}", lambda: cloud_rows(DEFAULT, seed))
    seeds = range(seed, seed + (QUICK_SEEDS if quick else SEEDS))
    pictures = _pictures(results, recordings, seeds, quick)
    rows = [*_judged(golden, toys, clouds), *_traded(trades), *_for_workers(results, seed), *pictures]
    by_view = _runs(results.path.with_suffix(""), results.get(_by_cost(seeds)) or ())
    drawn = {name: toys[name] for name in VARIANTS}
    keys = (_searched("peers", QUICK_BUDGETS if quick else BUDGETS, each) for each in seeds)
    peers = as_of_a_sweep([found for key in keys for found in results.get(key) or ()])
    draw(results.path.parent / "search-pictures", drawn, clouds, seed, by_view, peers)
    return {"rows": rows, "machine": machine()}


def _searched(name: str, count: int, seed: int) -> str:
    return f"images: {name}, {count} budgets, seed {seed}"


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
        """Seed by seed, so that a sitting which ends early has something to go on with.

        Who is compared is searched with here, one after the other for every budget, the default each time anew: from
        hour to hour a shared machine trains up to a third faster or slower.
        """

        def search(seed: int) -> list[Row]:
            return searches().counted_searches(limits, strategies, [seed], fine_tuned)

        keys = {_searched(name, count, seed): seed for seed in seeds}
        return [found for key, seed in keys.items() for found in results.keep(key, partial(search, seed))]

    def in_ms(seed: int) -> list[Row]:
        key = f"images in ms, {count} budgets, seed {seed}"
        return results.keep(key, lambda: searches().timed_searches(DEFAULT, count, seed))

    own = kept(DEFAULT, limits, [DEFAULT], SEVERAL)
    peers = kept("peers", common, [DEFAULT, *PEERS], 1)
    variants = kept("variants", common, VARIANTS, 1)
    ablations = [] if quick else kept("ablations", by_hand, [DEFAULT, *BY_TRAINING.values()], 1)
    costs = results.keep(_by_cost(seeds), lambda: searches().searches_by_cost(DEFAULT, seeds))
    timed = [found for seed in seeds for found in in_ms(seed)]
    times = results.keep(
        f"time of searching images, seed {seeds[0]}",
        lambda: time_rows(recordings / DATA, searches().counted, 1e6 * by_hand[-1], (GROUPED, PUBLISHED), seeds[0]),
    )
    key = f"images on a GPU, seed {seeds[0]}"
    if not quick and on_gpu():
        results.keep(key, lambda: gpu_rows(recordings / DATA, folder, DEFAULT, seeds[0]))
    yield from judged_gpu(results.get(key), "left out by --quick" if quick else "torch sees no CUDA device here")
    yield from within_budgets("counted", own)
    yield from within_budgets("in ms, measured as p95", timed)
    yield from at_the_chain(peers, by_hand[-1])
    yield volume_row("peer", peers)
    yield volume_row("variant", variants)
    yield from without(ablations, BY_TRAINING)
    yield from by_costs(costs)
    yield from timed_rows(times)


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
        reason = f"{exact} exact, the worst {max(each['ratio'] for each in found):.3g} times as dear as that, the limit"
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
