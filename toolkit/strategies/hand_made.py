"""The architectures that people build by hand, such as ResNets in their fabric: the dearest that fits is trained."""

from __future__ import annotations

from typing import Any

from toolkit.costs import Price
from toolkit.errors import MilliwiseError
from toolkit.graph import Architecture
from toolkit.strategies.base import Proposal, Strategy


class HandMade(Strategy):
    """See the module. Where none fits it is the cheapest path.

    Raises:
        MilliwiseError: nothing was made by hand of this graph.
    """

    def __init__(self, price: Price, limit: float, seed: int = 0) -> None:
        super().__init__(price, limit, seed)
        if not self.graph.made_by_hand:
            raise MilliwiseError("nobody has made a network of this space by hand: take another strategy")
        known = [self.cheapest_within_limit(), *map(self.graph.live, self.graph.made_by_hand.values())]
        self._costs = {kept: price(kept) for kept in known}

    def ask(self, count: int) -> list[Proposal]:
        """See `Strategy`: one group of all examples."""
        return [Proposal(self.candidates(1)[0])]

    def candidates(self, count: int) -> list[Architecture]:
        """See `Strategy`."""
        fitting = [kept for kept, cost in self._costs.items() if cost <= self.limit] or [self.cheapest_within_limit()]
        return [max(fitting, key=lambda kept: self._costs[kept])]

    def state_dict(self) -> dict[str, Any]:
        """See `Strategy`."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Strategy`."""
