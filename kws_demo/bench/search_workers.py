"""Searches for several workers: whether more of them get wider networks, and whether those take what is predicted."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from torch import nn

from kws_demo.bench.rows import row
from kws_demo.search import ROOM
from profilers.makespan_check import MakespanCheck, check_makespan
from profilers.profile import profile_device
from profilers.target import LocalTarget
from toolkit.budget import Budget
from toolkit.costs import CACHED, Price, price
from toolkit.graph import Architecture
from toolkit.profile import DeviceProfile
from toolkit.progress import progress
from toolkit.spaces import Space, find_space, neural_fabric, resnet_fabric
from toolkit.strategies import find_strategy
from toolkit.supernet import SuperNetwork

FEW, MANY = 1, 4  # workers that the toys are searched for
REAL_WORKERS = 2  # that share a network for real: a core for each
COLUMNS, SCALES, BLOCKS = (4, 6, 8), 4, 3
SHARE = 0.5  # of the steps that many workers need for the whole fabric beyond the cheapest path
STEPS, GROUPS, CANDIDATES, NOISE = 300, 4, 12, 0.05
SPACE = "resnet-fabric"  # its blocks are long enough to be worth a hand-over
LIMITS = (0.25, 0.5, 0.75)  # of what the whole network takes on one worker beyond the cheapest
CLOSE = 0.15
LEVEL, TRIES, PAUSE_S = 0.1, 20, 5.0  # of the machine, beside what it was while it was profiled
WIDTHS = ("live_edges", "nodes_per_step")
Row = dict[str, Any]


def worker_rows(strategy: str, seed: int) -> list[Row]:
    """Of every toy fabric: what a search finds for few and for many workers within the same number of steps.

    Nothing is trained: a network's loss falls with the number of its edges, deep or wide, and is told with noise.

    Returns:
        fabric, limit (steps), and by the number of workers (a text, for JSON) live_edges, steps and nodes_per_step.
    """
    fabrics = {f"neural fabric {columns}": neural_fabric.fabric(2, columns, 1, SCALES) for columns in COLUMNS}
    fabrics[f"ResNet fabric {BLOCKS}"] = resnet_fabric.fabric(BLOCKS, 2, width=1)
    found = []
    with progress(f"searching for {FEW} and {MANY} workers by {strategy}", 2 * len(fabrics)) as advance:
        for name, network in fabrics.items():
            prices = {workers: steps_price(network, workers) for workers in (FEW, MANY)}
            limit = _between(prices[FEW](prices[FEW].cheapest()), prices[MANY](network.graph.full))
            toy: Row = {"fabric": name, "limit": limit}
            for workers, asked in prices.items():
                toy[str(workers)] = _width(asked, winner(strategy, asked, limit, seed))
                advance(1)
            found.append(toy)
    return found


def steps_price(network: SuperNetwork, workers: int) -> Price:
    """The published steps: one for every edge that computes, the classifier left out."""
    graph = network.graph
    free = {name: 0 for name, operation in network.operations.items() if isinstance(operation, nn.Identity)}

    def steps(live: Architecture) -> float:
        return float(len(graph.schedule(live, workers, free)))

    return Price(graph, f"steps@{workers}", lru_cache(CACHED)(steps), additive=False)


def winner(strategy: str, asked: Price, limit: float, seed: int) -> Architecture:
    """The candidate with the least loss, which is the one with the most edges."""
    chance, whole = random.Random(seed), len(asked.graph.full)
    searched = find_strategy(strategy)(asked, limit, seed)
    for step in range(1, STEPS + 1):
        proposals = searched.ask(GROUPS)
        losses = [1.0 - 0.5 * len(each.architecture) / whole + chance.gauss(0, NOISE) for each in proposals]
        searched.tell(proposals, losses, step / STEPS)
    return max(searched.candidates(CANDIDATES), key=lambda kept: (len(kept), sorted(kept)))


def makespan_row(seed: int, folder: Path, space: str = SPACE) -> Row:
    """Winners of searches under a makespan on two workers, really shared by two workers on this machine.

    Args:
        folder: for the device profile, which is measured if it is not there.

    Returns:
        cores, and searches: limit_ms, predicted_ms, measured_ms (the quietest block, which is what is predicted),
        upper_ms, kept, used (workers of the plan), live_edges, one_live_edges for one worker at the same limit, and
        alone (see `_at_level`), with the number of tries.
    """
    chosen = find_space(space)
    profile = _profiled(chosen, Path(folder) / "makespan.profile.json")
    network = chosen.build(hop_ms=profile.hop_ms).eval()
    one, several = (price(network.graph, profile, Budget.parse(f"1 ms@{n}")) for n in (1, REAL_WORKERS))
    least, most = one(one.cheapest()), one(network.graph.full)
    found = []
    for share in LIMITS:
        budget = Budget.parse(f"{least + share * (most - least):.4f} ms@{REAL_WORKERS}")
        live = winner("bsn", several, ROOM * budget.limit, seed)
        check = partial(
            check_makespan,
            network.select(live),
            chosen.shape(profile.hop_ms),
            network.graph,
            profile=profile,
            target=LocalTarget(),
        )
        told, level = _at_level(check, budget.limit)
        found.append(
            {
                "limit_ms": budget.limit,
                "predicted_ms": told.predicted_ms,
                "measured_ms": told.quietest_ms,
                "upper_ms": told.makespan_upper_ms,
                "ratio": told.ratio,
                "kept": told.kept,
                "noisy": told.noisy,
                "used": told.used,
                "live_edges": len(live),
                "one_live_edges": len(winner("bsn", one, ROOM * budget.limit, seed)),
                **level,
            }
        )
    return {"space": space, "cores": os.cpu_count(), "searches": found}


def _at_level(check: Callable[..., MakespanCheck], limit_ms: float) -> tuple[MakespanCheck, Row]:
    """Check a network on several workers while it takes on one what the profile says.

    A machine that others slow down for seconds, which no counter shows, agrees with no prediction; after some tries it
    counts as it is.

    Returns:
        What was measured, and alone: predicted over measured ms on one worker, before and after; tries.
    """
    one, several = (Budget.parse(f"{limit_ms} ms@{workers}") for workers in (1, REAL_WORKERS))
    tries = 0
    while True:
        tries += 1
        before, told, after = check(budget=one).ratio, check(budget=several), check(budget=one).ratio
        if tries == TRIES or max(abs(before - 1), abs(after - 1)) <= LEVEL:
            return told, {"alone": [before, after], "tries": tries}
        time.sleep(PAUSE_S)


def judged_workers(toys: Sequence[Row], real: Row | None) -> Iterator[Row]:
    """What both of these found against the targets; `real` is None where it was left out."""
    wider = [toy for toy in toys if all(toy[str(MANY)][key] > toy[str(FEW)][key] for key in WIDTHS)]
    edges, width = (
        " against ".join(f"{statistics.fmean(toy[str(workers)][key] for toy in toys):.3g}" for workers in (MANY, FEW))
        for key in WIDTHS
    )
    name = f"of {len(toys)} fabrics, wider for {MANY} workers than for {FEW} at equal steps"
    reason = f"{edges} live edges, {width} nodes a step"
    yield row(name, f"= {len(toys)}", float(len(wider)), lambda value: value == len(toys), reason=reason)
    name = f"makespan of winners on {REAL_WORKERS} workers, predicted over measured, the furthest from 1"
    if real is None:
        yield row(name, "0.85-1.15", None, bool, reason="left out by --quick")
        return
    worst = max((each["ratio"] for each in real["searches"]), key=lambda ratio: abs(ratio - 1))
    yield row(name, "0.85-1.15", worst, lambda value: abs(value - 1) <= CLOSE, reason=_told(real))


def _between(least: float, most: float) -> float:
    return float(round(least + SHARE * (most - least)))


def _width(asked: Price, live: Architecture) -> Row:
    nodes, steps = {asked.graph.by_name[name].target for name in live}, asked(live)
    return {"live_edges": len(live), "steps": steps, "nodes_per_step": len(nodes) / steps}


def _profiled(space: Space, path: Path) -> DeviceProfile:
    if not path.exists():
        profile_device(space, LocalTarget(), workers=REAL_WORKERS).save(path)
    return DeviceProfile.load(path)


def _told(real: Row) -> str:
    searches, cores = real["searches"], real["cores"]
    edges = ", ".join(f"{each['live_edges']} edges for {each['one_live_edges']}" for each in searches)
    told = f"{real['space']}: {sum(each['used'] > 1 for each in searches)} of {len(searches)} are shared, "
    told += f"{sum(each['kept'] for each in searches)} keep their limit; against one worker {edges}"
    if cores is not None and cores < MANY:
        told += f"; {MANY} workers on {cores} cores would wait for each other, and agree with no prediction"
    alone = [ratio for each in searches for ratio in each["alone"]]
    tries = sum(each["tries"] for each in searches)
    told += f"; on one worker meanwhile {min(alone):.3g} to {max(alone):.3g}, in {tries} tries"
    return told + "; others were busy meanwhile" * any(each["noisy"] for each in searches)
