"""The graph: what is live, the order of nodes, the schedule, and what is refused."""

from __future__ import annotations

import pytest
import toy
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import MilliwiseError
from toolkit.graph import Architecture, Edge, Graph

Drawn = tuple[Graph, Architecture]


@given(toy.kept_edges())
def test_live_edges_are_those_on_some_path(drawn: Drawn) -> None:
    graph, kept = drawn
    assert graph.live(kept) == frozenset(name for path in toy.paths(graph, kept) for name in path)


@given(toy.kept_edges())
def test_pruning_twice_changes_nothing(drawn: Drawn) -> None:
    graph, kept = drawn
    live = graph.live(kept)
    assert graph.live(live) == live <= kept


@given(toy.kept_edges(), st.data())
def test_keeping_more_never_kills(drawn: Drawn, data: st.DataObject) -> None:
    graph, kept = drawn
    more = data.draw(st.frozensets(st.sampled_from(sorted(graph.full))))
    assert graph.live(kept) <= graph.live(kept | more)


def test_live_by_hand() -> None:
    assert toy.GRAPH.live({"conv3", "skip", "late", "mix"}) == {"conv3", "skip", "late"}
    assert toy.GRAPH.live({"conv3", "skip", "separable"}) == frozenset()
    assert toy.GRAPH.live(toy.GRAPH.full) == toy.GRAPH.full
    assert toy.GRAPH.live([]) == frozenset()


@given(toy.graphs())
def test_edges_are_ordered_from_source_to_sink(graph: Graph) -> None:
    place = {node: index for index, node in enumerate(graph.nodes)}
    assert sorted(place) == sorted({node for edge in graph.edges for node in (edge.source, edge.target)})
    assert all(place[edge.source] < place[edge.target] for edge in graph.edges)
    assert sorted(edge.name for edge in graph.ordered) == sorted(graph.full)
    begun: set[str] = set()
    for edge in graph.ordered:  # an edge comes after every edge into its source
        assert edge.target not in begun
        begun.add(edge.source)


@given(toy.kept_edges(), st.integers(1, 4), st.data())
def test_schedule_respects_order_and_workers(drawn: Drawn, workers: int, data: st.DataObject) -> None:
    graph, kept = drawn
    work = {name: data.draw(st.integers(0, 1)) for name in sorted(graph.full)}
    live = graph.live(kept)
    steps = graph.schedule(kept, workers, work)
    assert all(1 <= sum(work[name] for name in step) <= workers for step in steps)
    done_in = {name: index for index, step in enumerate(steps) for name in step}
    assert sum(map(len, steps)) == len(done_in), "no edge is done twice"
    assert {name for name in live if work[name]} <= done_in.keys() <= live
    for first in done_in:
        for after in done_in:
            if graph.by_name[first].target == graph.by_name[after].source:
                assert done_in[first] < done_in[after]


@given(toy.kept_edges(), st.data())
def test_one_worker_takes_as_many_steps_as_there_is_work(drawn: Drawn, data: st.DataObject) -> None:
    graph, kept = drawn
    work = {name: data.draw(st.integers(0, 1)) for name in sorted(graph.full)}
    assert len(graph.schedule(kept, 1, work)) == sum(work[name] for name in graph.live(kept))


@given(toy.kept_edges())
def test_enough_workers_take_as_many_steps_as_the_longest_path(drawn: Drawn) -> None:
    graph, kept = drawn
    longest = max((len(path) for path in toy.paths(graph, kept)), default=0)
    assert len(graph.schedule(kept, 10_000)) == longest


def test_schedule_by_hand() -> None:
    # Step 1: conv3, conv1, entry start. Step 2: fine and part of low are ready, and so on.
    steps = toy.GRAPH.schedule(toy.GRAPH.full, 3, toy.STEPS)
    assert set(steps[0]) == {"conv3", "conv1", "entry"}
    assert len(steps) == 3  # conv3 conv1 entry | skip separable early | late mix (and pass, which is free)
    assert [set(step) for step in toy.GRAPH.schedule({"entry", "pass"}, 1, toy.STEPS)] == [{"entry"}]


def fabric(columns: int, scales: int = 6) -> Graph:
    """The Convolutional Neural Fabric of the thesis: its additions and its convolutions are edges of one step each."""
    joined: list[tuple[str, str]] = [("image", "out 0,0")]
    joined += [(f"in 0,{scale}", f"out 0,{scale}") for scale in range(1, scales)]
    joined += [(f"out 0,{scale}", f"in 0,{scale + 1}") for scale in range(scales - 1)]
    for column in range(1, columns):
        for scale in range(scales):
            joined.append((f"in {column},{scale}", f"out {column},{scale}"))
            near = range(max(0, scale - 1), min(scales, scale + 2))
            joined += [(f"out {column - 1},{other}", f"in {column},{scale}") for other in near]
    last = columns - 1
    if last:
        joined += [(f"out {last},{scale}", f"in {last},{scale + 1}") for scale in range(scales - 1)]
    joined.append((f"out {last},{scales - 1}", "classes"))
    return Graph(tuple(Edge(f"{source}-{target}", source, target) for source, target in joined), "image", "classes")


