"""Edges relaxed to factors between 0 and 1, learnt by gradient (Gumbel-softmax: FBNet, CVPR 2019; SNAS, ICLR 2019).

An edge is there or not, so its relaxation is the binary one (Maddison, Mnih and Teh, ICLR 2017): the logistic function
of log-odds and noise over a temperature, which cools down as in FBNet. All edges are computed at every step. The cost
is any function of an architecture, so its share of the gradient is estimated as `bsn` does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from toolkit.costs import Price
from toolkit.strategies.base import Proposal
from toolkit.strategies.bsn import BudgetedSuperNetwork

HOT, COLD = 5.0, 0.09  # FBNet: 5 · exp(−0.045 · epoch), over 90 epochs


class GumbelSoftmax(BudgetedSuperNetwork):
    """See the module, and for all arguments `BudgetedSuperNetwork`."""

    def __init__(
        self, price: Price, limit: float, seed: int = 0, penalty: float | None = None, warm_up: float = 0.3
    ) -> None:
        super().__init__(price, limit, seed, penalty, warm_up, initial=0.5, temperature=0.0)
        self._drawn_at = HOT  # the temperature of what is trained

    def ask(self, count: int) -> list[Proposal]:
        """See `Strategy`."""
        if self._done < self._warm_up:
            return super().ask(count)
        whole, self._drawn_at = self.graph.live(self.graph.full), self._coolness
        return [Proposal(whole, gates=self._relaxed()) for _ in range(count)]

    def _relaxed(self) -> dict[str, Tensor]:
        chances = torch.rand(len(self._logits), generator=self._generator).clamp(1e-6, 1 - 1e-6)
        gates = ((self._logits + chances.logit()) / self._drawn_at).sigmoid()
        place = self._sampler.place
        return {name: gates[place[name]].clone().requires_grad_() for name in self._sampler.choices}

    @property
    def _coolness(self) -> float:
        """The temperature of the relaxation."""
        learnt = max(0.0, self._done - self._warm_up) / (1 - self._warm_up)
        return HOT * math.exp(learnt * math.log(COLD / HOT))

    def _gradient_of_loss(self, proposals: Sequence[Proposal], losses: Sequence[float]) -> Tensor:
        """Through the factors: that of σ(x/τ) by x is σ · (1 − σ) / τ."""
        gradient = torch.zeros_like(self._logits)
        for proposal in proposals:
            for name, gate in proposal.gates.items():
                if gate.grad is not None:
                    value = gate.detach().cpu()
                    gradient[self._sampler.place[name]] += gate.grad.cpu() * value * (1 - value) / self._drawn_at
        return gradient
