"""Budgeted Super Networks that neither draw whole networks only nor cool down: what `bsn` gains by that, beside it."""

from __future__ import annotations

from toolkit.costs import Price
from toolkit.strategies.bsn import BudgetedSuperNetwork


class GreedyBudgetedSuperNetwork(BudgetedSuperNetwork):
    """See the module, and for all arguments `BudgetedSuperNetwork`."""

    def __init__(
        self, price: Price, limit: float, seed: int = 0, penalty: float | None = None, warm_up: float = 0.3
    ) -> None:
        super().__init__(price, limit, seed, penalty, warm_up, initial=0.5, connected=False, temperature=0.0)
