"""Costs by table: what they add up to, what is refused, and a cloud behind one dear link."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import toy

from toolkit.costs import Price
from toolkit.errors import MilliwiseError, UnpricedEdge
from toolkit.graph import Architecture
from toolkit.infrastructure import LINK, cloud_costs, random_costs, table_price
from toolkit.spaces.neural_fabric import fabric

TABLE = {edge.name: float(index) for index, edge in enumerate(toy.EDGES, 1)}


def test_live_edges_are_added_up() -> None:
    price = table_price(toy.GRAPH, TABLE, "euros")
    assert price({"entry", "pass"}) == TABLE["entry"] + TABLE["pass"] and price.metric == "euros"
    assert price({"entry", "pass", "conv3", "late"}) == TABLE["entry"] + TABLE["pass"], "dead edges cost nothing"
    assert price.cheapest() == {"entry", "pass"}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.1, "1", None, True])
def test_a_table_with_what_is_no_cost_is_refused(bad: Any) -> None:
    with pytest.raises(MilliwiseError, match="cost of edge 'mix' is"):
        table_price(toy.GRAPH, {**TABLE, "mix": bad})


def test_a_table_of_other_edges_is_refused() -> None:
    with pytest.raises(MilliwiseError, match="cost of 'tunnel', which is no edge"):
        table_price(toy.GRAPH, {**TABLE, "tunnel": 1.0})
    with pytest.raises(UnpricedEdge, match="no cost of edge 'mix'"):
        table_price(toy.GRAPH, {name: cost for name, cost in TABLE.items() if name != "mix"})


def failing(_live: Architecture) -> float:
    raise ZeroDivisionError("of\nmine")


@pytest.mark.parametrize(
    ("cost", "reason"),
    [
        (failing, "fails with ZeroDivisionError: of mine"),
        (lambda _live: math.nan, "is nan"),
        (lambda _live: math.inf, "is inf"),
        (lambda _live: -1.0, "is -1.0"),
        (lambda _live: torch.tensor(1.0), r"is tensor\(1.\)"),
        (lambda _live: torch.ones(3), r"is tensor"),
        (lambda _live: None, "is None"),
        (lambda _live: True, "is True"),
    ],
)
def test_a_function_that_gives_no_cost_is_told_so(cost: Callable[[Architecture], float], reason: str) -> None:
    with pytest.raises(MilliwiseError, match=reason) as error:
        Price(toy.GRAPH, "mine", cost)(toy.GRAPH.full)
    assert "\n" not in str(error.value) and "(mine)" in str(error.value)


def test_random_costs_are_those_of_the_seed() -> None:
    costs = random_costs(toy.GRAPH, 3, free=("pass",))
    assert costs == random_costs(toy.GRAPH, 3, free=("pass",)) != random_costs(toy.GRAPH, 4, free=("pass",))
    assert costs["pass"] == 0 and all(0 < cost < 1 for name, cost in costs.items() if name != "pass")


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_every_way_crosses_the_link_of_a_cloud_once(depth: int) -> None:
    graph = fabric(2, 3, 1, 3).graph
    sums = {name for name in graph.full if name.startswith("relu")}
    costs = cloud_costs(graph, depth, sums)
    assert len(set(costs.values())) == (4 if depth > 1 else 3)
    for path in toy.paths(graph, graph.full):
        assert sum(costs[name] == LINK for name in path) == 1
    assert sum(costs[name] == LINK for name in table_price(graph, costs).cheapest()) == 1
