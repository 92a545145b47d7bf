"""The one type everything is a function of: a directed acyclic graph of named edges between a source and a sink."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from toolkit.errors import MilliwiseError

Architecture = frozenset[str]
"""The names of the kept edges."""


@dataclass(frozen=True)
class Edge:
    """A directed edge. Its name is the key under which everything about it is filed."""

    name: str
    source: str
    target: str


@dataclass(frozen=True)
class Graph:
    """A super-network's shape: edges (several may join the same two nodes), one source node, one sink node.

    `operations` describes what the edges compute, where that is known: it is part of the digest. `made_by_hand` are the
    architectures that people build of them, such as ResNet-20, by name.

    Raises:
        MilliwiseError: two edges share a name, the graph has a cycle, or no path joins source and sink.
    """

    edges: tuple[Edge, ...]
    source: str
    sink: str
    operations: str = ""
    made_by_hand: Mapping[str, Architecture] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.by_name) != len(self.edges):
            names = [edge.name for edge in self.edges]
            raise MilliwiseError(
                f"edge {max(names, key=names.count)!r} stands twice in the graph: give every edge its own name"
            )
        place = {node: index for index, node in enumerate(self.nodes)}
        for edge in self.edges:
            if place[edge.source] >= place[edge.target]:
                raise MilliwiseError(f"edge {edge.name!r} closes a cycle: a super-network is acyclic")
        if not self.live(self.full):
            raise MilliwiseError(f"no path leads from {self.source!r} to {self.sink!r}: add the missing edges")

    @cached_property
    def by_name(self) -> Mapping[str, Edge]:
        """Every edge under its name."""
        return {edge.name: edge for edge in self.edges}

    @cached_property
    def full(self) -> Architecture:
        """The architecture that keeps every edge."""
        return frozenset(self.by_name)

    @cached_property
    def ordered(self) -> tuple[Edge, ...]:
        """Every edge in topological order: it comes after all edges into its source.

        Reversed depth-first post-order of the edges, those that follow explored last-in-first-out: the greedy schedule
        depends on the order among equals, and this one reproduces the published numbers of Budgeted Super Networks.
        """
        leaving: dict[str, list[Edge]] = {}
        for edge in self.edges:
            leaving.setdefault(edge.source, []).append(edge)
        seen: set[str] = set()
        post_order: dict[str, Edge] = {}
        for root in self.edges:
            fringe = [root]
            while fringe:
                edge = fringe[-1]
                seen.add(edge.name)
                following = [after for after in leaving.get(edge.target, ()) if after.name not in seen]
                if following and edge.name not in post_order:
                    fringe.extend(following)
                else:
                    post_order.setdefault(fringe.pop().name, edge)
        return tuple(reversed(post_order.values()))

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """Every node in topological order."""
        sources = dict.fromkeys(edge.source for edge in self.ordered)
        return tuple(dict.fromkeys((*sources, *(edge.target for edge in self.edges))))

    def known_as(self, kept: Iterable[str]) -> str | None:
        """What people call a network that they build by hand, if it is one of those."""
        known = {self.live(edges): name for name, edges in self.made_by_hand.items()}
        return known.get(self.live(kept))

    def live(self, kept: Iterable[str]) -> Architecture:
        """The kept edges that lie on a path of kept edges from source to sink (empty when there is none).

        Raises:
            MilliwiseError: a kept name is no edge of this graph.
        """
        kept = frozenset(kept)
        if unknown := kept - self.by_name.keys():
            raise MilliwiseError(f"the graph has no edge {min(unknown)!r}: it is of another search space")
        edges = [edge for edge in self.ordered if edge.name in kept]
        reached = {self.source}
        for edge in edges:
            if edge.source in reached:
                reached.add(edge.target)
        useful = {self.sink}
        for edge in reversed(edges):
            if edge.target in useful:
                useful.add(edge.source)
        return frozenset(edge.name for edge in edges if edge.source in reached and edge.target in useful)

    def joins(self, live: Architecture) -> int:
        """How often a node adds one more live edge to those before."""
        return len(live) - len({self.by_name[name].target for name in live})

    def chains(self, live: Architecture) -> int:
        """How many nodes have one live edge in and one out."""
        targets, sources = ([getattr(self.by_name[name], end) for name in live] for end in ("target", "source"))
        return sum(targets.count(node) == 1 == sources.count(node) for node in {*targets})

    def schedule(
        self, kept: Iterable[str], workers: int, work: Mapping[str, int] | None = None
    ) -> tuple[tuple[str, ...], ...]:
        """The edges of each step of a list scheduling of the live edges on `workers` (Budgeted Super Networks, 3.4).

        An edge is ready when every live edge into its source was done before the step began. A step takes ready edges
        in topological order until their work reaches `workers`; `work` is 1 for edges it does not name, and an edge
        with work 0 (an identity) takes part in a step without filling it. Steps of no work at all are not returned.
        """
        if workers < 1:
            raise MilliwiseError(f"cannot schedule on {workers} workers: give at least 1")
        live = self.live(kept)
        remaining = [edge for edge in self.ordered if edge.name in live]
        steps = []
        while remaining:
            blocked = {edge.target for edge in remaining}
            step: list[Edge] = []
            filled = 0
            for edge in remaining:
                if edge.source in blocked:
                    continue
                step.append(edge)
                filled += 1 if work is None else work.get(edge.name, 1)
                if filled >= workers:
                    break
            remaining = [edge for edge in remaining if edge not in step]
            if filled:
                steps.append(tuple(edge.name for edge in step))
        return tuple(steps)

    def digest(self) -> str:
        """A short hash of the edges, source, sink and operations: graphs with one digest have the same costs."""
        edges = [(edge.name, edge.source, edge.target) for edge in self.edges]
        text = json.dumps([self.source, self.sink, edges, self.operations])
        return hashlib.sha256(text.encode()).hexdigest()[:16]
