"""Budgeted Super Networks (Véniat and Denoyer, CVPR 2018): learn a Bernoulli per edge by REINFORCE under a cost limit.

The objective is E_H[loss + λ · max(0, C(H)/B − 1)] with B the limit, so λ has no unit. As published: an edge is sampled
only when its source is reached, one architecture for every group of examples, the batch mean as baseline. Changed:

* The cost needs no forward pass, so its share of the gradient is estimated from many more samples than the loss'.
* λ is found by dual ascent (it grows while the mean cost exceeds the limit) unless the caller fixes it.
* The warm-up trains random architectures of all densities instead of the whole network, which would cost several
  times as much per step as what is sampled later.
* Cost is billed on live edges; a sample that does not join source and sink costs the whole network plus a margin.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from toolkit.costs import Price, random_architecture
from toolkit.graph import Architecture
from toolkit.strategies.base import Proposal, Strategy

DISCONNECTED_MARGIN = 0.1
COST_SAMPLES = 64


class BudgetedSuperNetwork(Strategy):
    """See the module.

    Args:
        price, limit, seed: see `Strategy`.
        penalty: λ, fixed; None lets dual ascent find it.
        warm_up: share of the training before probabilities are learnt.
        initial: log-odds every edge starts from (the thesis starts from 3 after training the whole network).
        learning_rate: of the log-odds, by Adam.
    """

    def __init__(
        self,
        price: Price,
        limit: float,
        seed: int = 0,
        penalty: float | None = None,
        warm_up: float = 0.3,
        initial: float = 0.5,
        learning_rate: float = 0.05,
    ) -> None:
        super().__init__(price, limit, seed)
        self._cheapest = self.cheapest_within_limit()
        self._edges = self.graph.ordered
        self._place = {edge.name: index for index, edge in enumerate(self._edges)}
        self._fixed_penalty = penalty is not None
        self._penalty = 1.0 if penalty is None else penalty
        self._warm_up = warm_up
        self._done = 0.0
        self._logits = torch.full((len(self._edges),), initial)
        self._optimizer = torch.optim.Adam([self._logits], lr=learning_rate)
        self._generator = torch.Generator().manual_seed(seed)
        self._chance = random.Random(seed)
        self._disconnected_cost = max(price(self.graph.full), limit) * (1 + DISCONNECTED_MARGIN)

    @property
    def probabilities(self) -> dict[str, float]:
        """The probability of every edge, given that its source is reached."""
        return {edge.name: float(self._logits[index].sigmoid()) for index, edge in enumerate(self._edges)}

    @property
    def penalty(self) -> float:
        """λ."""
        return self._penalty

    def ask(self, count: int) -> list[Proposal]:
        """See `Strategy`."""
        if self._done < self._warm_up:
            return [
                Proposal(random_architecture(self.graph, self._chance, self._chance.random())) for _ in range(count)
            ]
        proposals = [proposal for proposal in self._sample(8 * count) if proposal.architecture]
        # Hardly any sample is connected only when the probabilities are: then the cheapest path keeps training.
        return (proposals + [Proposal(self._cheapest)] * count)[:count]

    def tell(self, proposals: Sequence[Proposal], losses: Sequence[float], done: float) -> None:
        """See `Strategy`: one step of REINFORCE on the log-odds and of dual ascent on λ."""
        super().tell(proposals, losses, done)
        self._done = done
        if done < self._warm_up:
            return
        priced = self._sample(COST_SAMPLES)
        costs = torch.tensor([self._cost(proposal.architecture) for proposal in priced])
        penalties = self._penalty * (costs / self.limit - 1).clamp(min=0)
        self._optimizer.zero_grad()
        self._logits.grad = self._score_gradient(priced, penalties) + self._score_gradient(
            proposals, torch.tensor(losses)
        )
        self._optimizer.step()
        if not self._fixed_penalty:
            excess = float(costs.mean() / self.limit - 1)
            self._penalty = min(1e3, max(1e-2, self._penalty * math.exp(0.1 * max(-0.5, min(0.5, excess)))))

    def candidates(self, count: int) -> list[Architecture]:
        """See `Strategy`: the most probable architecture, the fullest in order of probability, then likely samples."""
        probabilities = self.probabilities
        likely = self._repaired(frozenset(name for name, p in probabilities.items() if p > 0.5))
        samples = {self._repaired(proposal.architecture) for proposal in self._sample(16 * count)}
        ranked = sorted(samples, key=lambda kept: (-self._log_probability(kept), sorted(kept)))
        chosen = dict.fromkeys([likely, self._filled(likely), *ranked])
        return list(chosen)[:count]

    def facts(self) -> dict[str, Any]:
        """See `Strategy`."""
        probabilities = self.probabilities
        bits = [-p * math.log2(p) - (1 - p) * math.log2(1 - p) for p in probabilities.values() if 0 < p < 1]
        return {"probabilities": probabilities, "penalty": self._penalty, "entropy_bits": sum(bits) / len(self._edges)}

    def state_dict(self) -> dict[str, Any]:
        """See `Strategy`."""
        moments = self._optimizer.state[self._logits]
        version, internal, gauss = self._chance.getstate()
        return {
            "logits": self._logits.tolist(),
            "penalty": self._penalty,
            "done": self._done,
            "moments": {name: value.tolist() for name, value in moments.items()},
            "generator": self._generator.get_state().tolist(),
            "chance": [version, list(internal), gauss],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Strategy`."""
        self._logits.copy_(torch.tensor(state["logits"]))
        self._penalty, self._done = state["penalty"], state["done"]
        self._optimizer.state[self._logits] = {name: torch.tensor(value) for name, value in state["moments"].items()}
        self._generator.set_state(torch.tensor(state["generator"], dtype=torch.uint8))
        version, internal, gauss = state["chance"]
        self._chance.setstate((version, tuple(internal), gauss))

    def _sample(self, count: int) -> list[Proposal]:
        """Edges in topological order, each decided only where its source is reached (thesis, section 3.3)."""
        kept = torch.rand(count, len(self._edges), generator=self._generator) < self._logits.sigmoid()
        return [self._follow(row) for row in kept.tolist()]

    def _follow(self, kept: list[bool]) -> Proposal:
        reached = {self.graph.source}
        decisions = []
        for edge, keep in zip(self._edges, kept, strict=True):
            if edge.source in reached:
                decisions.append((edge.name, keep))
                if keep:
                    reached.add(edge.target)
        return Proposal(self.graph.live(name for name, keep in decisions if keep), tuple(decisions))

    def _cost(self, architecture: Architecture) -> float:
        if not architecture:
            return self._disconnected_cost
        return self.price(architecture)

    def _score_gradient(self, proposals: Sequence[Proposal], values: Tensor) -> Tensor:
        """REINFORCE: the mean of (value − baseline) · ∇ log P, the baseline being the mean of the others' values."""
        gradient = [0.0] * len(self._edges)
        if len(proposals) < 2:
            return torch.tensor(gradient)
        advantages = (values - values.mean()) / (len(proposals) - 1)
        probabilities = self._logits.sigmoid().tolist()
        for proposal, advantage in zip(proposals, advantages.tolist(), strict=True):
            for name, keep in proposal.decisions:
                place = self._place[name]
                gradient[place] += advantage * (keep - probabilities[place])
        return torch.tensor(gradient)

    def _log_probability(self, kept: Architecture) -> float:
        return sum(math.log(max(1e-9, p if name in kept else 1 - p)) for name, p in self.probabilities.items())

    def _repaired(self, kept: Architecture) -> Architecture:
        """The live edges, less the least probable ones until the limit is kept; the cheapest path if none is left."""
        live = self.graph.live(kept)
        probabilities = self.probabilities
        while live and self._cost(live) > self.limit:
            shorter = (self.graph.live(live - {name}) for name in sorted(live, key=lambda name: probabilities[name]))
            live = next((rest for rest in shorter if rest), frozenset())
        return live or self._cheapest

    def _filled(self, kept: Architecture) -> Architecture:
        """With more edges, the most probable first, as long as the limit is kept."""
        probabilities = self.probabilities
        for name in sorted(self.graph.full - kept, key=lambda name: -probabilities[name]):
            fuller = self.graph.live(kept | {name})
            if self._cost(fuller) <= self.limit:
                kept = fuller
        return kept
