"""`milliwise bench search`: Budgeted Super Networks beside the published figures, and on toys whose best is known."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import nn

from kws_demo.bench.rows import Results, machine, row
from kws_demo.bench.search_images import DATA, ImageSearches
from kws_demo.bench.search_toys import cloud_rows, toy_rows, trade_rows
from profilers.published import published_multiply_adds
from toolkit.progress import progress
from toolkit.spaces import neural_fabric, resnet_fabric
from toolkit.strategies import STRATEGIES
from toolkit.strategies.bsn import BudgetedSuperNetwork
from toolkit.supernet import SuperNetwork

DEFAULT = "bsn"
CLOSE = 1.05
IMAGE = (1, 3, 32, 32)
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
LATER = (  # what a search on images has to show beyond these, and no code can measure yet
    ("hypervolume over the best peer's, at equal wall-clock", ">= 1"),
    ("time of a search over that of training the whole network", "<= 1.1"),
)
Row = dict[str, Any]


def run(results: Results, *, quick: bool, recordings: Path, seed: int) -> Row:
    """Measure what `results` does not hold yet; `quick` leaves out the two largest networks, and most budgets.

    Returns:
        rows (name, target, measured, interval, met, reason) and machine.
    """
    golden = results.keep("golden figures" + (", quick" if quick else ""), lambda: list(golden_rows(quick)))
    names = [name for name, kind in STRATEGIES.items() if issubclass(kind, BudgetedSuperNetwork)]
    toys, trades = {}, {}
    for name in names:
        toys[name] = results.keep(f"toy fabrics: {name}, seed {seed}", partial(toy_rows, name, seed))
        trades[name] = results.keep(f"toy trades: {name}, seed {seed}", partial(trade_rows, name, seed))
    clouds = results.keep(f"clouds: {DEFAULT}, seed {seed}", lambda: cloud_rows(DEFAULT, seed))
    pictures = _pictures(results, recordings, range(seed, seed + (QUICK_SEEDS if quick else SEEDS)), quick)
    return {"rows": [*_judged(golden, toys, clouds), *_traded(trades), *pictures, *_later()], "machine": machine()}


def _pictures(results: Results, recordings: Path, seeds: Sequence[int], quick: bool) -> Iterator[Row]:
    names = ("budgets kept on images", "right at the chain ResNet's cost, less the chain's")
    if not (recordings / DATA).is_file():
        for name, target in zip(names, ("= 1", ">= 0"), strict=True):
            yield row(name, target, None, None, reason=f"no images in {recordings / DATA}")
        return
    searches = cache(lambda: ImageSearches(recordings, results.path.with_suffix("")))
    count = QUICK_BUDGETS if quick else BUDGETS
    limits = results.keep(f"image budgets, {count}", lambda: searches().limits(count))
    found, more = [], []
    for seed in seeds:
        for limit in limits:
            key = f"images within {limit:g} MFLOPs, seed {seed}"
            found.append(results.keep(key, lambda limit=limit, seed=seed: searches().searched(limit, seed)))  # type: ignore[misc]
        chain = results.keep(f"chain, seed {seed}", lambda seed=seed: searches().chained(seed))  # type: ignore[misc]
        key = f"images within the chain's cost, seed {seed}"
        own = results.keep(key, lambda chain=chain, seed=seed: searches().searched(chain["cost"], seed))  # type: ignore[misc]
        more.append(own["test"] - chain["test"])
    kept = statistics.fmean(each["cost"] <= each["limit"] for each in found)
    yield row(names[0], "= 1", kept, lambda value: value == 1, reason=f"{len(found)} searches, counted")
    told = "seeds " + " ".join(f"{each:+.3f}" for each in more)
    yield row(names[1], ">= 0", statistics.fmean(more), lambda value: value >= 0, reason=told)


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
        name = f"of a loss of 0.5 to 1, more than the best known: {strategy}"
        yield row(name, "-", statistics.fmean(lost), None, reason=f"of {len(lost)}, the most {max(lost):.3g}")


def _later() -> list[Row]:
    return [row(name, target, None, None, reason="not built yet") for name, target in LATER]


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
