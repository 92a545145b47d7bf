"""Prices: the hand-worked toy, brute force over every architecture, dead edges, infeasible budgets."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
import toy
from hypothesis import given
from hypothesis import strategies as st

from toolkit.budget import Budget
from toolkit.costs import Price, planned_memory, price, random_architecture, random_path
from toolkit.errors import BudgetTooSmall, MilliwiseError, ProfileMismatch, UnpricedEdge
from toolkit.graph import Architecture, Edge, Graph
from toolkit.makespan import HEAD, OperationCost, ParallelModel
from toolkit.memory import Planned
from toolkit.profile import DeviceProfile, Line

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


# --- makespans, and dead ends that are billed


def shared(**changes: Any) -> DeviceProfile:
    """The toy profile with a parallel model: edges that take as long beside others; only then a worker is woken."""
    costs = {name: OperationCost(ms, ms, 0.0, passes=ms == 0) for name, ms in toy.LATENCY_MS.items()}
    parallel = ParallelModel(2, 0.02, 0.0, {**costs, HEAD: OperationCost(0.05, 0.05, 0.0)})
    return toy.profile(**{"parallel": parallel, **changes})


def test_a_makespan_by_hand() -> None:
    def cost(budget: str, live: Architecture) -> float:
        return price(toy.GRAPH, shared(), Budget.parse(budget))(live)

    # One worker: everything in a row. Two: conv1, early 0.25 beside entry 0.20, whose value is there before it is
    # awaited; then mix and the head. The front-end before that is 0.02.
    branches = frozenset({"conv1", "early", "entry", "mix"})
    assert cost("5 ms@1", branches) == pytest.approx(0.02 + 0.10 + 0.15 + 0.20 + 0.25 + 0.05)
    assert cost("5 ms@2", branches) == pytest.approx(0.02 + 0.25 + 0.25 + 0.05)
    assert cost("5 ms@2", toy.CHEAPEST) == pytest.approx(0.02 + 0.20 + 0.05)
    assert cost("5 ms@2", branches | {"conv3"}) > cost("5 ms@2", branches)


@given(st.sampled_from(toy.architectures()))
def test_a_makespan_is_of_live_edges_and_more_workers_never_promise_more(kept: Architecture) -> None:
    one, two = (price(toy.GRAPH, shared(), Budget.parse(f"5 ms@{workers}")) for workers in (1, 2))
    live = toy.GRAPH.live(kept)
    if live:
        assert two(kept) == two(live) <= one(live) + 1e-9


@pytest.mark.parametrize(
    ("changes", "budget", "reason"),
    [
        ({"parallel": None}, "5 ms@2", r"no makespan .*: run milliwise profile toy --workers 2 again"),
        ({"parallel": None}, "5 ms@1", r"--workers 2 again"),
        ({"parallel": None, "measured": {"no_parallel": "no threads"}}, "5 ms@2", r"\(no threads\)"),
        ({}, "5 ms@3", r"on 2 workers, not on 3: run milliwise profile toy --workers 3 again"),
    ],
)
def test_a_makespan_that_was_not_measured_is_not_zero(changes: dict[str, Any], budget: str, reason: str) -> None:
    with pytest.raises(UnpricedEdge, match=reason) as error:
        price(toy.GRAPH, shared(**changes), Budget.parse(budget))
    assert "\n" not in str(error.value)


def test_an_edge_that_no_worker_was_seen_to_run_is_named() -> None:
    parallel = shared().parallel
    assert parallel is not None
    costs = {name: cost for name, cost in parallel.costs.items() if name != "mix"}
    with pytest.raises(UnpricedEdge, match=r"edge mix was not measured on several workers: run milliwise profile"):
        price(toy.GRAPH, shared(parallel=replace(parallel, costs=costs)), Budget.parse("5 ms@2"))
    with pytest.raises(MilliwiseError, match="no bound"):
        price(toy.GRAPH, shared(), Budget.parse("5 ms@2"), bound=True)


def test_sampled_edges_are_billed_where_they_lead_nowhere() -> None:
    asked = toy.pricing("1 MFLOPs")
    for kept in toy.architectures():
        assert asked.sampled(kept) == sum(toy.MULTIPLY_ADDS[name] for name in kept)
        if live := toy.GRAPH.live(kept):
            assert asked.sampled(kept) >= asked(kept) == asked.sampled(live)


def test_any_callable_is_given_the_sampled_edges_as_they_are() -> None:
    assert Price(toy.GRAPH, "edges", lambda kept: float(len(kept))).sampled({"mix", "conv1"}) == 2
    graph = Graph((*toy.EDGES, Edge("nowhere", "fine", "end")), "mel", "out")
    of_counts = price(graph, replace(toy.profile(), digest=graph.digest()), Budget.parse("1 MFLOPs"))
    assert of_counts.sampled({"nowhere", "mix"}) == toy.MULTIPLY_ADDS["mix"], "an edge in no network needs no cost"
    with pytest.raises(MilliwiseError, match="no edge 'other'"):
        of_counts.sampled({"other"})
    with pytest.raises(MilliwiseError, match="number of 0 or more"):
        Price(toy.GRAPH, "edges", lambda kept: -1.0).sampled({"mix"})


@pytest.mark.parametrize("budget", ["2 ms", "9 kB", "8 steps", "8 steps@2", "5 ms@2"])
def test_dead_ends_have_no_share_in_what_is_of_whole_networks(budget: str) -> None:
    asked = price(toy.GRAPH, shared(), Budget.parse(budget))
    with pytest.raises(MilliwiseError, match="edges that lead nowhere have no share in") as error:
        asked.sampled(toy.CHEAPEST)
    assert "\n" not in str(error.value)
