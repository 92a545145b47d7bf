"""Architectures drawn from one Bernoulli per edge, node by node, and how likely they are.

An edge is decided only where its source is reached (Véniat and Denoyer 2018, section 3.3). As published the decisions
at a node are independent, so most samples of a large graph join nothing, or end in edges that lead nowhere. Given that
at least one edge leaves every node that is reached, all samples are whole networks and all their edges are live: then
the decisions at a node are those of the independent ones that keep anything. The only edge that leaves a node, such as
the ReLU of a sum, is never a choice: published fabrics keep sums, too, and leave out transformations only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import compress
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from toolkit.graph import Architecture, Graph
from toolkit.strategies.base import Proposal

CERTAIN = 1000.0  # log-odds of what is no choice


class Draws(NamedTuple):
    """What was decided; both bool [count, edges].

    Attributes:
        kept: only what was decided can be.
        decided: what leaves a node that was reached.
    """

    kept: Tensor
    decided: Tensor


class EdgeSampler:
    """Draws architectures of a graph; log-odds are float32 [edges], in the order of `edges`.

    Args:
        connected: at least one edge leaves every node that is reached; else decisions are independent.
    """

    def __init__(self, graph: Graph, connected: bool) -> None:
        useful = graph.live(graph.full)  # no other edge is in any network
        self.graph, self.connected = graph, connected
        self.edges = tuple(edge for edge in graph.ordered if edge.name in useful)
        self.place = {edge.name: index for index, edge in enumerate(self.edges)}
        leaving: dict[str, list[int]] = {node: [] for node in graph.nodes}
        for index, edge in enumerate(self.edges):
            leaving[edge.source].append(index)
        self._leaving = {node: places for node, places in leaving.items() if places}
        nodes = {node: index for index, node in enumerate(self._leaving)}
        self._source = torch.tensor([nodes[edge.source] for edge in self.edges])
        self._first = torch.zeros(len(self.edges), dtype=torch.bool)  # of those that leave a node
        self._first[[places[0] for places in self._leaving.values()]] = True
        self._alone = torch.tensor([len(self._leaving[edge.source]) == 1 for edge in self.edges])
        # What there is to decide, in the order of `edges`.
        self.choices = tuple(edge.name for edge in self.edges if len(self._leaving[edge.source]) > 1)

    def draw(self, log_odds: Tensor, count: int, generator: torch.Generator) -> Draws:
        """Decide so many times."""
        chances = torch.rand(count, len(self.edges), generator=generator).T.numpy()
        opened = self._odds(log_odds).sigmoid().numpy()
        reached = {node: np.zeros(count, bool) for node in self.graph.nodes}
        reached[self.graph.source] = np.ones(count, bool)
        kept, decided = np.zeros((2, len(self.edges), count), bool)
        for node, places in self._leaving.items():
            must = self._must(opened[places])
            lacking = reached[node].copy()  # what was reached, and no edge of it is kept yet
            for place, alone in zip(places, must, strict=True):
                decided[place] = reached[node]
                kept[place] = reached[node] & (chances[place] < np.where(lacking, alone, opened[place]))
                lacking &= ~kept[place]
                reached[self.edges[place].target] |= kept[place]
        return Draws(torch.from_numpy(kept.T), torch.from_numpy(decided.T))

    def _must(self, opened: np.ndarray) -> np.ndarray:
        """The probability of each edge of a node while none before it is kept: the last one has to be, if any has."""
        if not self.connected:
            return opened
        some = 1 - np.cumprod(1 - opened[::-1])[::-1]  # that any of it and those after it is kept
        must = np.divide(opened, some, out=np.ones_like(opened), where=some > 0)
        must[-1] = 1
        return must

    def architectures(self, draws: Draws) -> list[Architecture]:
        """The live edges of each; without `connected` some are empty, for they join nothing."""
        names = [edge.name for edge in self.edges]
        kept = [frozenset(compress(names, row)) for row in draws.kept.tolist()]
        return kept if self.connected else [self.graph.live(each) for each in kept]

    def proposals(self, draws: Draws) -> list[Proposal]:
        """Each with its decisions."""
        names = [edge.name for edge in self.edges]
        told = [zip(names, row, strict=True) for row in draws.kept.tolist()]
        decisions = [tuple(compress(row, known)) for row, known in zip(told, draws.decided.tolist(), strict=True)]
        return [Proposal(*each) for each in zip(self.architectures(draws), decisions, strict=True)]

    def decisions(self, proposals: Sequence[Proposal]) -> Draws:
        """What was decided of them: nothing of one that was not sampled."""
        kept, decided = np.zeros((2, len(proposals), len(self.edges)), bool)
        for row, proposal in enumerate(proposals):
            places = [self.place[name] for name, _keep in proposal.decisions]
            decided[row, places] = True
            kept[row, places] = [keep for _name, keep in proposal.decisions]
        return Draws(torch.from_numpy(kept), torch.from_numpy(decided))

    def decided(self, architectures: Sequence[Architecture]) -> Draws:
        """What has to be decided for each to be drawn; live edges only, so without dead ends."""
        draws = Draws(*torch.zeros(2, len(architectures), len(self.edges), dtype=torch.bool))
        for row, kept in enumerate(architectures):
            reached = {self.graph.source, *(self.graph.by_name[name].target for name in kept)}
            draws.decided[row] = torch.tensor([edge.source in reached for edge in self.edges])
            draws.kept[row] = torch.tensor([edge.name in kept for edge in self.edges])
        return draws

    def scores(self, log_odds: Tensor, draws: Draws) -> Tensor:
        """The gradient of each log-probability with respect to the log-odds, [count, edges]."""
        return ((draws.kept.double() - self.expected(log_odds)) * draws.decided).float()

    def log_probabilities(self, log_odds: Tensor, draws: Draws) -> Tensor:
        """Of each, [count]; 0 where nothing was decided."""
        odds = self._odds(log_odds)
        total = (functional.logsigmoid(torch.where(draws.kept, odds, -odds)) * draws.decided).sum(1)
        if self.connected:
            total -= (self._some(odds).log() * (draws.decided & self._first)).sum(1)
        return total.float()

    def likely(self, log_odds: Tensor) -> Architecture:
        """The live edges of what is more likely, node by node: empty if that joins nothing."""
        reached, kept, log_odds = {self.graph.source}, set(), self._odds(log_odds)
        for node, places in self._leaving.items():
            if node not in reached:
                continue
            chosen = [place for place in places if log_odds[place] > 0]
            if self.connected and not chosen:
                chosen = [max(places, key=lambda place: float(log_odds[place]))]
            kept |= {self.edges[place].name for place in chosen}
            reached |= {self.edges[place].target for place in chosen}
        return self.graph.live(kept)

    def entropy_bits(self, log_odds: Tensor) -> float | None:
        """The mean, over the choices that the likely architecture comes to, of how open they are.

        None where that joins nothing.
        """
        if not (likely := self.likely(log_odds)):
            return None
        reached = {self.graph.source, *(self.graph.by_name[name].target for name in likely)}
        expected = self.expected(log_odds).tolist()
        asked = [self.graph.by_name[name].source in reached for name in self.choices]
        chances = [expected[self.place[name]] for name in compress(self.choices, asked)]
        bits = [-p * math.log2(p) - (1 - p) * math.log2(1 - p) for p in chances if 0 < p < 1]
        return sum(bits) / max(1, len(chances))

    def expected(self, log_odds: Tensor) -> Tensor:
        """The probability of every edge, given that its source is reached, float64 [edges]."""
        odds = self._odds(log_odds)
        return odds.sigmoid() / self._some(odds) if self.connected else odds.sigmoid()

    def _odds(self, log_odds: Tensor) -> Tensor:
        """In double precision, and certain where there is no choice."""
        return log_odds.double().masked_fill(self._alone, CERTAIN)

    def _some(self, odds: Tensor) -> Tensor:
        """The probability that any edge is kept of those that leave an edge's source, [edges]."""
        shut = torch.zeros(len(self._leaving), dtype=torch.float64)
        shut = shut.index_add(0, self._source, functional.logsigmoid(-odds))
        return -torch.expm1(shut)[self._source]
