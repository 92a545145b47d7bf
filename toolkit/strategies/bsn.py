"""Budgeted Super Networks (Véniat and Denoyer, CVPR 2018): learn a Bernoulli per edge by REINFORCE under a cost limit.

The objective is E_H[loss + λ · max(0, C(H)/B − 1)] with B the limit, so λ has no unit. As published: an edge is sampled
only when its source is reached, one architecture for every group of examples, the batch mean as baseline. Changed
(`bsn-published` is without these):

* The cost needs no forward pass, so its share of the gradient is estimated from many more samples than the loss'.
* λ is found by dual ascent (it grows while the mean cost exceeds the limit) unless the caller fixes it.
* Every edge starts with the same log-odds, those of networks that cost the limit on average. The warm-up draws such
  networks, too, instead of training the whole one: what costs several times the limit takes several times as long, and
  its weights are of little use to what is chosen (a ResNet fabric within 1.2 of 13.8 MFLOPs, a minute and a half: 10
  epochs of searching instead of 4, right for 51.7 % of CIFAR-10 instead of 47.9).
* Every sample joins source and sink, without dead ends: the decisions at a node are those that keep any edge.
* What is drawn is held near what it was at first, by a divergence whose weight cools down to nothing: as published,
  the choices of the first moments are never undone (on 20 fabrics of random costs the cheapest path is found in 20,
  without it in 16: `milliwise bench search`).
* Cost is billed on live edges.
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
from toolkit.strategies.base import Proposal, Strategy, require_finite
from toolkit.strategies.fitting import filled, thinned
from toolkit.strategies.sampling import Draws, EdgeSampler

DISCONNECTED_MARGIN = 0.1
LEAST, MOST = -4.0, 3.0  # log-odds to begin with
COST_SAMPLES = 64
SURE = 30.0  # log-odds beyond which nothing changes but rounding errors
COOL = 0.8  # share of the learning after which nothing is tried for its own sake any more


class BudgetedSuperNetwork(Strategy):
    """See the module.

    Args:
        price, limit, seed: see `Strategy`.
        penalty: λ, fixed; None lets dual ascent find it.
        warm_up: share of the training before probabilities are learnt.
        initial: log-odds every edge starts from (the thesis starts from 3 after training the whole network); None
            finds those of networks that cost the limit on average.
        learning_rate: of the log-odds, by Adam.
        connected: draw only architectures that join source and sink, without dead ends; others cost the whole network
            plus a margin.
        temperature: weight of the divergence of what is drawn from what is drawn at first, as a share of λ where that
            is above 1; it falls to zero.
        cost_samples: architectures whose cost a step asks for; 0 asks for that of the trained ones, as published.
    """

    takes_penalty = True

    def __init__(
        self,
        price: Price,
        limit: float,
        seed: int = 0,
        penalty: float | None = None,
        warm_up: float = 0.3,
        initial: float | None = None,
        learning_rate: float = 0.05,
        connected: bool = True,
        temperature: float = 0.3,
        cost_samples: int = COST_SAMPLES,
    ) -> None:
        super().__init__(price, limit, seed)
        self._cheapest = self.cheapest_within_limit()
        self._sampler = EdgeSampler(self.graph, connected)
        self._fixed_penalty = penalty is not None
        self._penalty = 1.0 if penalty is None else penalty
        self._temperature, self._cost_samples = temperature, cost_samples
        self._warm_up = warm_up
        self._done = 0.0
        self._generator = torch.Generator().manual_seed(seed)
        self._chance = random.Random(seed)
        self._disconnected_cost = max(price(self.graph.full), limit) * (1 + DISCONNECTED_MARGIN)
        self._initial = torch.full((len(self._sampler.edges),), self._matching(seed) if initial is None else initial)
        self._logits = self._initial.clone()
        self._optimizer: torch.optim.Optimizer = torch.optim.Adam([self._logits], lr=learning_rate)

    @property
    def probabilities(self) -> dict[str, float]:
        """The probability of every edge, given that its source is reached."""
        expected = self._sampler.expected(self._logits).tolist()
        return {name: expected[index] for name, index in self._sampler.place.items()}

    @property
    def likely(self) -> Architecture:
        """The most probable architecture, whatever it costs; empty if that joins nothing."""
        return self._sampler.likely(self._logits)

    @property
    def penalty(self) -> float:
        """λ."""
        return self._penalty

    def skip_warm_up(self) -> None:
        """See `Strategy`."""
        self._warm_up = 0.0

    def ask(self, count: int) -> list[Proposal]:
        """See `Strategy`."""
        if self._done < self._warm_up:
            return [Proposal(self._untaught()) for _ in range(count)]
        drawn = self._sampler.proposals(self._draw(count if self._sampler.connected else 8 * count))
        proposals = [proposal for proposal in drawn if proposal.architecture]
        # Hardly any sample is connected only when the probabilities are: then the cheapest path keeps training.
        return (proposals + [Proposal(self._cheapest)] * count)[:count]

    def tell(self, proposals: Sequence[Proposal], losses: Sequence[float], done: float) -> None:
        """See `Strategy`: one step of REINFORCE on the log-odds and of dual ascent on λ."""
        self._hear(losses, done)
        if done < self._warm_up:
            return
        priced = self._draw(self._cost_samples) if self._cost_samples else self._sampler.decisions(proposals)
        costs = torch.tensor([self._cost(architecture) for architecture in self._sampler.architectures(priced)])
        penalties = self._penalty * (costs / self.limit - 1).clamp(min=0)
        diverged = self._sampler.log_probabilities(self._logits, priced)
        diverged -= self._sampler.log_probabilities(self._initial, priced)
        penalties += self._heat(done) * diverged
        self._optimizer.zero_grad()
        self._logits.grad = self._score_gradient(priced, penalties) + self._gradient_of_loss(proposals, losses)
        self._optimizer.step()
        self._logits.clamp_(-SURE, SURE)
        if not self._fixed_penalty:
            excess = float(costs.mean()) / self.limit - 1
            self._penalty = min(1e3, max(1e-2, self._penalty * math.exp(0.1 * max(-0.5, min(0.5, excess)))))

    def candidates(self, count: int) -> list[Architecture]:
        """See `Strategy`: the most probable architecture, the fullest in order of probability, then likely samples."""
        likely = self._repaired(self.likely)
        full = filled(self.price, self.limit, likely, self.probabilities)
        samples = list({self._repaired(each) for each in self._sampler.architectures(self._draw(16 * count))})
        found = self._sampler.log_probabilities(self._logits, self._sampler.decided(samples)).tolist()
        worth = dict(zip(samples, found, strict=True))
        ranked = sorted(samples, key=lambda kept: (-worth[kept], sorted(kept)))
        chosen = dict.fromkeys([likely, full, *ranked])
        return list(chosen)[:count]

    def facts(self) -> dict[str, Any]:
        """See `Strategy`."""
        entropy_bits = self._sampler.entropy_bits(self._logits)
        likely_cost = self.price(likely) if (likely := self.likely) else None
        told = {"penalty": self._penalty, "entropy_bits": entropy_bits, "likely_cost": likely_cost}
        return {"probabilities": self.probabilities, **told}

    def state_dict(self) -> dict[str, Any]:
        """See `Strategy`."""
        moments = self._optimizer.state[self._logits]
        version, internal, gauss = self._chance.getstate()
        return {
            "logits": self._logits.tolist(),
            "penalty": self._penalty,
            "done": self._done,
            "moments": {name: value.tolist() for name, value in moments.items() if value is not None},
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

    def _hear(self, losses: Sequence[float], done: float) -> None:
        require_finite(losses)
        self._done = done

    def _matching(self, seed: int) -> float:
        """The log-odds, one for all edges, of networks that cost the limit on average, or nearly of single paths."""
        low, high = LEAST, MOST
        while high - low > 0.1:
            middle = (low + high) / 2
            odds, generator = torch.full((len(self._sampler.edges),), middle), torch.Generator().manual_seed(seed)
            drawn = self._sampler.architectures(self._sampler.draw(odds, COST_SAMPLES, generator))
            mean = sum(map(self._cost, drawn)) / len(drawn)
            low, high = (middle, high) if mean <= self.limit else (low, middle)
        return low

    def _untaught(self) -> Architecture:
        """What trains before probabilities are learnt."""
        if self._sampler.connected:
            return self._sampler.architectures(self._draw(1))[0]
        return random_architecture(self.graph, self._chance, self._chance.random())

    def _draw(self, count: int) -> Draws:
        return self._sampler.draw(self._logits, count, self._generator)

    def _heat(self, done: float) -> float:
        """Weight of the divergence: it keeps early luck from deciding. At first all is tried, in the end the best."""
        cooled = (done - self._warm_up) / (1 - self._warm_up) / COOL
        return self._temperature * max(1.0, self._penalty) * max(0.0, 1 - cooled)

    def _cost(self, architecture: Architecture) -> float:
        if not architecture:
            return self._disconnected_cost
        return self.price(architecture)

    def _gradient_of_loss(self, proposals: Sequence[Proposal], losses: Sequence[float]) -> Tensor:
        return self._score_gradient(self._sampler.decisions(proposals), torch.tensor(losses))

    def _score_gradient(self, draws: Draws, values: Tensor) -> Tensor:
        """REINFORCE: the mean of (value − baseline) · ∇ log P, the baseline being the mean of the others' values."""
        if len(values) < 2:
            return torch.zeros_like(self._logits)
        advantages = (values - values.mean()) / (len(values) - 1)
        return advantages @ self._sampler.scores(self._logits, draws)

    def _repaired(self, kept: Architecture) -> Architecture:
        """The live edges, less the least probable ones until the limit is kept; the cheapest path if none is left."""
        return thinned(self.price, self.limit, kept, self.probabilities) or self._cheapest
