"""The peers of Budgeted Super Networks: what each does as its paper says, against derivatives and searches by hand."""

from __future__ import annotations

import math
import random

import pytest
import torch
import toy
from exported import randomise
from torch import nn

from toolkit.costs import Price
from toolkit.errors import MilliwiseError
from toolkit.graph import Architecture, Graph
from toolkit.infrastructure import random_costs, table_price
from toolkit.spaces import resnet_fabric
from toolkit.spaces.neural_fabric import fabric
from toolkit.strategies.evolution import RegularisedEvolution
from toolkit.strategies.fitting import filled, thinned
from toolkit.strategies.gumbel_softmax import GumbelSoftmax
from toolkit.strategies.hand_made import HandMade
from toolkit.strategies.magnitude_pruning import MagnitudePruning
from toolkit.training import Plan, train

LOOSE = 2 * toy.FULL_P95_MS


class Turns:
    """Says that the time is over after so many judgements."""

    def __init__(self, count: int) -> None:
        self.left, self.count = count, count

    def __call__(self) -> float:
        self.left -= 1
        return 1 - max(0, self.left + 1) / self.count


def trade() -> tuple[Price, float, dict[str, float]]:
    """A fabric whose edges are of some worth, and a limit of a third of what they cost."""
    graph = fabric(2, 5, 1, 4).graph
    price, worth = table_price(graph, random_costs(graph, 1)), random_costs(graph, 2)
    least = price(price.cheapest())
    return price, least + 0.3 * (price(graph.full) - least), worth


def test_evolution_finds_better_than_chance_in_as_many_judgements() -> None:
    price, limit, worth = trade()

    def judge(kept: Architecture) -> float:
        assert price(kept) <= limit
        return sum(worth[name] for name in kept)

    ahead = []
    for seed in range(5):
        strategy = RegularisedEvolution(price, limit, seed)
        strategy.refine(judge, Turns(150))
        drawn = max(judge(proposal.architecture) for proposal in RegularisedEvolution(price, limit, seed + 9).ask(150))
        ahead.append(judge(strategy.candidates(1)[0]) - drawn)
    assert min(ahead) > 0


def test_evolution_judges_each_network_once_while_there_is_time() -> None:
    seen: list[Architecture] = []

    def judge(kept: Architecture) -> float:
        seen.append(kept)
        return random.random()

    strategy = RegularisedEvolution(toy.pricing(), LOOSE)
    strategy.refine(judge, Turns(10))
    assert len(seen) == len(set(seen)) == 10
    strategy.refine(judge, lambda: 0.0)
    assert len(seen) == len(set(seen)) <= 2**9, "in a small space nothing new is left: it ends by itself"


def test_evolution_proposes_what_was_judged_best_and_fits_a_limit_that_fell() -> None:
    strategy = RegularisedEvolution(toy.pricing(), LOOSE)
    strategy.refine(lambda kept: len(kept), Turns(40))
    assert len(strategy.candidates(1)[0]) >= 8
    strategy.limit = toy.CHEAPEST_P95_MS + 0.1
    assert all(toy.pricing()(kept) <= strategy.limit for kept in strategy.candidates(4))


def test_the_relaxed_edges_learn_by_the_gradient_of_the_relaxation() -> None:
    """Against autograd through the logistic function of log-odds plus noise, for any losses."""
    strategy = GumbelSoftmax(toy.pricing(), LOOSE, warm_up=0.0)
    proposals = strategy.ask(3)
    order = list(proposals[0].gates)
    weight = torch.linspace(-1, 2, len(order))
    noise = [torch.stack([each.gates[name].detach() for name in order]).logit() * 5.0 - 0.5 for each in proposals]
    log_odds = torch.full((len(order),), 0.5, requires_grad=True)
    expected = sum((((log_odds + each) / 5.0).sigmoid() * weight).pow(2).sum() for each in noise)
    assert isinstance(expected, torch.Tensor)
    expected.backward()
    for each in proposals:
        (torch.stack([each.gates[name] for name in order]) * weight).pow(2).sum().backward()
    assert log_odds.grad is not None
    found = dict(zip(strategy.probabilities, strategy._gradient_of_loss(proposals, [0.0] * 3), strict=True))
    torch.testing.assert_close(torch.stack([found.pop(name) for name in order]), log_odds.grad, rtol=1e-4, atol=1e-5)
    assert found == {"late": 0}, "the only edge that leaves a node is no choice"


def test_relaxed_edges_harden() -> None:
    strategy = GumbelSoftmax(toy.pricing(), LOOSE)

    def open_share(done: float) -> float:
        strategy.tell([], [], done)
        gates = [float(gate.detach()) for each in strategy.ask(64) for gate in each.gates.values()]
        return sum(0.05 < gate < 0.95 for gate in gates) / len(gates)

    assert open_share(0.4) > 0.9 and open_share(1.0) < 0.2


class Deaf(nn.Module):
    """An operation that gives nothing but noise."""

    def __init__(self, operation: nn.Module) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        given: torch.Tensor = self.operation(value)
        return 3 * torch.randn_like(given)


