"""Costs that no device profile knows: a table by edge, such as what a network costs that is split between two machines.

The cost of an architecture is the sum over its live edges (Véniat 2021, section 3.4: infrastructure costs).
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping

from toolkit.costs import Price
from toolkit.errors import MilliwiseError, UnpricedEdge
from toolkit.graph import Architecture, Graph

DEVICE, LINK, SERVER = 1.0, 100.0, 0.1  # of an edge on the device, across, and in the cloud


def table_price(graph: Graph, costs: Mapping[str, float], metric: str = "cost") -> Price:
    """The sum of the costs of the live edges, which the table gives by name.

    Raises:
        UnpricedEdge: an edge that may be live has none.
        MilliwiseError: a cost is no finite number of 0 or more, or of an edge that the graph has not.
    """
    if unknown := costs.keys() - graph.full:
        raise MilliwiseError(f"the table has a cost of {min(unknown)!r}, which is no edge of the graph: leave it out")
    if missing := graph.live(graph.full) - costs.keys():
        raise UnpricedEdge(f"the table has no cost of edge {min(missing)!r}: add one")
    for name, cost in costs.items():
        if type(cost) not in (int, float) or not 0 <= cost < math.inf:
            raise MilliwiseError(f"the table's cost of edge {name!r} is {cost!a:.60}: give a number of 0 or more")

    def total(live: Architecture) -> float:
        return math.fsum(costs[name] for name in live)  # the same in every process, whatever the order of a set

    return Price(graph, metric, total, of_edges=dict(costs))


def random_costs(graph: Graph, seed: int, free: Collection[str] = ()) -> dict[str, float]:
    """A cost of 0 to 1 for every edge, in the order of the graph; 0 for those that are `free`."""
    chance = random.Random(seed)
    return {edge.name: 0.0 if edge.name in free else chance.random() for edge in graph.edges}


def cloud_costs(graph: Graph, depth: int, free: Collection[str] = ()) -> dict[str, float]:
    """Of a device, a server and a dear link between them: nodes of at least that depth are on the server.

    The depth of a node is the number of edges of the longest way to it, those that are `free` not counted.
    """
    depths = {graph.source: 0}
    for edge in graph.ordered:
        steps = depths.get(edge.source, 0) + (edge.name not in free)
        depths[edge.target] = max(steps, depths.get(edge.target, 0))

    def of(name: str) -> float:
        edge = graph.by_name[name]
        if depths.get(edge.source, 0) >= depth:
            return SERVER
        return LINK if depths[edge.target] >= depth else DEVICE

    return {edge.name: 0.0 if edge.name in free and of(edge.name) != LINK else of(edge.name) for edge in graph.edges}
