"""Budgeted Super Networks as Véniat and Denoyer published them, to compare with.

The whole network warms up; then every log-odds starts from 3 and follows plain gradient descent, under a penalty that
stays, by as many samples as a batch has examples. A sample that joins nothing costs as much as the whole network: the
released code bills nothing, and drops every edge where the loss does not object. Loss is known of fewer samples, one
for every group of examples, and only of those that join something.
"""

from __future__ import annotations

import torch

from toolkit.costs import Price
from toolkit.graph import Architecture
from toolkit.strategies.bsn import COST_SAMPLES, BudgetedSuperNetwork

RATE = 1e-3  # of log-odds, for gradients that are summed over a batch
WARM_UP = 50 / 350  # epochs


class PublishedBudgetedSuperNetwork(BudgetedSuperNetwork):
    """See the module, and for all arguments `BudgetedSuperNetwork`."""

    def __init__(
        self,
        price: Price,
        limit: float,
        seed: int = 0,
        penalty: float = 1.0,
        warm_up: float = WARM_UP,
        learning_rate: float = RATE,
    ) -> None:
        super().__init__(price, limit, seed, penalty, warm_up, initial=3.0, connected=False, temperature=0.0)
        self._optimizer = torch.optim.SGD([self._logits], lr=learning_rate * COST_SAMPLES)
        self._disconnected_cost = price(self.graph.full)

    def _untaught(self) -> Architecture:
        return self.graph.live(self.graph.full)