def batches(epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(epoch)
    labels = torch.randint(0, 3, (4, 64), generator=generator)
    features = 0.3 * torch.randn(4, 64, 1, 2, 8, generator=generator)
    features[:, :, :, 0] += 2.0 * (labels == 1)[..., None, None]
    features[:, :, :, 1] += 2.0 * (labels == 2)[..., None, None]
    return list(zip(features, labels, strict=True))


@pytest.mark.parametrize("kind", [GumbelSoftmax, MagnitudePruning])
def test_an_edge_of_noise_is_the_first_to_go(kind: type[GumbelSoftmax] | type[MagnitudePruning]) -> None:
    network = toy.network()
    network.operations["mix"] = Deaf(network.operations["mix"])
    strategy = kind(toy.pricing(), LOOSE)
    train(
        network,
        batches,
        4,
        Plan(epochs=60, learning_rate=1e-2),
        lambda logits, labels: nn.functional.cross_entropy(logits[:, -1], labels),
        title="toy",
        strategy=strategy,
    )
    relaxed = isinstance(strategy, GumbelSoftmax)
    worth = strategy.probabilities if relaxed else strategy.state_dict()["factors"]
    useful = [value for name, value in worth.items() if name in ("late", "pass")]
    assert abs(worth["mix"]) < min(map(abs, useful)), worth
    limit = toy.FULL_P95_MS - 2 * 0.25  # what `mix` costs
    strategy.limit = limit
    assert "mix" not in strategy.candidates(1)[0]


def test_pruning_trains_the_whole_network_in_one_group() -> None:
    proposals = MagnitudePruning(toy.pricing(), LOOSE).ask(4)
    assert [proposal.architecture for proposal in proposals] == [toy.GRAPH.full]


def test_what_pruning_learns_becomes_a_part_of_the_weights() -> None:
    """The network without factors is then the one that was trained with them; what joins and adds has none."""
    torch.manual_seed(0)
    network = resnet_fabric.fabric(2, 10, width=4).eval()
    randomise(network)
    price = table_price(network.graph, random_costs(network.graph, 1))
    strategy = MagnitudePruning(price, 2 * price(network.graph.full))
    strategy.attach(dict(network.operations.items()))
    for place, factor in enumerate(strategy._factors.values()):
        factor.data.fill_(0.2 + 0.1 * (place % 7))
    (proposal,) = strategy.ask(1)
    weightless = {name for name, module in network.operations.items() if not list(module.parameters())}
    assert proposal.gates.keys() == network.graph.live(network.graph.full) - weightless and "relu0-0" in weightless
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        plain = network.from_features(images)
        weighed = network.from_features(images, proposal.architecture, gates=proposal.gates)
        strategy.settle()
        torch.testing.assert_close(network.from_features(images), weighed, rtol=1e-4, atol=1e-4)
    assert (plain - weighed).abs().max() > 0.01


def test_where_a_factor_has_no_layer_to_go_into_edges_of_all_kinds_have_one() -> None:
    network = toy.network()
    network.operations["mix"] = Deaf(network.operations["mix"])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    strategy = MagnitudePruning(toy.pricing(), LOOSE)
    strategy.attach(dict(network.operations.items()))
    assert strategy.ask(1)[0].gates.keys() == toy.GRAPH.full
    strategy.tell(strategy.ask(1), [1.0], 0.5)
    strategy.settle()
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_pruning_without_a_loss_draws_all_factors_to_nothing() -> None:
    strategy = MagnitudePruning(toy.pricing(), LOOSE)
    for step in range(150):
        strategy.tell(strategy.ask(1), [1.0], step / 150)
    assert all(abs(value) < 0.1 for value in strategy.state_dict()["factors"].values())


def test_networks_are_thinned_and_filled_by_worth() -> None:
    price = toy.pricing()
    worth = {name: float(rank) for rank, name in enumerate(sorted(toy.GRAPH.full))}
    without_mix = thinned(price, price(toy.GRAPH.full) - 1e-6, toy.GRAPH.full, {**worth, "mix": -1.0})
    assert without_mix == toy.GRAPH.full - {"mix"}
    assert thinned(price, 0.01, toy.GRAPH.full, worth) == frozenset()
    assert filled(price, math.inf, toy.CHEAPEST, worth) == toy.GRAPH.full
    assert filled(price, price(toy.CHEAPEST), toy.CHEAPEST, worth) == toy.CHEAPEST


@pytest.mark.parametrize("kind", [RegularisedEvolution, MagnitudePruning])
def test_a_cost_that_fails_is_named(kind: type[RegularisedEvolution] | type[MagnitudePruning]) -> None:
    def cost(live: Architecture) -> float:
        raise ZeroDivisionError("no workers")

    with pytest.raises(MilliwiseError, match="no workers"):
        kind(Price(toy.GRAPH, "rent", cost), 1.0)


@pytest.mark.parametrize(("limit", "expected"), [(1.25, toy.BY_HAND), (1.23, toy.CHEAPEST)])
def test_by_hand_is_the_dearest_known_network_that_fits(limit: float, expected: Architecture) -> None:
    strategy = HandMade(toy.pricing(), limit)
    assert [proposal.architecture for proposal in strategy.ask(4)] == [expected]
    assert strategy.candidates(3) == [expected]


def test_a_space_of_which_nobody_made_networks_is_refused() -> None:
    price = toy.pricing()
    unknown = Price(Graph(toy.EDGES, "mel", "out"), price.metric, price.cost)
    with pytest.raises(MilliwiseError, match="by hand"):
        HandMade(unknown, 1.0)


def test_the_resnets_of_a_fabric_are_known_by_name() -> None:
    known = resnet_fabric.fabric(3, 10).graph.made_by_hand
    assert {name: kept == resnet_fabric.resnet(int(name.split("-")[1]), 3) for name, kept in known.items()} == {
        "ResNet-8": True,
        "ResNet-14": True,
        "ResNet-20": True,
    }
