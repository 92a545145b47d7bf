"""Regularised evolution (Real et al., AAAI 2019) on a trained super-network, as in once-for-all (Cai et al., 2020).

Random networks within the limit share the training. Then a population of them evolves with the weights as they are: of
a few members drawn at random the best is changed in a few edges, the child is judged and joins, and the oldest leaves.
A child loses edges by chance until it fits, then gains edges by chance while it does: without that, children shrink,
and 150 of them found worse on toy fabrics than 150 random networks did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from toolkit.costs import Price
from toolkit.graph import Architecture
from toolkit.strategies.base import Judge
from toolkit.strategies.fitting import filled
from toolkit.strategies.uniform import Uniform

POPULATION, TOURNAMENT = 16, 4
FOUNDING = 0.5  # of the time: the population is as large as it is then, for without children there is no evolution
MOST_CHANGES = 3
TRIES = 50
MOST_REMEMBERED = 4000


class RegularisedEvolution(Uniform):
    """See the module."""

    training_share = 0.7

    def __init__(self, price: Price, limit: float, seed: int = 0) -> None:
        super().__init__(price, limit, seed)
        self._edges = sorted(self.graph.live(self.graph.full))
        self._judged: dict[Architecture, float] = {}  # in the order of their birth

    def refine(self, judge: Judge, over: Callable[[], float]) -> None:
        """See `Strategy`. It ends early when nothing new turns up."""
        population: list[Architecture] = []
        size = POPULATION
        while (done := over()) < 1:
            if done >= FOUNDING:
                size = min(size, max(TOURNAMENT, len(population)))
            if (child := self._unknown(population if len(population) >= size else ())) is None:
                return
            self._judged[child] = judge(child)
            population = [*population, child][-size:]

    def candidates(self, count: int) -> list[Architecture]:
        """See `Strategy`: the best that were judged and fit, then others."""
        fitting = [kept for kept in self._judged if self.price(kept) <= self.limit]
        best = sorted(fitting, key=lambda kept: -self._judged[kept])
        return list(dict.fromkeys([*best[:count], *super().candidates(count)]))[:count]

    def state_dict(self) -> dict[str, Any]:
        """See `Strategy`. Of very many that were judged it remembers the best."""
        best = sorted(self._judged.items(), key=lambda each: -each[1])[:MOST_REMEMBERED]
        return {**super().state_dict(), "judged": [[sorted(kept), worth] for kept, worth in best]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Strategy`."""
        super().load_state_dict(state)
        self._judged = {frozenset(kept): worth for kept, worth in state["judged"]}

    def _unknown(self, parents: Sequence[Architecture]) -> Architecture | None:
        """A child of theirs that was not judged yet; a random one without parents, or if they have no more."""
        for attempt in range(2 * TRIES):
            child = self._child(parents) if parents and attempt < TRIES else self._draw()
            if child not in self._judged:
                return child
        return None

    def _child(self, parents: Sequence[Architecture]) -> Architecture:
        parent = max(self._chance.sample(parents, TOURNAMENT), key=lambda kept: self._judged[kept])
        changed = self._chance.sample(self._edges, min(len(self._edges), self._chance.randint(1, MOST_CHANGES)))
        worth = {name: self._chance.random() for name in self._edges}
        return filled(self.price, self.limit, self._within(parent ^ frozenset(changed)), worth)
