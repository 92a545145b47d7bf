"""One contract for every search strategy, and what Budgeted Super Networks promises besides."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from statistics import fmean

import pytest
import toy

from toolkit.costs import Price
from toolkit.errors import BudgetTooSmall, MilliwiseError
from toolkit.graph import Architecture
from toolkit.infrastructure import random_costs, table_price
from toolkit.spaces.neural_fabric import fabric
from toolkit.strategies import STRATEGIES, Proposal, Strategy, find_strategy
from toolkit.strategies.bsn import BudgetedSuperNetwork
from toolkit.strategies.bsn_greedy import GreedyBudgetedSuperNetwork
from toolkit.strategies.bsn_published import PublishedBudgetedSuperNetwork

PROBABLE = 1 / (1 + math.exp(-3))
TIGHT = toy.CHEAPEST_P95_MS + 0.15
LOOSE = 2 * toy.FULL_P95_MS


def constant(_architecture: Architecture) -> float:
    return 1.0


SAMPLED = "bsn-published-sampled"  # takes no cost that is of whole networks, such as milliseconds


def drive(
    strategy: Strategy, rounds: range, total: int, loss: Callable[[Architecture], float] = constant
) -> list[list[Proposal]]:
    """Ask and tell as a training loop does; all that was proposed."""
    asked = []
    for index in rounds:
        proposals = strategy.ask(4)
        strategy.tell(proposals, [loss(proposal.architecture) for proposal in proposals], (index + 1) / total)
        asked.append(proposals)
    return asked


@pytest.mark.parametrize("name", sorted(STRATEGIES.keys() - {SAMPLED}))
class TestContract:
    """What the training loop and the search rely on, whatever the strategy."""

    def make(self, name: str, limit: float = TIGHT, seed: int = 0) -> Strategy:
        return STRATEGIES[name](toy.pricing(), limit, seed)

    def test_the_same_seed_gives_the_same_search(self, name: str) -> None:
        first, second, other = self.make(name), self.make(name), self.make(name, seed=1)
        asked = drive(first, range(12), 12)
        assert asked == drive(second, range(12), 12)
        assert first.candidates(4) == second.candidates(4)
        if name not in ("magnitude-pruning", "hand-made"):  # where nothing is left to chance but the weights
            assert asked != drive(other, range(12), 12)

    def test_what_it_proposes_is_live_and_as_many_as_asked(self, name: str) -> None:
        strategy = self.make(name)
        for proposals in drive(strategy, range(30), 30):
            assert len(proposals) == 4 or (len(proposals) == 1 and not strategy.of_examples)
            for proposal in proposals:
                assert proposal.architecture or strategy.of_examples
                assert toy.GRAPH.live(proposal.architecture) == proposal.architecture
        assert [len(strategy.ask(count)) for count in (1, 7)] in ([1, 7], [1, 1])

    @pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
    def test_a_loss_that_is_no_number_is_refused_and_changes_nothing(self, name: str, loss: float) -> None:
        strategy = self.make(name)
        drive(strategy, range(8), 10)
        proposals = strategy.ask(2)
        before = json.dumps(strategy.state_dict())
        with pytest.raises(MilliwiseError, match="diverged"):
            strategy.tell(proposals, [1.0, loss], 0.9)
        assert json.dumps(strategy.state_dict()) == before

    def test_a_cost_that_is_no_number_is_refused(self, name: str) -> None:
        broken = Price(toy.GRAPH, "latency_ms", lambda live: math.nan)
        with pytest.raises(MilliwiseError):
            STRATEGIES[name](broken, 1.0).candidates(1)

    @pytest.mark.parametrize("limit", [toy.CHEAPEST_P95_MS + 1e-9, TIGHT, 2.0, LOOSE])
    def test_its_best_are_live_different_and_within_the_limit(self, name: str, limit: float) -> None:
        strategy, price = self.make(name, limit), toy.pricing()
        for rounds in (range(0), range(10), range(10, 20)):
            drive(strategy, rounds, 20)
            best = strategy.candidates(5)
            assert 1 <= len(best) <= 5 and len(set(best)) == len(best)
            assert all(toy.GRAPH.live(kept) == kept and price(kept) <= limit for kept in best)
        assert len(strategy.candidates(1)) == 1

    def test_a_limit_below_the_cheapest_is_refused_with_its_cost(self, name: str) -> None:
        with pytest.raises(BudgetTooSmall, match=r"cheapest costs 0\.74"):
            self.make(name, 0.73).candidates(1)

    @pytest.mark.parametrize("limit", [0.0, -1.0, math.nan, math.inf])
    def test_a_limit_that_is_none_is_refused(self, name: str, limit: float) -> None:
        with pytest.raises(MilliwiseError):
            self.make(name, limit)

    @pytest.mark.parametrize("before", [0, 3, 9])
    def test_a_saved_search_continues_as_if_it_had_not_stopped(self, name: str, before: int) -> None:
        whole, stopped = self.make(name), self.make(name)
        drive(whole, range(before), 15)
        drive(stopped, range(before), 15)
        resumed = self.make(name, seed=5)
        resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict(), allow_nan=False)))
        assert drive(resumed, range(before, 15), 15) == drive(whole, range(before, 15), 15)
        assert resumed.candidates(4) == whole.candidates(4)

    def test_it_is_found_by_name(self, name: str) -> None:
        assert find_strategy(name) is STRATEGIES[name]
        with pytest.raises(MilliwiseError, match=name):
            find_strategy("guess")


def searched(
    limit: float,
    loss: Callable[[Architecture], float] = constant,
    rounds: int = 150,
    penalty: float | None = None,
    initial: float | None = None,
) -> BudgetedSuperNetwork:
    strategy = BudgetedSuperNetwork(toy.pricing(), limit, seed=3, penalty=penalty, initial=initial)
    drive(strategy, range(rounds), rounds, loss)
    return strategy


def samples(strategy: BudgetedSuperNetwork, count: int = 64) -> Sequence[Proposal]:
    return strategy.ask(count)


def test_bsn_learns_to_keep_a_tight_limit() -> None:
    strategy = searched(TIGHT, rounds=400)
    assert strategy.likely, "it is cheapest to keep nothing, but that is no network"
    assert toy.pricing()(strategy.likely) <= TIGHT
    before = fmean(
        toy.pricing()(one.architecture)
        for one in samples(BudgetedSuperNetwork(toy.pricing(), TIGHT, warm_up=0.0, initial=0.5))
    )
    after = fmean(toy.pricing()(one.architecture) for one in samples(strategy))
    assert before > 1.2 * TIGHT and after < 1.05 * TIGHT


@pytest.mark.parametrize("limit", [TIGHT, 1.5, 2.5])
def test_bsn_begins_with_networks_that_cost_the_limit_on_average(limit: float) -> None:
    """In the warm-up, too; what its proposals cost is what its training takes."""
    price = toy.pricing()
    for warm_up in (0.0, 0.3):
        strategy = BudgetedSuperNetwork(price, limit, warm_up=warm_up)
        mean = fmean(price(one.architecture) for one in samples(strategy, 400))
        assert mean == pytest.approx(limit, rel=0.06) or (mean > limit and limit == TIGHT), (warm_up, mean)


def test_bsn_decides_an_edge_only_where_its_source_is_reached() -> None:
    strategy = searched(LOOSE, rounds=5)
    for proposal in samples(strategy):
        reached, decided = {"mel"}, dict(proposal.decisions)
        for edge in toy.GRAPH.ordered:
            assert (edge.name in decided) == (edge.source in reached)
            if decided.get(edge.name):
                reached.add(edge.target)
        assert proposal.architecture == toy.GRAPH.live(name for name, keep in decided.items() if keep)


def test_bsn_never_decides_beyond_a_node_that_is_never_reached() -> None:
    strategy = searched(LOOSE, rounds=5)
    state = strategy.state_dict()
    order = list(strategy.probabilities)
    for name in ("conv3", "conv1"):
        state["logits"][order.index(name)] = -1e9
    strategy.load_state_dict(state)
    decided = {name for proposal in samples(strategy) for name, _keep in proposal.decisions}
    assert decided == {"conv3", "conv1", "entry", "pass", "mix"}


@pytest.mark.parametrize("useful", ["mix", "separable"])
def test_bsn_keeps_an_edge_that_lowers_the_loss(useful: str) -> None:
    strategy = searched(LOOSE, lambda kept: 0.0 if useful in kept else 1.0, rounds=200)
    assert strategy.probabilities[useful] > 0.85  # from 0.62
    assert useful in strategy.candidates(1)[0]


def test_bsn_weighs_loss_against_cost() -> None:
    """An edge that is worth it and one that is not, under a limit with room for one of them."""
    limit = toy.CHEAPEST_P95_MS + 2 * toy.LATENCY_MS["mix"] + 0.1  # p95 = 0.2 + 2 × tight
    strategy = searched(limit, lambda kept: 0.0 if "mix" in kept else 1.0, rounds=250)
    assert "mix" in strategy.likely and toy.pricing()(strategy.likely) <= limit


def test_bsn_respects_a_fixed_penalty_and_finds_one_otherwise() -> None:
    assert searched(TIGHT, rounds=20, penalty=3.0).penalty == 3.0
    assert searched(TIGHT, rounds=20, initial=0.5).penalty > 1.0, "too dear at first: the penalty grows"
    assert searched(LOOSE, rounds=20).penalty < 1.0, "nothing to punish: it falls"


def test_bsn_without_a_penalty_ignores_the_cost() -> None:
    price = toy.pricing()
    free = fmean(price(one.architecture) for one in samples(searched(TIGHT, rounds=100, penalty=0.0)))
    dear = fmean(price(one.architecture) for one in samples(searched(TIGHT, rounds=100, penalty=10.0)))
    assert free > 1.3 * TIGHT > dear


def test_connected_networks_are_trained_even_when_hardly_any_sample_is() -> None:
    strategy = GreedyBudgetedSuperNetwork(toy.pricing(), LOOSE)
    drive(strategy, range(5), 5)
    state = strategy.state_dict()
    state["logits"] = [-1e9] * len(state["logits"])
    strategy.load_state_dict(state)
    assert {proposal.architecture for proposal in samples(strategy, 8)} == {toy.CHEAPEST}


def test_the_published_one_warms_up_the_whole_network_and_keeps_its_penalty() -> None:
    strategy = PublishedBudgetedSuperNetwork(toy.pricing(), TIGHT, penalty=2.0)
    asked = drive(strategy, range(14), 70)
    assert {proposal.architecture for proposals in asked[:10] for proposal in proposals} == {toy.GRAPH.full}
    assert {odds for odds in strategy.probabilities.values()} != {PROBABLE}, "the penalty lowers what is dear"
    assert PublishedBudgetedSuperNetwork(toy.pricing(), TIGHT).probabilities["mix"] == pytest.approx(PROBABLE)
    assert strategy.penalty == 2.0


def test_the_published_one_bills_dead_ends_where_it_is_told_to() -> None:
    """`early` is a dead end without `pass` or `mix`."""
    costs = dict.fromkeys(toy.GRAPH.full, 1.0)
    price = table_price(toy.GRAPH, costs)
    decisions = (("conv3", True), ("skip", True), ("separable", False), ("early", True), ("late", True))
    dead_end = Proposal(frozenset({"conv3", "skip", "late"}), decisions)
    for sampled, cost in ((False, 3.0), (True, 4.0)):
        strategy = PublishedBudgetedSuperNetwork(price, 3.0, sampled=sampled)
        assert strategy._billed(dead_end) == cost
        assert strategy._billed(Proposal(frozenset(), decisions)) == 9.0, "what joins nothing costs the whole network"


@pytest.mark.parametrize("seed", range(3))
def test_nearly_the_cheapest_path_is_found_where_nothing_but_cost_matters(seed: int) -> None:
    """On fabrics with random costs, which the published search leaves at a greedy choice in two of three cases."""
    graph = fabric(2, 4, 1, 4).graph
    sums = [name for name in graph.full if name.startswith("relu")]
    price = table_price(graph, random_costs(graph, 1000 + seed, sums))
    least = price(price.cheapest())
    strategy = BudgetedSuperNetwork(price, least, seed, warm_up=0.0)
    drive(strategy, range(400), 400)
    assert price(strategy.likely) <= 1.05 * least
    assert strategy.facts()["entropy_bits"] < 0.1


def test_the_sampled_bill_is_of_costs_that_every_edge_has() -> None:
    costs = {edge.name: 0.5 for edge in toy.EDGES}
    strategy = find_strategy(SAMPLED)(table_price(toy.GRAPH, costs), 1.2, 0)
    assert drive(strategy, range(12), 12)
    assert all(strategy.price(kept) <= 1.2 for kept in strategy.candidates(4))
    with pytest.raises(MilliwiseError, match="which is of whole networks"):
        find_strategy(SAMPLED)(toy.pricing(), TIGHT, 0)
