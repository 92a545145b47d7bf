"""Prices: the hand-worked toy, brute force over every architecture, dead edges, infeasible budgets."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import toy
from hypothesis import given
from hypothesis import strategies as st

from toolkit.budget import Budget
from toolkit.costs import Price, planned_memory, price, random_architecture, random_path
from toolkit.errors import BudgetTooSmall, MilliwiseError, ProfileMismatch, UnpricedEdge
from toolkit.graph import Architecture, Edge, Graph
from toolkit.memory import Planned
from toolkit.profile import Line

BUDGETS = ["2 ms", "2 ms p50", "2 ms p99", "9 kB", "1 MFLOPs", "9 kparams", "8 steps", "8 steps@2"]


@pytest.mark.parametrize(
    ("budget", "cheapest", "full"),
    [
        ("2 ms", toy.CHEAPEST_P95_MS, toy.FULL_P95_MS),
        ("2 ms p50", 0.37, 1.77),
        ("2 ms p99", 1.11, 5.31),
        # bytes: weights + states + the most activations at a time (worked out in test_memory.py)
        ("9 kB", 160 + 8 + 64, 4 * 174 + 88 + 192),
        ("1 MFLOPs", 72, 544),  # 144 + 16 + 72 + 176 + 52 + 52 + 32
        ("9 kparams", 40, 174),  # 20 + 4 + 40 + 26 + 32 + 32 + 20
        ("8 steps", 1, 7),  # skip and pass are free
        ("8 steps@3", 1, 3),
    ],
)
def test_prices_by_hand(budget: str, cheapest: float, full: float) -> None:
    asked = toy.pricing(budget)
    assert asked(toy.CHEAPEST) == pytest.approx(cheapest)
    assert asked(toy.GRAPH.full) == pytest.approx(full)


def test_every_architecture_is_billed_for_its_live_edges_alone() -> None:
    asked, counted = toy.pricing("2 ms p50"), toy.pricing("1 MFLOPs")
    for kept in toy.architectures():
        live = {name for path in toy.paths(toy.GRAPH, kept) for name in path}
        if live:
            assert asked(kept) == pytest.approx(0.1 + toy.tight_ms(live))
            assert counted(kept) == sum(toy.MULTIPLY_ADDS[name] for name in live)
        else:
            with pytest.raises(MilliwiseError, match="do not join"):
                asked(kept)


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_dead_edge_is_free(budget: str) -> None:
    asked = toy.pricing(budget)
    for kept in toy.architectures():
        live = toy.GRAPH.live(kept)
        if live and live != kept:
            assert asked(kept) == asked(live)


@given(toy.kept_edges(), st.data())
def test_a_dead_edge_changes_no_cost_on_any_graph(drawn: tuple[Graph, Architecture], data: st.DataObject) -> None:
    graph, kept = drawn
    costs = {name: data.draw(st.integers(1, 9)) for name in sorted(graph.full)}
    asked = Price(graph, "multiply_adds", lambda live: float(sum(costs[name] for name in live)))
    live = graph.live(kept)
    dead = [name for name in graph.full - kept if graph.live(kept | {name}) == live]
    for name in dead if live else ():
        assert asked(kept | {name}) == asked(kept)


@pytest.mark.parametrize("budget", BUDGETS)
def test_the_cheapest_is_the_cheapest_of_all(budget: str) -> None:
    asked = toy.pricing(budget)
    least = min(asked(kept) for kept in toy.architectures() if toy.GRAPH.live(kept))
    assert asked(asked.cheapest()) == pytest.approx(least)


@given(toy.graphs(), st.data())
def test_the_cheapest_path_of_any_graph(graph: Graph, data: st.DataObject) -> None:
    costs = {name: data.draw(st.integers(0, 9)) for name in sorted(graph.full)}
    asked = Price(graph, "multiply_adds", lambda live: float(sum(costs[name] for name in live)))
    least = min(sum(costs[name] for name in path) for path in toy.paths(graph, graph.full))
    cheapest = asked.cheapest()
    assert tuple(sorted(cheapest)) in {tuple(sorted(path)) for path in toy.paths(graph, graph.full)}
    assert asked(cheapest) == least


def test_latency_is_billed_at_the_bound_the_check_will_hold_against_the_budget() -> None:
    profile = toy.profile()
    lines = {**profile.latency.paced, "p95_upper": Line(0.5, 2.0)}
    profile = replace(profile, latency=replace(profile.latency, paced=lines))
    assert price(toy.GRAPH, profile, Budget.parse("2 ms"))(toy.CHEAPEST) == pytest.approx(0.5 + 2 * 0.27)


def test_an_edge_that_leads_nowhere_needs_no_cost() -> None:
    graph = Graph((*toy.EDGES, Edge("nowhere", "fine", "end"), Edge("from nowhere", "start", "out")), "mel", "out")
    profile = replace(toy.profile(), digest=graph.digest())
    for budget in ("2 ms p50", "1 MFLOPs", "9 kB"):
        assert price(graph, profile, Budget.parse(budget))(graph.full) == toy.pricing(budget)(toy.GRAPH.full)
    failed = {**profile.edges, "mix": replace(profile.edges["mix"], latency_ms=None, failed="no kernel")}
    with pytest.raises(UnpricedEdge, match=r"mix could not be measured \(no kernel\), so networks with it"):
        price(graph, replace(profile, edges=failed), Budget.parse("2 ms"))


def test_an_impossible_budget_names_the_cheapest_cost() -> None:
    asked = toy.pricing("0.73 ms")
    with pytest.raises(BudgetTooSmall, match=r"0\.73 ms: the cheapest costs 0\.74 ms"):
        asked.require_feasible(Budget.parse("0.73 ms"))
    assert asked.require_feasible(Budget.parse("0.75 ms")) == toy.CHEAPEST
    with pytest.raises(BudgetTooSmall, match="232 B"):
        toy.pricing("1 kB").require_feasible(Budget.parse("231 B"))


def test_the_spread_of_a_space() -> None:
    least, middle, most = toy.pricing().spread_of_space()
    assert least == pytest.approx(toy.CHEAPEST_P95_MS) and most == pytest.approx(toy.FULL_P95_MS)
    assert least < middle < most
    assert toy.pricing().spread_of_space(seed=0) == toy.pricing().spread_of_space(seed=0)


@given(toy.graphs(), st.integers(0, 99), st.floats(0, 1))
def test_random_architectures_are_live_and_never_empty(graph: Graph, seed: int, keep: float) -> None:
    drawn = random_architecture(graph, random.Random(seed), keep)
    assert drawn and graph.live(drawn) == drawn
    assert drawn == random_architecture(graph, random.Random(seed), keep)
    path = random_path(graph, random.Random(seed))
    assert path in {frozenset(one) for one in toy.paths(graph, graph.full)}


def test_every_architecture_can_be_drawn() -> None:
    chance = random.Random(0)
    drawn = {random_architecture(toy.GRAPH, chance, chance.random()) for _ in range(6000)}
    assert drawn == {toy.GRAPH.live(kept) for kept in toy.architectures()} - {frozenset()}


def test_an_edge_without_a_row_is_named() -> None:
    rows = {name: row for name, row in toy.profile().edges.items() if name != "mix"}
    with pytest.raises(UnpricedEdge, match="mix"):
        price(toy.GRAPH, toy.profile(edges=rows), Budget.parse("2 ms"))


def test_what_could_not_be_counted_is_not_zero() -> None:
    rows = toy.profile().edges
    profile = toy.profile(edges={**rows, "mix": replace(rows["mix"], uncounted=("aten::tanh",))})
    with pytest.raises(UnpricedEdge, match=r"mix uses aten::tanh"):
        price(toy.GRAPH, profile, Budget.parse("1 MFLOPs"))
    assert math.isfinite(price(toy.GRAPH, profile, Budget.parse("2 ms"))(toy.CHEAPEST))
    head = replace(toy.NOTHING, uncounted=("aten::gru",))
    with pytest.raises(UnpricedEdge, match=r"head uses aten::gru"):
        price(toy.GRAPH, toy.profile(fixed={"stem": toy.STEM, "head": head}), Budget.parse("1 MFLOPs"))


def test_memory_has_the_weights_of_every_edge_and_what_stem_and_head_take() -> None:
    rows = toy.profile().edges
    twin = replace(rows["late"], same_as="early")  # the same work, but weights of its own
    fixed = {
        "stem": replace(toy.STEM, weight_bytes=1000, state_bytes=300),
        "head": replace(toy.NOTHING, weight_bytes=50, state_bytes=20, activation_bytes=12),
    }
    profile = toy.profile(edges={**rows, "late": twin}, fixed=fixed)
    planned = planned_memory(toy.GRAPH, profile, toy.GRAPH.full)
    assert planned == Planned(4 * 174 + 1050, 1000, 88 + 320, 192 + 12)
    assert planned.total_bytes == 4 * 174 + 1050 + 88 + 320 + 204
    assert price(toy.GRAPH, profile, Budget.parse("9 kB"))(toy.GRAPH.full) == planned.total_bytes


def test_the_profile_of_another_graph_is_refused() -> None:
    other = Graph(toy.EDGES[:-1], "mel", "out")
    with pytest.raises(ProfileMismatch, match="graph"):
        price(other, toy.profile(), Budget.parse("2 ms"))
