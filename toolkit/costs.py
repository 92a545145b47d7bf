"""The one place that prices: what an architecture costs by the metric of a budget, billed on its live edges only."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from numbers import Real

from toolkit.budget import OWN, Budget, show
from toolkit.errors import BudgetTooSmall, MilliwiseError, UnpricedEdge
from toolkit.graph import Architecture, Graph
from toolkit.memory import Planned, peak_activation_bytes
from toolkit.profile import DeviceProfile, EdgeCost

Cost = Callable[[Architecture], float]
"""Any function of the live edges is a cost; it gives a finite number, 0 or more."""

ACCOUNTING = "live edges (pruned)"  # what a price bills; the thesis' other variant is `Price.sampled`
WHOLE = ("latency_ms", "makespan_ms", "memory_bytes", "steps")  # are of whole networks: what leads nowhere has no share
CACHED = 4096  # networks whose schedule is remembered: a strategy comes back to the same ones


@dataclass(frozen=True)
class Price:
    """A metric on a graph. Calling it prunes the dead edges first, so a dead kept edge is free.

    Attributes:
        graph: the super-network's graph.
        metric: what the number is, with its unit.
        cost: function of the live edges.
        additive: it is one of any edges, also of those that lead nowhere.
        of_edges: the user's own cost of every edge, where it is the sum of such.
    """

    graph: Graph
    metric: str
    cost: Cost
    additive: bool = True
    of_edges: Mapping[str, float] | None = field(default=None, compare=False)

    def __call__(self, kept: Iterable[str]) -> float:
        """The cost of the live edges of `kept`.

        Raises:
            MilliwiseError: the kept edges do not join source and sink; or the cost is no finite number of 0 or more,
                or what computes it fails, which may be anybody's function.
        """
        live = self.graph.live(kept)
        if not live:
            raise MilliwiseError("the kept edges do not join source and sink: only a whole network has a cost")
        return self._billed(live)

    def sampled(self, kept: Iterable[str]) -> float:
        """The cost of all of `kept`, dead ends billed, as published Budgeted Super Networks are taught.

        Edges that are on no path of the whole graph either are in no network, and free.

        Raises:
            MilliwiseError: the metric is known of whole networks only; or see `__call__`.
        """
        if not self.additive:
            raise MilliwiseError(
                f"edges that lead nowhere have no share in {self.metric}, which is of whole networks: bill live edges, "
                "or take FLOPs, parameters or a cost of your own"
            )
        kept = frozenset(kept)
        self.graph.live(kept)  # refuses edges of another graph
        return self._billed(kept & self.graph.live(self.graph.full))

    def _billed(self, edges: Architecture) -> float:
        """The cost function's answer, if it is one."""
        try:
            cost = self.cost(edges)
        except MilliwiseError:
            raise
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise MilliwiseError(f"the function of the cost ({self.metric}) fails with {said:.200}: mend it") from error
        if not isinstance(cost, Real) or isinstance(cost, bool) or not 0 <= cost <= sys.float_info.max:
            shown = " ".join(repr(cost).split())
            raise MilliwiseError(
                f"the cost of a network ({self.metric}) is {shown:.60}: it must be a number of 0 or more"
            )
        return float(cost)  # whole numbers, too

    def cheapest(self) -> Architecture:
        """The cheapest path from source to sink.

        Paths are grown edge by edge, each node keeping the cheapest way to reach it; every comparison prices a whole
        network, completed by the same rest, so additive costs are solved exactly and others closely.
        """
        rest: dict[str, tuple[str, ...]] = {self.graph.sink: ()}
        for edge in reversed(self.graph.ordered):
            if edge.target in rest and edge.source not in rest:
                rest[edge.source] = (edge.name, *rest[edge.target])
        best: dict[str, tuple[str, ...]] = {self.graph.source: ()}
        for edge in self.graph.ordered:
            if edge.source not in best or edge.target not in rest:
                continue
            path = (*best[edge.source], edge.name)
            known = best.get(edge.target)
            if known is None or self((*path, *rest[edge.target])) < self((*known, *rest[edge.target])):
                best[edge.target] = path
        return frozenset(best[self.graph.sink])

    def spread_of_space(self, seed: int = 0, samples: int = 400) -> tuple[float, float, float]:
        """Cost of the cheapest, the median (of random networks) and the whole network."""
        chance = random.Random(seed)
        costs = sorted(self(random_architecture(self.graph, chance, chance.uniform(0.2, 0.9))) for _ in range(samples))
        return self(self.cheapest()), costs[samples // 2], self(self.graph.full)

    def require_feasible(self, budget: Budget) -> Architecture:
        """The cheapest architecture.

        Raises:
            BudgetTooSmall: even that one costs more than the budget.
        """
        cheapest = self.cheapest()
        if (least := self(cheapest)) > budget.limit:
            found = "that was found " if self.metric == OWN and self.of_edges is None else ""
            raise BudgetTooSmall(
                f"no network of this space fits {budget}: the cheapest {found}costs {show(budget.metric, least)} here; "
                "allow at least that"
            )
        return cheapest


def price(
    graph: Graph, profile: DeviceProfile, budget: Budget, *, bound: bool = False, own: Price | None = None
) -> Price:
    """How `budget`'s metric is computed from a device profile.

    Args:
        bound: latency is priced at the upper bound that the profile calibrated, instead of at the prediction.
        own: the user's own cost, for a budget of that.

    Raises:
        MilliwiseError: the budget is of the mean over networks that change; or it is of the user's own cost and none is
            given, or the other way round.
        ProfileMismatch: the profile is of another graph.
        UnpricedEdge: an edge has no measured cost, or one that could not be counted, and lies on a path from source to
            sink, so that a search may come upon it. Edges on no such path are in no network. A makespan on so many
            workers was not measured.
    """
    if budget.statistic == "mean":
        raise MilliwiseError(f"a budget of {budget} is for networks that change from hop to hop: give --strategy sanas")
    if bound and budget.metric == "makespan_ms":
        raise MilliwiseError(f"no bound is calibrated on several workers: leave out --bound, or {budget}")
    profile.require(graph)
    live = graph.live(graph.full)
    profile.require_priced(live)
    if own is not None or budget.metric == OWN:
        return _own(budget, own)
    rows = profile.edges
    if budget.metric == "multiply_adds":
        _require_counted(profile, live, profile.fixed)
    if budget.metric == "makespan_ms":
        profile.require_parallel(live, budget.workers)
    work = {name: row.steps for name, row in rows.items()}

    def total(metric: str) -> Cost:
        fixed = sum(getattr(row, metric) for row in profile.fixed.values())
        return lambda live: float(fixed + sum(getattr(rows[name], metric) for name in live))

    costs: dict[str, Cost] = {
        # Billed where the check's upper confidence bound will likely lie, for that is what has to fit.
        "latency_ms": lambda live: profile.paced_ms(graph, live, f"{budget.statistic}_upper", bound=bound),
        "memory_bytes": lambda live: float(planned_memory(graph, profile, live).total_bytes),
        **{metric: total(metric) for metric in ("multiply_adds", "parameters")},
        "steps": lru_cache(CACHED)(lambda live: float(len(graph.schedule(live, budget.workers, work)))),
        "makespan_ms": lru_cache(CACHED)(lambda live: profile.makespan_ms(graph, live, budget.workers)),
    }
    return Price(graph, budget.metric, costs[budget.metric], additive=budget.metric not in WHOLE)


def _own(budget: Budget, own: Price | None) -> Price:
    if own is None:
        raise MilliwiseError(
            f"a budget of {budget} is of a cost of your own: give --cost table.json or --cost my_cost.py:function"
        )
    if budget.metric != OWN:
        raise MilliwiseError(f"--cost is for a budget of it, such as '12 cost', not {budget}: leave one of them out")
    return own


def price_modes(graph: Graph, profile: DeviceProfile, *, front_end: bool = True) -> Cost:
    """How the multiply-adds of a hop are counted, of a network that chooses its edges; its controller is left out.

    Returns:
        Function of the live edges, which may be none. It bills them, the classifier, every sum that one of them goes
        into, and the front-end. Sums are billed whole, as in the thesis of SANAS: an edge that is left out adds zeros.

    Args:
        front_end: bill it; the thesis does not.

    Raises:
        ProfileMismatch: the profile is of another graph.
        UnpricedEdge: see `price`.
    """
    profile.require(graph)
    whole, rows = graph.live(graph.full), profile.edges
    profile.require_priced(whole)
    fixed = {name: row for name, row in profile.fixed.items() if front_end or name != "stem"}
    _require_counted(profile, whole, fixed)
    always = sum(row.multiply_adds for row in fixed.values())
    sizes = {graph.source: profile.fixed["stem"].activation_bytes // 4}
    sums: dict[str, int] = {}
    for edge in (edge for edge in graph.ordered if edge.name in whole):
        sums[edge.target] = sums[edge.target] + sizes[edge.target] if edge.target in sums else 0
        sizes.setdefault(edge.target, rows[edge.name].activation_bytes // 4 or sizes[edge.source])

    def cost(live: Architecture) -> float:
        nodes = {graph.by_name[name].target for name in live}
        return float(always + sum(rows[name].multiply_adds for name in live) + sum(sums[node] for node in nodes))

    return cost


def _require_counted(profile: DeviceProfile, live: Architecture, fixed: Mapping[str, EdgeCost]) -> None:
    rows = {f"edge {name}": profile.edges[name] for name in sorted(live)}
    for name, row in {**rows, **fixed}.items():
        if row.uncounted:
            raise UnpricedEdge(f"{name} uses {row.uncounted[0]}, which could not be counted: use a budget in ms")


def planned_memory(graph: Graph, profile: DeviceProfile, live: Architecture) -> Planned:
    """What a network of live edges, its stem and its head take, each edge with its own weights.

    The head's output is added to the peak of the activations.

    Raises:
        UnpricedEdge: an edge has no row in the profile.
    """
    profile.require_priced(live)
    fixed = profile.fixed
    parts = [*(profile.edges[name] for name in live), *fixed.values()]
    outputs = {name: profile.edges[name].activation_bytes for name in live}
    peak = peak_activation_bytes(graph, live, outputs, fixed["stem"].activation_bytes)
    return Planned(
        weight_bytes=sum(part.weight_bytes for part in parts),
        largest_bytes=max(part.weight_bytes for part in parts),
        state_bytes=sum(part.state_bytes for part in parts),
        activation_bytes=peak + fixed["head"].activation_bytes,
    )


def random_architecture(graph: Graph, chance: random.Random, keep: float) -> Architecture:
    """The live edges of a random choice in which every edge is kept with probability `keep`.

    A random path is kept in any case, so the result is never empty.
    """
    kept = {edge.name for edge in graph.edges if chance.random() < keep}
    return graph.live(kept | random_path(graph, chance))


def random_path(graph: Graph, chance: random.Random) -> frozenset[str]:
    """A path from source to sink, each next edge drawn uniformly from the live ones."""
    leaving: dict[str, list[str]] = {}
    for name in sorted(graph.live(graph.full)):
        leaving.setdefault(graph.by_name[name].source, []).append(name)
    node, path = graph.source, []
    while node != graph.sink:
        path.append(chance.choice(leaving[node]))
        node = graph.by_name[path[-1]].target
    return frozenset(path)
