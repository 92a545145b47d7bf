"""Drawing architectures: whole networks if that is asked for, as often as their probability says, and its gradient."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
import torch
import toy
from hypothesis import given
from hypothesis import strategies as st

from toolkit.graph import Edge, Graph
from toolkit.strategies.base import Proposal
from toolkit.strategies.sampling import EdgeSampler

LOG_ODDS = torch.tensor([0.3, -1.2, 2.0, -0.4, 0.0, 1.1, -2.5, 0.7, -0.9])


def every_proposal(sampler: EdgeSampler) -> list[Proposal]:
    """All that can be drawn: what is decided follows from what is kept."""
    found = {}
    for choice in product((False, True), repeat=len(sampler.edges)):
        reached, decisions = {sampler.graph.source}, []
        left: Counter[str] = Counter()
        for edge, keep in zip(sampler.edges, choice, strict=True):
            if edge.source in reached:
                decisions.append((edge.name, keep))
                left[edge.source] += keep
                if keep:
                    reached.add(edge.target)
        if any(not keep and name not in sampler.choices for name, keep in decisions):
            continue
        if sampler.connected and not all(left[node] for node in reached - {sampler.graph.sink}):
            continue
        kept = sampler.graph.live(name for name, keep in decisions if keep)
        found[tuple(decisions)] = Proposal(kept, tuple(decisions))
    return list(found.values())


@pytest.mark.parametrize("connected", [False, True])
def test_the_probabilities_of_all_that_can_be_drawn_add_up_to_one(connected: bool) -> None:
    sampler = EdgeSampler(toy.GRAPH, connected)
    every = sampler.decisions(every_proposal(sampler))
    assert sampler.log_probabilities(LOG_ODDS, every).exp().sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("connected", [False, True])
def test_it_draws_as_often_as_it_says(connected: bool) -> None:
    sampler = EdgeSampler(toy.GRAPH, connected)
    proposals = every_proposal(sampler)
    likely = sampler.log_probabilities(LOG_ODDS, sampler.decisions(proposals)).exp()
    count = 20_000
    drawn = Counter(sampler.proposals(sampler.draw(LOG_ODDS, count, torch.Generator().manual_seed(1))))
    assert set(drawn) <= set(proposals)
    for proposal, probability in zip(proposals, likely.tolist(), strict=True):
        assert drawn[proposal] / count == pytest.approx(probability, abs=0.015)


@pytest.mark.parametrize("connected", [False, True])
def test_the_score_is_the_gradient_of_the_log_probability(connected: bool) -> None:
    sampler = EdgeSampler(toy.GRAPH, connected)
    every = sampler.decisions(every_proposal(sampler))
    odds = LOG_ODDS.clone().requires_grad_()
    for row, one in enumerate(sampler.log_probabilities(odds, every)):
        (expected,) = torch.autograd.grad(one, odds, retain_graph=True)
        torch.testing.assert_close(sampler.scores(LOG_ODDS, every)[row], expected, atol=1e-5, rtol=1e-4)


@given(toy.graphs(), st.integers(0, 100), st.sampled_from([-30.0, -3.0, 0.0, 3.0, 30.0]))
def test_what_is_connected_is_a_whole_network_without_dead_ends(graph: Graph, seed: int, odds: float) -> None:
    sampler, generator = EdgeSampler(graph, True), torch.Generator().manual_seed(seed)
    log_odds = odds + torch.randn(len(sampler.edges), generator=generator)
    draws = sampler.draw(log_odds, 8, generator)
    for kept in sampler.architectures(draws):
        assert kept and graph.live(kept) == kept
    assert sampler.log_probabilities(log_odds, draws).isfinite().all()
    assert sampler.scores(log_odds, draws).isfinite().all()
    likely = sampler.likely(log_odds)
    assert likely and graph.live(likely) == likely


@given(toy.graphs(), st.integers(0, 100))
def test_what_is_not_sampled_teaches_nothing(graph: Graph, seed: int) -> None:
    sampler = EdgeSampler(graph, False)
    log_odds = torch.randn(len(sampler.edges), generator=torch.Generator().manual_seed(seed))
    draws = sampler.decisions([Proposal(graph.live(graph.full))])
    assert not sampler.scores(log_odds, draws).any() and not sampler.log_probabilities(log_odds, draws).any()


def test_an_edge_that_leads_nowhere_is_never_decided() -> None:
    graph = Graph((Edge("way", "in", "out"), Edge("other", "in", "out"), Edge("dead", "in", "end")), "in", "out")
    sampler = EdgeSampler(graph, True)
    assert {edge.name for edge in sampler.edges} == {"way", "other"}


def test_entropy_is_of_what_can_be_decided() -> None:
    graph = Graph((Edge("way", "in", "mid"), Edge("other", "in", "mid"), Edge("last", "mid", "out")), "in", "out")
    sampler = EdgeSampler(graph, True)
    order = [edge.name for edge in sampler.edges]
    even = torch.zeros(3)
    # Of three equally likely ways to keep any of two, each edge is in two; the last edge has no choice.
    bits = -(2 / 3) * torch.tensor(2 / 3).log2().item() - (1 / 3) * torch.tensor(1 / 3).log2().item()
    assert sampler.entropy_bits(even) == pytest.approx(bits)
    sure = torch.tensor([{"way": 20.0, "other": -20.0, "last": -5.0}[name] for name in order])
    assert sampler.entropy_bits(sure) == pytest.approx(0, abs=1e-6)
    assert sampler.likely(sure) == {"way", "last"}
    assert EdgeSampler(graph, False).likely(torch.full((3,), -5.0)) == frozenset()


@pytest.mark.parametrize("connected", [False, True])
def test_the_only_edge_that_leaves_a_node_is_no_choice(connected: bool) -> None:
    graph = Graph((Edge("way", "in", "mid"), Edge("other", "in", "mid"), Edge("last", "mid", "out")), "in", "out")
    sampler, odds = EdgeSampler(graph, connected), torch.full((3,), -4.0)
    assert set(sampler.choices) == {"way", "other"}
    chances = dict(zip((edge.name for edge in sampler.edges), sampler.expected(odds).tolist(), strict=True))
    alone = torch.tensor(-4.0).sigmoid().item()
    some = 1 - (1 - alone) ** 2
    assert chances == pytest.approx(
        {"way": alone, "other": alone, "last": 1.0}
        if not connected
        else {"way": alone / some, "other": alone / some, "last": 1.0}
    )
    draws = sampler.draw(odds, 2000, torch.Generator().manual_seed(0))
    last = sampler.place["last"]
    assert torch.equal(draws.kept[:, last], draws.decided[:, last])
    assert not sampler.scores(odds, draws)[:, last].any()


@given(toy.graphs(), st.integers(0, 100))
def test_what_had_to_be_decided_follows_from_the_network(graph: Graph, seed: int) -> None:
    sampler, generator = EdgeSampler(graph, True), torch.Generator().manual_seed(seed)
    draws = sampler.draw(torch.randn(len(sampler.edges), generator=generator), 8, generator)
    again = sampler.decided(sampler.architectures(draws))
    assert torch.equal(again.kept, draws.kept) and torch.equal(again.decided, draws.decided)
