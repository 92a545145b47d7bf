"""Budgeted Super Networks as Véniat and Denoyer published them, to compare with.

The whole network warms up; then every log-odds starts from 3 and follows plain gradient descent by REINFORCE, by one
architecture for every example of a batch, under a penalty that stays; their mean is the baseline, and their gradients
are summed. An architecture that joins nothing costs as much as the whole network: the released code bills nothing,
and drops every edge where the loss does not object.

Changed: λ is of how far the limit is exceeded, as in `bsn`, so it has no unit (the published grid is of λ times a cost;
`milliwise sweep --penalty 0.1,1,10` makes one). The only edge that leaves a node is no choice: published fabrics draw
it where it is a convolution, and lose the node without it. The rate is that of the published 300 epochs: a search of
minutes hardly moves a probability, and what it finds is what the limit leaves of the whole network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from toolkit.costs import Price
from toolkit.graph import Architecture
from toolkit.strategies.base import Proposal
from toolkit.strategies.bsn import SURE, BudgetedSuperNetwork

RATE = 1e-3  # of log-odds, for gradients that are summed over a batch
WARM_UP = 50 / 350  # epochs


class PublishedBudgetedSuperNetwork(BudgetedSuperNetwork):
    """See the module, and for other arguments `BudgetedSuperNetwork`.

    Args:
        sampled: bill all that was drawn, dead ends too, as the released code does, instead of live edges.

    Raises:
        MilliwiseError: `sampled`, and the metric is known of whole networks only.
    """

    of_examples = True

    def __init__(
        self,
        price: Price,
        limit: float,
        seed: int = 0,
        penalty: float = 1.0,
        warm_up: float = WARM_UP,
        learning_rate: float = RATE,
        sampled: bool = False,
    ) -> None:
        super().__init__(price, limit, seed, penalty, warm_up, initial=3.0, connected=False, temperature=0.0)
        self._optimizer = torch.optim.SGD([self._logits], lr=learning_rate)
        self._disconnected_cost = price(self.graph.full)
        self._sampled = sampled
        if sampled:
            price.sampled(self.graph.full)  # refuses a cost of which dead ends have no share

    def ask(self, count: int) -> list[Proposal]:
        """See `Strategy`."""
        if self._done < self._warm_up:
            return [Proposal(self._untaught())] * count
        return self._sampler.proposals(self._draw(count))

    def tell(self, proposals: Sequence[Proposal], losses: Sequence[float], done: float) -> None:
        """See `Strategy`: one step of REINFORCE on the log-odds."""
        self._hear(losses, done)
        draws = self._sampler.decisions(proposals)
        if done < self._warm_up or not draws.decided.any():  # these were asked for before the warm-up was over
            return
        costs = torch.tensor([self._billed(proposal) for proposal in proposals])
        objective = torch.tensor(losses) + self._penalty * (costs / self.limit - 1).clamp(min=0)
        self._optimizer.zero_grad()
        self._logits.grad = (objective - objective.mean()) @ self._sampler.scores(self._logits, draws)
        self._optimizer.step()
        self._logits.clamp_(-SURE, SURE)

    def _billed(self, proposal: Proposal) -> float:
        if self._sampled and proposal.architecture:
            return self.price.sampled(name for name, kept in proposal.decisions if kept)
        return self._cost(proposal.architecture)

    def _untaught(self) -> Architecture:
        return self.graph.live(self.graph.full)


class SampledBudgetedSuperNetwork(PublishedBudgetedSuperNetwork):
    """Learns from the cost of all that was drawn, dead ends too, as the released code; what is found is billed live."""

    def __init__(
        self, price: Price, limit: float, seed: int = 0, penalty: float = 1.0, warm_up: float = WARM_UP
    ) -> None:
        super().__init__(price, limit, seed, penalty, warm_up, sampled=True)
