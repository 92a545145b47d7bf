"""Stochastic Adaptive Neural Architecture Search (Véniat, Schwander and Denoyer, ICASSP 2019): teach a controller.

At every hop the controller draws which gates open. With cost C, penalty λ and cross-entropy CE, the reward of a hop is
−(CE + λ·C), its return the sum of the rewards that follow, discounted by γ; the log-probabilities of the decisions are
pushed by how much better than usual the return was (REINFORCE), the classifier by CE itself. Changed:

* Padding is left out of the baseline, too. λ grows during a warm-up, else everything is shut in the first moments.
* C is what the mode costs on the device, by the mode of the hop before (a branch that was off has to catch up), with
  the controller, as a share of the dearest mode's: λ has no unit. λ may be sought by dual ascent on a mean cost.
* What every mode would have said is known, for there are few: `exact` takes the expectation over the decisions of a hop
  instead of a sample. The gradient is the same on average, and far less noisy; later hops do not count (γ is 0).
* Log-odds are held back: the more certain a gate, the smaller its gradient, and one that always opened while λ was low
  would not notice that λ has grown until it is far too high, then all would be shut for good. What is more likely
  stays so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.adaptive import AdaptiveNetwork, Rollout
from toolkit.errors import MilliwiseError

IGNORED = -7  # the label of padding


@dataclass(frozen=True)
class Objective:
    """What is optimised, and how.

    Attributes:
        penalty: λ; None seeks one with which the mean cost is `limit`.
        limit: mean cost of a hop that is allowed, where λ is sought.
        discount: γ of the returns.
        exact: expectation over the decisions of a hop instead of REINFORCE.
        warm_up: share of the training in which λ grows.
        learning_rate, weight_decay: of Adam; the decay is of the classifier's weights only.
        class_weights: factor of CE by label; None for all the same.
        run_hops: over so many hops it is spread, in the loss, what a mode costs more at its first than at later ones.
        classifier: train it with the controller; else it stays as it is.
        restraint: weight of the squared log-odds of the gates in the loss; the published one has none.

    Raises:
        MilliwiseError: neither or both of λ and a limit, a value out of range, or later hops in an exact expectation.
    """

    penalty: float | None = None
    limit: float | None = None
    discount: float = 0.0
    exact: bool = True
    warm_up: float = 0.2
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    class_weights: tuple[float, ...] | None = None
    run_hops: float = 1.0
    classifier: bool = True
    restraint: float = 4e-3

    def __post_init__(self) -> None:
        if (self.penalty is None) == (self.limit is None):
            raise MilliwiseError("give the penalty of the cost, or the mean cost of a hop that it is to be sought for")
        if self.penalty is not None and not 0 <= self.penalty < math.inf:
            raise MilliwiseError(f"the penalty of the cost is {self.penalty}: give 0 or more")
        if self.limit is not None and not 0 < self.limit < math.inf:
            raise MilliwiseError(f"the mean cost allowed is {self.limit}: give more than 0")
        if not 0 <= self.discount <= 1:
            raise MilliwiseError(f"the discount is {self.discount}: give 0 to 1")
        if self.exact and self.discount:
            raise MilliwiseError(f"a discount of {self.discount} needs REINFORCE: the expectation is of one hop")
        if not 1 <= self.run_hops < math.inf:
            raise MilliwiseError(f"costs are spread over {self.run_hops} hops: give 1 or more")
        if not 0 <= self.restraint < math.inf:
            raise MilliwiseError(f"the restraint of log-odds is {self.restraint}: give 0 or more")
        if not (0 <= self.warm_up <= 1 and 0 < self.learning_rate < math.inf):
            raise MilliwiseError(
                f"a warm-up of {self.warm_up} and a learning rate of {self.learning_rate}: give 0 to 1, and more than 0"
            )


def class_weights(labels: Iterable[Tensor], count: int) -> tuple[float, ...]:
    """Hops / (hops of the label · labels), as in the thesis: silence is most of every stream. 0 for a label of none."""
    counts = sum((torch.bincount(each[each != IGNORED], minlength=count) for each in labels), torch.zeros(count))
    return tuple((counts.sum() / (counts * count)).nan_to_num(posinf=0.0).tolist())


def spread(costs: Tensor, run_hops: float) -> Tensor:
    """Costs [modes, modes] of a mode (second) after a mode (first), the first hop's surplus spread over some hops.

    A decision that is judged by its own hop would never pay for a cold start, whatever the next hops bring.
    """
    usual = costs.diagonal()
    return usual + (costs - usual) / run_hops


def hop_costs(costs: Tensor, modes: Tensor) -> Tensor:
    """The cost of every hop, [batch, hops], of the modes that ran; before the first hop the first mode, all shut, did.

    Args:
        costs: [modes, modes], of a mode (second) after a mode (first).
    """
    before = functional.pad(modes[:, :-1], (1, 0))
    return costs[before, modes]


def reinforced(
    rollout: Rollout, labels: Tensor, costs: Tensor, penalty: float, discount: float, weights: Tensor, baseline: float
) -> tuple[Tensor, Tensor]:
    """The published loss of sampled decisions, and the mean return, for the baseline of the next batch.

    Args:
        costs: [modes, modes], relative.
        weights: of the labels.
    """
    valid = labels != IGNORED
    entropy = _entropy(rollout.logits, labels, weights)
    rewards = -(entropy.detach() + penalty * hop_costs(costs, rollout.modes)) * valid
    returns = [rewards[:, -1]]
    for hop in reversed(range(rewards.shape[1] - 1)):
        returns.append(rewards[:, hop] + discount * returns[-1])
    gained = torch.stack(returns[::-1], 1)
    signs = rollout.decisions.to(rollout.log_odds.dtype)
    likely = -functional.binary_cross_entropy_with_logits(rollout.log_odds, signs, reduction="none").sum(2)
    policy = -(likely * (gained - baseline))[valid].mean()
    return entropy[valid].mean() + policy, gained[valid].mean()


def expected(
    adaptive: AdaptiveNetwork, rollout: Rollout, sinks: Tensor, labels: Tensor, costs: Tensor, penalty: float,
    weights: Tensor,
) -> Tensor:  # fmt: skip
    """The same loss with the expectation over every hop's decisions; the memory goes on from the sampled ones."""
    valid = labels != IGNORED
    shares = mode_probabilities(adaptive, rollout.log_odds)
    entropy = _entropy(adaptive.classify(sinks), labels[:, :, None].expand(shares.shape), weights)
    before = functional.pad(rollout.modes[:, :-1], (1, 0))
    cost = (shares * costs[before]).sum(2)
    return ((shares * entropy).sum(2) + penalty * cost)[valid].mean()


def certainty(rollout: Rollout, labels: Tensor) -> Tensor:
    """The squared log-odds of a hop's gates, on average and without padding."""
    return rollout.log_odds.square().sum(2)[labels != IGNORED].mean()


def mode_probabilities(adaptive: AdaptiveNetwork, log_odds: Tensor) -> Tensor:
    """The probability of every mode, [batch, hops, modes], from the log-odds of the gates."""
    choices = torch.tensor(adaptive.choices, dtype=log_odds.dtype, device=log_odds.device)
    opened, shut = functional.logsigmoid(log_odds), functional.logsigmoid(-log_odds)
    likely = (opened @ choices.T + shut @ (1 - choices).T).exp()
    found = likely.new_zeros(*likely.shape[:2], len(adaptive.modes))
    return found.index_add(2, adaptive.mode_of.to(log_odds.device), likely)


def _entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropy of every hop, 0 of padding."""
    by_label = logits.flatten(0, -2).T[None]  # labels first: the softmax of rows of twelve is many times as slow
    return functional.cross_entropy(
        by_label, labels.flatten()[None], weights, ignore_index=IGNORED, reduction="none"
    ).reshape(labels.shape)
