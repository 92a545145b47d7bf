"""What every search strategy does: propose architectures, hear how they did, and name its best within the limit."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn

from toolkit.costs import Price
from toolkit.errors import BudgetTooSmall, MilliwiseError
from toolkit.graph import Architecture

if TYPE_CHECKING:
    from torch import Tensor

Judge = Callable[[Architecture], float]
"""How often an architecture is right on the validation part, with the weights that were trained for all."""


@dataclass(frozen=True)
class Proposal:
    """An architecture to train on some examples.

    Attributes:
        architecture: live edges.
        decisions: every edge that was decided while sampling, kept or not (none where nothing was sampled).
        gates: factors on what edges give, [], by name; their `grad` is that of the mean loss when it is told.
    """

    architecture: Architecture
    decisions: tuple[tuple[str, bool], ...] = ()
    gates: Mapping[str, Tensor] = field(default_factory=dict, compare=False)


class Strategy(ABC):
    """Chooses architectures under a limit. It never trains, measures or prints: the training loop asks and tells.

    Args:
        price: the cost of an architecture.
        limit: what the chosen architecture may cost, in the unit of `price`.
        seed: of everything random.

    Attributes:
        of_examples: one architecture is asked for every example, which may join nothing; all edges are computed, and
            those that an example lacks are masked. Else one for each of a few groups; absent edges are not computed.
        training_share: of the time of a search; the rest goes to `refine`.
        takes_penalty: there is a λ, `penalty`, that can be set.
    """

    of_examples = False
    training_share = 1.0
    takes_penalty = False

    def __init__(self, price: Price, limit: float, seed: int = 0) -> None:
        if not 0 < limit < math.inf:
            raise MilliwiseError(f"a strategy needs a limit above zero, not {limit}")
        self.price = price
        self.graph = price.graph
        self.limit = limit
        self.seed = seed

    @abstractmethod
    def ask(self, count: int) -> list[Proposal]:
        """Architectures to train next, one for each group of examples: `count`, or a single one for all of them."""

    def tell(self, proposals: Sequence[Proposal], losses: Sequence[float], done: float) -> None:
        """The mean loss of each proposal on its group, and the share of the training that is done (0 to 1).

        Raises:
            MilliwiseError: a loss is not finite.
        """
        require_finite(losses)

    def attach(self, operations: Mapping[str, nn.Module]) -> None:  # noqa: B027  (most need not know them)
        """Before the training: what the edges compute."""

    def settle(self) -> None:  # noqa: B027  (most have nothing)
        """After the training, once: what was learnt beside the weights becomes a part of them."""

    def skip_warm_up(self) -> None:  # noqa: B027  (many have none)
        """The weights were warmed up before: learn from the first step on."""

    def refine(self, judge: Judge, over: Callable[[], float]) -> None:  # noqa: B027  (nothing is a good answer)
        """After the training: search with what it made of the weights. Most strategies have nothing left to do.

        Args:
            judge: what an architecture is worth.
            over: the share of the time for it that is over, to be asked before every judgement; at 1 it ends.
        """

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


def require_finite(losses: Sequence[float]) -> None:
    """Refuse what only a training that went wrong gives.

    Raises:
        MilliwiseError: a loss is not finite.
    """
    for loss in losses:
        if not math.isfinite(loss):
            raise MilliwiseError(f"training diverged (loss {loss}): try another --seed")
