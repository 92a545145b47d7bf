"""What a run folder holds, read for its report: whatever is missing or odd is None."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from kws_demo.drawings.svg import SHORT, Form
from kws_demo.drawings.values import number, rows, texts
from toolkit.budget import TIMED, Budget, show
from toolkit.costs import price
from toolkit.errors import MilliwiseError
from toolkit.graph import Architecture, Graph
from toolkit.profile import DeviceProfile
from toolkit.spaces import Space, built_in

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Search:
    """What several sections need: the graph is None where the run's space is not known here as it was then.

    Attributes:
        sees: its space is of images.
        adaptive: it chooses its network anew at every hop.
    """

    profile: DeviceProfile
    run: Facts
    graph: Graph | None
    live: Architecture
    budget: Budget | None
    sees: bool = False
    adaptive: bool = False

    @classmethod
    def read(cls, profile: DeviceProfile, run: Facts, space: Space | None = None) -> Search:
        """Whatever can be known of a run."""
        graph, kept = None, texts(run, "kept")
        with suppress(MilliwiseError):  # a setting, or a hop, that the space has not
            space = space or built_in(str(run.get("space") or profile.space))
            graph = _graph(space, profile, run)
        live = graph.live(kept) if graph and graph.full.issuperset(kept) else frozenset()
        budget = None
        with suppress(MilliwiseError):
            budget = Budget.parse(str(run.get("budget")))
        adaptive = isinstance(run.get("adaptive"), Mapping)
        return cls(profile, run, graph, live, budget, space is not None and space.sees, adaptive)

    @property
    def edge_costs(self) -> dict[str, float]:
        """Of the user's own table, if the search was limited in that."""
        names = self.graph.full if self.graph else ()
        found = {name: number(self.run, "edge_costs", name) for name in names}
        return {name: cost for name, cost in found.items() if cost is not None and cost >= 0}

    @property
    def limit_ms(self) -> float | None:
        """Of the latency, if the budget is of that."""
        return self.budget.limit if self.budget and self.budget.metric == "latency_ms" else None

    @property
    def statistic(self) -> str:
        """Of the latency, that the budget is on."""
        return self.budget.statistic if self.budget and self.budget.statistic else "p95"

    @property
    def metric(self) -> str:
        """Of the budget; latency if there is none."""
        return self.budget.metric if self.budget else "latency_ms"

    @property
    def limit(self) -> float | None:
        """Of the budget, in the unit of its metric."""
        return self.budget.limit if self.budget else None

    @property
    def form(self) -> Form:
        """How a cost is shown."""
        return partial(show, self.budget.metric) if self.budget else SHORT

    def candidates(self) -> list[Facts]:
        """Each with its cost, and whether that was found to fit, if it is counted and can still be."""
        found = rows(self.run, "pareto")
        if self.metric in TIMED or self.budget is None:
            return found
        costs = [number(row, "cost") for row in found]  # of one's own, which may be a program, nobody else knows them
        if None in costs and self.graph is not None:
            with suppress(MilliwiseError):
                priced = price(self.graph, self.profile, self.budget)
                costs = [priced(texts(row, "kept")) for row in found]
        return [
            {**row, "cost": cost, "counted": None if number(row, "fine_tuned_accuracy") is None else cost}
            for row, cost in zip(found, costs, strict=True)
        ]


def _graph(space: Space | None, profile: DeviceProfile, run: Facts) -> Graph | None:
    if space is None:
        return None
    graph = space.build(max(1, len(texts(run, "labels"))), profile.hop_ms).graph
    return graph if graph.digest() == profile.digest else None
