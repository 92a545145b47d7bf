"""What a profile times: edges in context, disjoint networks for fit, bound and judgement, in groups."""

from __future__ import annotations

from functools import cache

import pytest
import toy
from hypothesis import given
from hypothesis import strategies as st

from profilers.latency import sample_networks
from profilers.plan import (
    EMPTY,
    LEAST_CALIBRATING,
    MOST_BYTES,
    MOST_MODELS,
    Effort,
    Networks,
    Plan,
    bound_by_cache,
    groups,
)
from toolkit.errors import MilliwiseError
from toolkit.graph import Architecture, Edge, Graph


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan(toy.network().eval(), toy.FEATURES, 0, Effort(fitted=20, calibrating=19, held_out=10, paced=5))


USUAL = Effort(fitted=60, calibrating=100, held_out=48, paced=12)


@cache
def subsets(edges: int) -> tuple[Graph, list[Architecture]]:
    """A space of 2^edges − 1 networks: any of some edges side by side."""
    graph = Graph(tuple(Edge(f"e{index}", "in", "out") for index in range(edges)), "in", "out")
    return graph, sample_networks(graph, 400, 0)


def require_sound(graph: Graph, sampled: list[Architecture], effort: Effort) -> Networks:
    """What holds for every space and every effort."""
    found = Networks.divided(graph, sampled, effort)
    purposes = [set(found.fitted), set(found.calibrating), set(found.held_out)]
    together = set().union(*purposes)
    assert sum(map(len, purposes)) == len(together) and together <= set(sampled)
    assert 1 <= len(found.fitted) <= effort.fitted
    assert len(found.held_out) <= effort.held_out
    assert not found.calibrating or LEAST_CALIBRATING <= len(found.calibrating) <= effort.calibrating
    assert graph.live(graph.full) in found.paced and set(found.paced) <= {*sampled, graph.live(graph.full)}
    assert len(set(found.paced)) == len(found.paced) <= max(3, effort.paced)
    assert len(found.paced) >= min(2, len(sampled))  # fewer are no line
    return found


@pytest.mark.parametrize(
    ("edges", "sizes"),
    [
        (5, (15, 0, 16)),  # 31 networks: half of them to fit; the rest judges, for they are too few for a bound
        (7, (60, 19, 48)),  # 127: what is left calibrates
        (9, (60, 100, 48)),  # 400 of 511: all that was asked for
        (1, (1, 0, 0)),
        (2, (1, 0, 2)),
        (3, (3, 0, 4)),
    ],
)
def test_networks_of_small_spaces_are_shared(edges: int, sizes: tuple[int, int, int]) -> None:
    graph, sampled = subsets(edges)
    found = require_sound(graph, sampled[:208], USUAL)
    assert (len(found.fitted), len(found.calibrating), len(found.held_out)) == sizes


def test_too_few_for_a_bound_are_not_used_for_one() -> None:
    graph, sampled = subsets(7)
    found = Networks.divided(graph, sampled[:126], USUAL)
    assert (len(found.fitted), len(found.calibrating), len(found.held_out)) == (60, 0, 48)


@given(
    st.integers(1, 7),
    st.data(),
    st.builds(
        Effort,
        fitted=st.integers(1, 70),
        calibrating=st.integers(0, 110),
        held_out=st.integers(0, 60),
        paced=st.integers(0, 15),
    ),
)
def test_networks_are_disjoint_whatever_the_space_and_the_effort(
    edges: int, data: st.DataObject, effort: Effort
) -> None:
    graph, sampled = subsets(edges)
    wanted = effort.fitted + effort.calibrating + effort.held_out
    require_sound(graph, sampled[: data.draw(st.integers(1, min(len(sampled), wanted)))], effort)


def test_paced_networks_go_from_the_cheapest_to_the_dearest() -> None:
    graph, sampled = subsets(9)
    found = Networks.divided(graph, sampled, USUAL)
    sizes = [len(kept) for kept in found.paced]
    assert sizes == sorted(sizes) and len(sizes) in (11, 12)  # the whole one may be among those drawn
    assert sizes[0] == min(map(len, found.fitted)) and sizes[-1] == 9


def test_networks_avoid_what_could_not_be_measured(plan: Plan) -> None:
    found = plan.networks(without=("conv3", "mix"))
    for kept in (*found.fitted, *found.calibrating, *found.held_out, *found.paced):
        assert not kept & {"conv3", "mix"} and toy.GRAPH.live(kept) == kept
    assert max(map(len, found.paced)) == 7  # all the others
    whole = plan.networks(without=())
    assert (len(whole.fitted), len(whole.calibrating), len(whole.held_out)) == (20, 19, 10)


def test_when_source_and_sink_are_apart_no_network_is_left(plan: Plan) -> None:
    with pytest.raises(MilliwiseError, match=r"^no network is left: 3 edges could not be measured, late among them$"):
        plan.networks(without=("late", "mix", "pass"))


def test_edges_are_planned_once_and_failures_go_back_to_all_they_stand_for(plan: Plan) -> None:
    timed = {name.rpartition(" ")[0] for name in plan.edges if name != EMPTY}
    assert timed == {"conv3", "conv1", "entry", "separable", plan.work["late"].same_as, "mix"}
    assert set(plan.edges) == {EMPTY, *(f"{name} x{copies}" for name in timed for copies in (1, 4))}
    same = plan.work["late"].same_as
    assert plan.failed({f"{same} x4": "too slow", "mix x1": "odd"}) == {
        "early": "too slow",
        "late": "too slow",
        "mix": "odd",
    }
    assert plan.failed({}) == {}
    assert (plan.features_shape, plan.sink_shape) == (toy.FEATURES, (1, 4, 1, 2))


def test_the_same_plan_has_the_same_models() -> None:
    """A bundle is recognised by them."""
    first, second = (Plan(toy.network().eval(), toy.FEATURES, 0, Effort(paced=3)) for _ in range(2))
    assert first.edges == second.edges and first.networks(()) == second.networks(())
    assert first.whole(toy.CHEAPEST) == second.whole(toy.CHEAPEST)


@given(
    st.lists(st.integers(0, 40_000_000), max_size=12) | st.lists(st.integers(0, 3_000_000), min_size=70, max_size=99)
)
def test_models_are_grouped_by_their_number_and_bytes(sizes: list[int]) -> None:
    class Sized(bytes):
        size: int

        def __len__(self) -> int:
            return self.size

    def sized(size: int) -> bytes:
        made = Sized()
        made.size = size
        return made

    models = [(str(index), sized(size)) for index, size in enumerate(sizes)]
    found = list(groups(models))
    assert [pair for group in found for pair in group.items()] == models
    loads = [sum(map(len, group.values())) for group in found]
    assert all(load <= MOST_BYTES or len(group) == 1 for load, group in zip(loads, found, strict=True))
    assert all(len(group) <= MOST_MODELS for group in found)
    for index, group in enumerate(found[1:]):  # its first could not have been in the group before
        assert loads[index] + len(next(iter(group.values()))) > MOST_BYTES or len(found[index]) == MOST_MODELS


@pytest.mark.parametrize(
    ("size", "cache_bytes", "bound"),
    [
        (1000, {"L1": 32, "L2": 2000}, False),
        (1001, {"L1": 32, "L2": 2000}, True),
        (1001, {"L2": 2000, "L3": 4000}, False),
        (10**6, {}, False),  # unknown
    ],
)
def test_a_network_is_bound_by_the_cache_that_it_does_not_share(size: int, cache_bytes: dict, bound: bool) -> None:
    assert bound_by_cache(bytes(size), cache_bytes) is bound
