"""What every search strategy does: propose architectures, hear how they did, and name its best within the limit."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.costs import Price
from toolkit.errors import BudgetTooSmall, MilliwiseError
from toolkit.graph import Architecture


@dataclass(frozen=True)
class Proposal:
    """An architecture to train on some examples.

    Attributes:
        architecture: live edges.
        decisions: every edge that was decided while sampling, kept or not (none where nothing was sampled).
    """

    architecture: Architecture
    decisions: tuple[tuple[str, bool], ...] = ()


class Strategy(ABC):
    """Chooses architectures under a limit. It never trains, measures or prints: the training loop asks and tells.

    Args:
        price: the cost of an architecture.
        limit: what the chosen architecture may cost, in the unit of `price`.
        seed: of everything random.
    """

    def __init__(self, price: Price, limit: float, seed: int = 0) -> None:
        if not 0 < limit < math.inf:
            raise MilliwiseError(f"a strategy needs a limit above zero, not {limit}")
        self.price = price
        self.graph = price.graph
        self.limit = limit
        self.seed = seed

    @abstractmethod
    def ask(self, count: int) -> list[Proposal]:
        """Architectures to train next, one for each group of examples."""

    def tell(self, proposals: Sequence[Proposal], losses: Sequence[float], done: float) -> None:
        """The mean loss of each proposal on its group, and the share of the training that is done (0 to 1).

        Raises:
            MilliwiseError: a loss is not finite.
        """
        for loss in losses:
            if not math.isfinite(loss):
                raise MilliwiseError(f"training diverged (loss {loss}): try another --seed")

    @abstractmethod
    def candidates(self, count: int) -> list[Architecture]:
        """At most `count` different architectures within the limit, the most promising first, at least one.

        Raises:
            BudgetTooSmall: none is known, because the limit is below the cheapest.
        """

    def cheapest_within_limit(self) -> Architecture:
        """The cheapest architecture.

        Raises:
            BudgetTooSmall: it costs more than the limit.
        """
        cheapest = self.price.cheapest()
        if (least := self.price(cheapest)) > self.limit:
            raise BudgetTooSmall(
                f"no architecture costs at most {self.limit:.4g}: the cheapest costs {least:.4g}; allow that much"
            )
        return cheapest

    def facts(self) -> dict[str, Any]:
        """What is worth seeing of how the search goes, as JSON values, for the log."""
        return {}

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that changes, as JSON values."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