@pytest.mark.parametrize(
    ("columns", "steps"),
    [(1, (12, 12, 12)), (2, (39, 26, 19)), (4, (83, 47, 31)), (8, (171, 90, 53))],
)
def test_steps_of_the_published_fabrics(columns: int, steps: tuple[int, ...]) -> None:
    """The numbers printed in the thesis of Budgeted Super Networks, for 1, 2 and 4 workers."""
    graph = fabric(columns)
    assert tuple(len(graph.schedule(graph.full, workers)) for workers in (1, 2, 4)) == steps


def resnet(blocks: int) -> tuple[Graph, dict[str, int]]:
    """A CIFAR ResNet of three groups of blocks; its identity shortcuts are free, those that change channels are not."""
    joined = [("conv", "image", "map0")]
    for block in range(3 * blocks):
        joined += [(f"block{block}", f"map{block}", f"sum{block}"), (f"skip{block}", f"map{block}", f"sum{block}")]
        joined.append((f"add{block}", f"sum{block}", f"map{block + 1}"))
    joined.append(("out", f"map{3 * blocks}", "classes"))
    free = {f"skip{block}": 0 for block in range(3 * blocks) if block not in (blocks, 2 * blocks)}
    return Graph(tuple(Edge(*names) for names in joined), "image", "classes"), free


@pytest.mark.parametrize(
    ("layers", "steps"),
    [
        (20, (22, 20, 20)),
        (32, (34, 32, 32)),
        (44, (46, 44, 44)),
        (56, (58, 56, 56)),
        (110, (112, 110, 110)),
    ],
)
def test_steps_of_the_published_resnets(layers: int, steps: tuple[int, ...]) -> None:
    """The numbers printed in the same thesis, for 1, 2 and 4 workers."""
    graph, free = resnet((layers - 2) // 6)
    assert tuple(len(graph.schedule(graph.full, workers, free)) for workers in (1, 2, 4)) == steps


@pytest.mark.parametrize(
    ("edges", "reason"),
    [
        ((Edge("a", "x", "y"), Edge("a", "x", "y")), "'a' stands twice"),
        ((Edge("a", "x", "y"), Edge("b", "y", "x")), "cycle"),
        ((Edge("a", "x", "y"), Edge("loop", "z", "z")), "'loop' closes a cycle"),
        ((Edge("a", "x", "z"), Edge("b", "z", "x"), Edge("c", "z", "y")), "cycle"),
        ((Edge("a", "y", "x"),), "no path leads from 'x' to 'y'"),
        ((Edge("a", "x", "z"), Edge("b", "w", "y")), "no path"),
        ((), "no path"),
    ],
)
def test_what_is_no_super_network_is_refused(edges: tuple[Edge, ...], reason: str) -> None:
    with pytest.raises(MilliwiseError, match=reason):
        Graph(edges, "x", "y")


def test_an_unknown_edge_is_named() -> None:
    with pytest.raises(MilliwiseError, match="'tunnel'"):
        toy.GRAPH.live({"conv3", "tunnel"})
    with pytest.raises(MilliwiseError, match="'tunnel'"):
        toy.GRAPH.schedule({"tunnel"}, 1)


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers_are_refused(workers: int) -> None:
    with pytest.raises(MilliwiseError, match="at least 1"):
        toy.GRAPH.schedule(toy.GRAPH.full, workers)


def test_the_digest_tells_graphs_apart() -> None:
    assert toy.GRAPH.digest() == Graph(toy.EDGES, "mel", "out").digest()
    others = [
        Graph(toy.EDGES[:-1], "mel", "out"),
        Graph(toy.EDGES, "mel", "low"),
        Graph((*toy.EDGES[:-1], Edge("mix", "mel", "out")), "mel", "out"),
    ]
    assert len({toy.GRAPH.digest(), *(graph.digest() for graph in others)}) == 4


def test_what_is_made_by_hand_is_known_again() -> None:
    graph, kept = toy.GRAPH, toy.BY_HAND
    assert graph.known_as(kept) == "plain" and graph.known_as(graph.full) is None and graph.known_as([]) is None
    dead = [name for name in sorted(graph.full - kept) if graph.live(kept | {name}) == kept]
    assert all(graph.known_as(kept | {name}) == "plain" for name in dead)
