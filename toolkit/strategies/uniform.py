"""The baseline: random architectures within the limit, every density of edges equally likely."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from toolkit.costs import Price, random_architecture
from toolkit.graph import Architecture
from toolkit.strategies.base import Proposal, Strategy
from toolkit.strategies.fitting import thinned


class Uniform(Strategy):
    """Draws architectures, and leaves out edges by chance until they fit; what is told about them is not used."""

    def __init__(self, price: Price, limit: float, seed: int = 0) -> None:
        super().__init__(price, limit, seed)
        self._chance = random.Random(seed)
        self._cheapest = self.cheapest_within_limit()

    def ask(self, count: int) -> list[Proposal]:
        """See `Strategy`."""
        return [Proposal(self._draw()) for _ in range(count)]

    def candidates(self, count: int) -> list[Architecture]:
        """See `Strategy`."""
        drawn = {self._cheapest: None, **{self._draw(): None for _ in range(4 * count)}}
        return sorted(drawn, key=lambda kept: (-self.price(kept), sorted(kept)))[:count]

    def state_dict(self) -> dict[str, Any]:
        """See `Strategy`."""
        version, internal, gauss = self._chance.getstate()
        return {"chance": [version, list(internal), gauss]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Strategy`."""
        version, internal, gauss = state["chance"]
        self._chance.setstate((version, tuple(internal), gauss))

    def _draw(self) -> Architecture:
        return self._within(random_architecture(self.graph, self._chance, self._chance.random()))

    def _within(self, kept: Iterable[str]) -> Architecture:
        """What is left of it within the limit: the cheapest path if nothing is."""
        kept = self.graph.live(kept)
        worth = {name: self._chance.random() for name in sorted(kept)}
        return thinned(self.price, self.limit, kept, worth) or self._cheapest
