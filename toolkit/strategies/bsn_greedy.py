"""Budgeted Super Networks that begin dense, draw what joins nothing, too, and follow their first luck: beside `bsn`."""

from __future__ import annotations

from toolkit.costs import Price
from toolkit.strategies.bsn import BudgetedSuperNetwork


class GreedyBudgetedSuperNetwork(BudgetedSuperNetwork):
    """See the module, and for all arguments `BudgetedSuperNetwork`."""

    def __init__(
        self, price: Price, limit: float, seed: int = 0, penalty: float | None = None, warm_up: float = 0.3
    ) -> None:
        super().__init__(price, limit, seed, penalty, warm_up, initial=0.5, connected=False, temperature=0.0)
