"""Searches of small fabrics whose best network is known, or nearly: what a strategy learns, without any training."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from toolkit.costs import Price
from toolkit.graph import Architecture, Graph
from toolkit.infrastructure import LINK, cloud_costs, random_costs, table_price
from toolkit.progress import progress
from toolkit.spaces import neural_fabric
from toolkit.strategies import STRATEGIES
from toolkit.strategies.bsn import BudgetedSuperNetwork
from toolkit.strategies.fitting import filled

PUBLISHED = "bsn-published"
TOYS, COLUMNS, SCALES = 20, 4, 4
STEPS, PUBLISHED_STEPS = 600, 3000
PUBLISHED_RATE, PUBLISHED_PENALTY = 0.01, 10.0  # of rates from 0.001 to 0.1 none finds more (experiments)
GROUPS, BATCH = 4, 64
JUDGED = 12  # candidates, as many as a search compares on its validation part
TOLD = 60  # moments of a search that are remembered, to be drawn
TRADES, TRADE_SIZE = 12, 3  # toys of loss and cost, and their columns and scales
ROOM = 0.3  # of what the whole network costs more than the cheapest
CLIMBS, NOISE = 40, 0.05
Row = dict[str, Any]


def toy_rows(strategy: str, seed: int) -> list[Row]:
    """What a strategy learns of fabrics with random costs where nothing but cost matters: the cheapest path is best.

    `kept` is what was learnt, `history` (of the first) how.
    """
    graph, sums = _toy(COLUMNS, SCALES)
    found = []
    with progress(f"searching toy fabrics by {strategy}", TOYS) as advance:
        for number in range(TOYS):
            price = table_price(graph, toy_costs(graph, seed, number, sums))
            history: list[Row] = []
            searched = _searched(strategy, price, seed, None if number else history)
            likely, least = searched.likely, price(price.cheapest())
            ratio = price(likely) / least if likely else price(graph.full) / least
            told = {"ratio": ratio, "entropy_bits": searched.facts()["entropy_bits"], "kept": sorted(likely)}
            found.append(told if number else {**told, "least": least, "history": history})
            advance(1)
    return found


def cloud_rows(strategy: str, seed: int) -> list[Row]:
    """How many dear links the learnt network crosses, for clouds that begin at every depth."""
    graph, sums = _toy(COLUMNS, SCALES)
    found = []
    for depth in range(1, COLUMNS + SCALES):
        costs = cloud_costs(graph, depth, sums)
        likely = _searched(strategy, table_price(graph, costs), seed).likely
        found.append({"depth": depth, "links": sum(costs[name] == LINK for name in likely), "kept": sorted(likely)})
    return found


def toy_costs(graph: Graph, seed: int, number: int, free: frozenset[str]) -> dict[str, float]:
    """The random costs of one of the toys."""
    return random_costs(graph, 1000 * seed + number, free)


def _toy(columns: int, scales: int) -> tuple[Graph, frozenset[str]]:
    """A fabric, and its sums, which cost nothing."""
    graph = neural_fabric.fabric(2, columns, 1, scales).graph
    return graph, frozenset(name for name in graph.full if name.startswith("relu"))


def _searched(name: str, price: Price, seed: int, history: list[Row] | None = None) -> BudgetedSuperNetwork:
    """After a search in which every network does as well as every other.

    The limit is what the cheapest path costs: others are penalised by what they cost more, as under a budget of 0.
    """
    strategy = _strategy(name, price, price(price.cheapest()), seed)
    _drive(strategy, lambda _architecture: 1.0, PUBLISHED_STEPS if name == PUBLISHED else STEPS, history)
    return strategy


def _strategy(name: str, price: Price, limit: float, seed: int) -> BudgetedSuperNetwork:
    options: dict[str, Any] = {"warm_up": 0.0}
    if name == PUBLISHED:
        options |= {"learning_rate": PUBLISHED_RATE, "penalty": PUBLISHED_PENALTY}
    strategy = STRATEGIES[name](price, limit, seed, **options)
    assert isinstance(strategy, BudgetedSuperNetwork)
    return strategy


def _drive(
    strategy: BudgetedSuperNetwork,
    loss: Callable[[Architecture], float],
    steps: int,
    history: list[Row] | None = None,
) -> None:
    count = BATCH if strategy.of_examples else GROUPS
    for step in range(1, steps + 1):
        proposals = strategy.ask(count)
        strategy.tell(proposals, [loss(proposal.architecture) for proposal in proposals], step / steps)
        if history is not None and step % max(1, steps // TOLD) == 0:
            history.append(_told(strategy, step))


def _told(strategy: BudgetedSuperNetwork, step: int) -> Row:
    likely, facts = strategy.likely, strategy.facts()
    told = {"step": step, "entropy_bits": facts["entropy_bits"], "penalty": strategy.penalty}
    return {**told, "likely_cost": strategy.price(likely) if likely else None}


def trade_rows(strategy: str, seed: int) -> list[Row]:
    """What a strategy loses, by the best of what it would judge, against hill climbing: edges help by chance, too.

    All edges together lower the loss from 1 to a half; what is told of a network is disturbed.
    """
    found = []
    with progress(f"trading loss for cost by {strategy}", TRADES) as advance:
        for number in range(TRADES):
            found.append({"regret": _regret(strategy, 1000 * seed + 2 * number, seed)})
            advance(1)
    return found


def _regret(strategy: str, toy: int, seed: int) -> float:
    graph, sums = _toy(TRADE_SIZE, TRADE_SIZE)
    price, worth = table_price(graph, random_costs(graph, toy, sums)), random_costs(graph, toy + 1, sums)
    whole, chance = 2 * sum(worth.values()), random.Random(seed)

    def loss(kept: Architecture) -> float:
        return 1.0 - sum(worth[name] for name in kept) / whole

    least = price(price.cheapest())
    limit = least + ROOM * (price(graph.full) - least)
    searched = _strategy(strategy, price, limit, seed)
    _drive(searched, lambda kept: loss(kept) + chance.gauss(0, NOISE), STEPS)
    return min(map(loss, searched.candidates(JUDGED))) - _climbed(price, limit, loss, chance)


def _climbed(price: Price, limit: float, loss: Callable[[Architecture], float], chance: random.Random) -> float:
    """The least loss that hill climbing finds from many full networks: edges are added, left out, or exchanged."""
    graph, found = price.graph, []
    for _ in range(CLIMBS):
        kept = filled(price, limit, price.cheapest(), {name: chance.random() for name in sorted(graph.full)})
        while better := next((b for b in _neighbours(graph, kept) if price(b) <= limit and loss(b) < loss(kept)), None):
            kept = better
        found.append(loss(kept))
    return min(found)


def _neighbours(graph: Graph, kept: Architecture) -> Iterator[Architecture]:
    for name in sorted(graph.full):
        changed = [kept - {name}] if name in kept else [kept | {name}, *((kept - {other}) | {name} for other in kept)]
        yield from (live for each in changed if (live := graph.live(each)))
