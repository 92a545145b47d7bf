"""What SANAS optimises: rewards, returns and gradients by hand, expectations by enumeration, padding without effect."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import gated_toy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from toolkit.adaptive import AdaptiveNetwork, Rollout, gate
from toolkit.errors import MilliwiseError
from toolkit.strategies.sanas import (
    IGNORED,
    Objective,
    certainty,
    class_weights,
    expected,
    hop_costs,
    mode_probabilities,
    reinforced,
    spread,
)

COSTS = torch.tensor([[0.1, 0.5, 0.6, 0.9], [0.1, 0.3, 0.6, 0.7], [0.1, 0.5, 0.4, 0.8], [0.1, 0.3, 0.4, 0.5]])
WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 1.5])


def two_gates(always: bool = True, seed: int = 0) -> AdaptiveNetwork:
    """Four modes, and a controller that is not sure of anything."""
    torch.manual_seed(seed)
    adaptive = gated_toy.side_by_side(["always"] if always else [], ["a", "b"], channels=3, labels=4)
    with torch.no_grad():
        for parameter in adaptive.controller.parameters():
            parameter.uniform_(-0.7, 0.7)
    return adaptive


def gradients(adaptive: AdaptiveNetwork, loss: Tensor) -> dict[str, Tensor]:
    named = dict(adaptive.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
    return {
        name: torch.zeros_like(named[name]) if value is None else value
        for name, value in zip(named, found, strict=True)
    }


def test_class_weights_by_hand() -> None:
    labels = [torch.tensor([[0, 0, 0, 1], [0, 2, IGNORED, IGNORED]]), torch.tensor([[0, 0]])]
    assert class_weights(labels, 4) == pytest.approx((8 / (6 * 4), 8 / (1 * 4), 8 / (1 * 4), 0.0))
    assert class_weights(iter(labels), 3) == pytest.approx((8 / 18, 8 / 3, 8 / 3))
    assert class_weights([torch.full((2, 2), IGNORED)], 2) == (0, 0) == class_weights([], 2)


def test_a_weighted_mean_is_as_if_every_label_were_as_frequent() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    weights = torch.tensor(class_weights([labels], 2))
    assert float(weights[labels].sum()) == pytest.approx(100) and weights[0] * 90 == pytest.approx(weights[1] * 10)


def test_a_branch_that_was_off_costs_more() -> None:
    """Mode 1 after mode 0 is cold (0.5), after 1 or 3 warm (0.3); before the first hop everything was off."""
    modes = torch.tensor([[1, 1, 0, 1, 3, 1], [0, 3, 3, 2, 1, 1]])
    found = hop_costs(COSTS, modes)
    torch.testing.assert_close(found[0], torch.tensor([0.5, 0.3, 0.1, 0.5, 0.7, 0.3]))
    torch.testing.assert_close(found[1], torch.tensor([0.1, 0.9, 0.5, 0.4, 0.5, 0.3]))


def test_the_surplus_of_a_first_hop_is_spread_over_some() -> None:
    """Mode 1 costs 0.3 while it runs and 0.5 at first: over 4 hops 0.2 / 4 more; and so for less."""
    assert torch.equal(spread(COSTS, 1.0), COSTS)
    found = spread(COSTS, 4.0)
    torch.testing.assert_close(found.diagonal(), COSTS.diagonal())
    assert float(found[0, 1]) == pytest.approx(0.3 + 0.2 / 4) and float(found[0, 3]) == pytest.approx(0.5 + 0.4 / 4)
    cheaper = torch.tensor([[1.0, 2.0], [0.6, 3.0]])
    torch.testing.assert_close(spread(cheaper, 2.0), torch.tensor([[1.0, 2.5], [0.8, 3.0]]))


def by_hand(
    rollout: Rollout, labels: list[list[int]], penalty: float, discount: float, weights: list[float], baseline: float
) -> tuple[list[list[float]], float, float]:
    """REINFORCE with numbers only: what pushes every decision of one gate, CE and policy, and the mean return."""
    valid = [(row, hop) for row, each in enumerate(labels) for hop, label in enumerate(each) if label != IGNORED]
    pushes = [[0.0] * len(each) for each in labels]
    total = returned = 0.0
    for row, hop in valid:
        gained = 0.0
        for later in range(hop, len(labels[row])):
            if labels[row][later] != IGNORED:
                before = int(rollout.modes[row, later - 1]) if later else 0
                cost = float(COSTS[before, rollout.modes[row, later]])
                gained += discount ** (later - hop) * -(entropy(rollout, labels, weights, row, later) + penalty * cost)
        opened = bool(rollout.decisions[row, hop, 0])
        open_share = 1 / (1 + math.exp(-rollout.log_odds[row, hop, 0].item()))
        likely = math.log(open_share if opened else 1 - open_share)
        pushes[row][hop] = -(opened - open_share) * (gained - baseline) / len(valid)
        total += (entropy(rollout, labels, weights, row, hop) - likely * (gained - baseline)) / len(valid)
        returned += gained / len(valid)
    return pushes, total, returned


def entropy(rollout: Rollout, labels: list[list[int]], weights: list[float], row: int, hop: int) -> float:
    scores = [math.exp(value) for value in rollout.logits[row, hop].tolist()]
    label = labels[row][hop]
    return -weights[label] * math.log(scores[label] / sum(scores))


@pytest.mark.parametrize("discount", [0.0, 1.0, 0.6])
@pytest.mark.parametrize("baseline", [0.0, -1.3])
def test_reinforce_by_hand(discount: float, baseline: float) -> None:
    """Two hops and one gate, the second hop of the last stream padding."""
    log_odds = torch.tensor([[[0.4], [-1.2]], [[2.0], [0.1]], [[-0.3], [0.7]]], requires_grad=True)
    decisions = torch.tensor([[[True], [False]], [[True], [True]], [[False], [True]]])
    logits = torch.randn(3, 2, 4, requires_grad=True)
    rollout = Rollout(log_odds, decisions, decisions[:, :, 0].long(), logits)
    labels = [[1, 0], [3, 2], [2, IGNORED]]
    loss, gained = reinforced(rollout, torch.tensor(labels), COSTS, 0.8, discount, WEIGHTS, baseline)
    pushes, total, returned = by_hand(rollout, labels, 0.8, discount, WEIGHTS.tolist(), baseline)
    assert loss.item() == pytest.approx(total, rel=1e-5) and gained.item() == pytest.approx(returned, rel=1e-5)
    loss.backward()
    torch.testing.assert_close(log_odds.grad[:, :, 0], torch.tensor(pushes))
    assert not logits.grad[2, 1].any() and not log_odds.grad[2, 1].any(), "padding pushes nothing"
    share = logits.detach()[0, 0].softmax(0) - torch.eye(4)[1]
    torch.testing.assert_close(logits.grad[0, 0], share * WEIGHTS[1] / 5)


@settings(max_examples=25)
@given(
    hops=st.integers(1, 4), added=st.integers(1, 3), seed=st.integers(0, 99), discount=st.sampled_from([0.0, 0.5, 1.0]),
    always=st.booleans(), exact=st.booleans(),
)  # fmt: skip
def test_padding_changes_nothing(hops: int, added: int, seed: int, discount: float, always: bool, exact: bool) -> None:
    adaptive = two_gates(always, seed)
    sinks = torch.randn(3, hops, 4, 3)
    labels = torch.randint(0, 4, (3, hops))
    labels[1:, hops // 2 + 1 :] = IGNORED
    more_sinks = torch.cat([sinks, 9 * torch.randn(3, added, 4, 3)], 1)
    more_labels = functional.pad(labels, (0, added), value=IGNORED)

    def seen(sinks: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        rollout = adaptive.roll(sinks, torch.Generator().manual_seed(seed))
        if exact:
            loss = gained = expected(adaptive, rollout, sinks, labels, COSTS, 0.7, WEIGHTS)
        else:
            loss, gained = reinforced(rollout, labels, COSTS, 0.7, discount, WEIGHTS, -0.5)
        loss = loss + 0.1 * certainty(rollout, labels)
        return loss, gained, gradients(adaptive, loss)

    torch.testing.assert_close(seen(more_sinks, more_labels), seen(sinks, labels), atol=1e-5, rtol=1e-5)
    assert not torch.equal(seen(more_sinks, functional.pad(labels, (0, added)))[0], seen(sinks, labels)[0])


def chances(adaptive: AdaptiveNetwork, odds: Tensor) -> dict[tuple[bool, ...], Tensor]:
    """Of every choice of gates at one hop."""
    share = odds.sigmoid()
    return {
        choice: torch.stack([each if on else 1 - each for on, each in zip(choice, share, strict=True)]).prod()
        for choice in product((False, True), repeat=len(adaptive.gated))
    }


def test_the_probabilities_of_modes() -> None:
    adaptive = gate(gated_toy.three(), ("first", "second", "shortcut"), "recurrent")
    log_odds = torch.randn(2, 3, 3)
    found = mode_probabilities(adaptive, log_odds)
    for row, hop in product(range(2), range(3)):
        one = chances(adaptive, log_odds[row, hop])
        by_live: dict[Any, Tensor] = {}
        for choice, chance in one.items():
            live = adaptive.graph.live(name for name, on in zip(adaptive.gated, choice, strict=True) if on)
            by_live[live] = by_live.get(live, torch.tensor(0.0)) + chance
        torch.testing.assert_close(found[row, hop], torch.stack([by_live[live] for live in adaptive.modes]))
    torch.testing.assert_close(found.sum(2), torch.ones(2, 3))
    sure = mode_probabilities(adaptive, torch.full((1, 1, 3), 1e4))
    assert sure.flatten().tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("always", [True, False])
def test_the_expectation_is_that_of_all_choices(always: bool) -> None:
    adaptive = two_gates(always)
    sinks, labels = torch.randn(2, 3, 4, 3), torch.tensor([[0, 3, 1], [2, 2, IGNORED]])
    rollout = adaptive.roll(sinks, torch.Generator().manual_seed(1))
    assert rollout.modes.unique().numel() > 2
    terms = []
    for row, hop in product(range(2), range(3)):
        if labels[row, hop] == IGNORED:
            continue
        before = rollout.modes[row, hop - 1] if hop else 0
        for choice, chance in chances(adaptive, rollout.log_odds[row, hop]).items():
            mode = adaptive.mode_of[adaptive.choices.index(choice)]
            logits = adaptive.network.head.linear(sinks[row, hop, mode])
            loss = WEIGHTS[labels[row, hop]] * functional.cross_entropy(logits, labels[row, hop])
            terms.append(chance * (loss + 0.7 * COSTS[before, mode]))
    by_choice = torch.stack(terms).sum() / 5
    found = expected(adaptive, rollout, sinks, labels, COSTS, 0.7, WEIGHTS)
    torch.testing.assert_close(found, by_choice)
    torch.testing.assert_close(gradients(adaptive, found), gradients(adaptive, by_choice))


@pytest.mark.parametrize("always", [True, False])
def test_samples_push_as_the_expectation_does_on_average(always: bool) -> None:
    adaptive = two_gates(always)
    copies = 8000
    sinks = torch.randn(1, 3, 4, 3).expand(copies, -1, -1, -1)
    labels = torch.tensor([[0, 2, 1]]).expand(copies, -1)
    rollout = adaptive.roll(sinks, torch.Generator().manual_seed(5))
    mean = expected(adaptive, rollout, sinks, labels, COSTS, 0.7, WEIGHTS)
    sampled, gained = reinforced(rollout, labels, COSTS, 0.7, 0.0, WEIGHTS, -1.0)
    assert -gained.item() == pytest.approx(mean.item(), rel=0.02)
    found, exact = gradients(adaptive, sampled), gradients(adaptive, mean)
    for part in ("controller", "network"):
        one, other = (
            torch.cat([each[name].flatten() for name in each if name.startswith(part)]) for each in (found, exact)
        )
        assert float(functional.cosine_similarity(one, other, dim=0)) > 0.99
        assert float((one - other).norm() / other.norm()) < 0.1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "give the penalty"),
        ({"penalty": 1.0, "limit": 1.0}, "give the penalty"),
        ({"penalty": -0.1}, "-0.1: give 0 or more"),
        ({"penalty": math.nan}, "nan: give 0 or more"),
        ({"penalty": math.inf}, "inf"),
        ({"limit": 0.0}, "0.0: give more"),
        ({"limit": math.nan}, "allowed is nan"),
        ({"penalty": 1.0, "discount": 1.1, "exact": False}, "1.1: give 0 to 1"),
        ({"penalty": 1.0, "discount": math.nan}, "nan: give 0 to 1"),
        ({"penalty": 1.0, "discount": 0.5}, "0.5 needs REINFORCE"),
        ({"penalty": 1.0, "restraint": -1.0}, "restraint of log-odds is -1.0"),
        ({"penalty": 1.0, "warm_up": 1.5}, "1.5"),
        ({"penalty": 1.0, "warm_up": math.nan}, "warm-up"),
        ({"penalty": 1.0, "learning_rate": 0.0}, "learning rate"),
    ],
)
def test_an_objective_that_makes_no_sense_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(MilliwiseError, match=reason):
        Objective(**options)
