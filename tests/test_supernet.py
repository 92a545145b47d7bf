"""The super-network against the same sums written out by hand; selection; recalibration; the spaces."""

from __future__ import annotations

import pytest
import torch
import toy
from torch import Tensor, nn

from toolkit.errors import MilliwiseError
from toolkit.graph import Edge, Graph
from toolkit.spaces import SPACES, find_space
from toolkit.supernet import SuperNetwork, recalibrate


def by_hand(network: SuperNetwork, features: Tensor, kept: set[str]) -> Tensor:
    """The toy's forward pass, written out; an edge whose source is dead gives nothing."""
    on = network.operations

    def total(*terms: tuple[str, Tensor | None]) -> Tensor | None:
        given = [on[name](value) for name, value in terms if name in kept and value is not None]
        return sum(given[1:], given[0]) if given else None

    fine = total(("conv3", features), ("conv1", features))
    deep = total(("skip", fine), ("separable", fine))
    low = total(("entry", features), ("early", fine))
    out = total(("late", deep), ("pass", low), ("mix", low))
    assert out is not None
    result: Tensor = network.head(out)
    return result


def test_every_architecture_computes_what_it_says() -> None:
    network = toy.network().eval()
    features = torch.randn(2, 1, 2, 12)
    with torch.no_grad():
        for kept in toy.architectures():
            if toy.GRAPH.live(kept):
                seen = network.from_features(features, kept)
                assert seen.shape == (2, 3, toy.LABELS)
                torch.testing.assert_close(seen, by_hand(network, features, set(kept)))
        torch.testing.assert_close(network(features), by_hand(network, features, set(toy.GRAPH.full)))


class Untouchable(nn.Module):
    """Fails the test when it is computed."""

    def forward(self, inputs: Tensor) -> Tensor:
        raise AssertionError("a dead edge was computed")


def test_dead_edges_are_not_computed() -> None:
    network = toy.network().eval()
    for name in ("conv3", "separable", "skip", "late", "mix", "conv1", "early"):
        network.operations[name] = Untouchable()
    # skip and conv3 are kept but lead nowhere.
    assert network.from_features(torch.randn(1, 1, 2, 4), {"entry", "pass", "conv3", "skip"}).shape == (
        1,
        1,
        toy.LABELS,
    )


def test_no_path_is_refused() -> None:
    with pytest.raises(MilliwiseError, match="do not join"):
        toy.network().from_features(torch.randn(1, 1, 2, 4), {"conv3", "mix"})
    with pytest.raises(MilliwiseError, match="'tunnel'"):
        toy.network().from_features(torch.randn(1, 1, 2, 4), {"tunnel"})


def test_every_edge_needs_its_operation() -> None:
    graph = Graph((Edge("a", "x", "y"),), "x", "y")
    for operations, odd in (({}, "'a'"), ({"a": nn.Identity(), "b": nn.Identity()}, "'b'")):
        with pytest.raises(MilliwiseError, match=odd):
            SuperNetwork(graph, operations, nn.Identity(), nn.Identity())


def test_the_walk_is_a_pair_of_functions() -> None:
    def apply(edge: Edge, _module: nn.Module, value: str) -> str:
        return f"{edge.name}({value})"

    def add(_node: str, values: list[str]) -> str:
        return "+".join(values)

    kept = {"conv3", "skip", "late", "entry", "pass", "mix", "separable"} - {"separable"}
    said = toy.network().walk(kept, "x", apply, lambda node, values: add(node, list(values)))
    assert sorted(said.split("+")) == ["late(skip(conv3(x)))", "mix(entry(x))", "pass(entry(x))"]


def test_a_selected_network_is_the_live_part_with_its_own_weights() -> None:
    network = toy.network().eval()
    features = torch.randn(1, 1, 2, 8)
    kept = {"conv1", "skip", "late", "entry", "mix"} - {"mix"}  # entry is dead
    with torch.no_grad():
        expected = network.from_features(features, kept)
        selected = network.select(kept).eval()
        for parameter in network.parameters():
            parameter.zero_()
        torch.testing.assert_close(selected(features), expected)
    assert selected.graph.full == set(selected.operations) == {"conv1", "skip", "late"}
    assert not any("entry" in name for name in selected.state_dict())


def test_recalibration_is_the_plain_average_over_the_batches() -> None:
    network = toy.network()
    norm = network.operations["conv1"].norm
    norm.running_mean.fill_(9.0)
    norm.num_batches_tracked.fill_(50)  # as after training
    batches = [torch.randn(4, 1, 2, 8) + shift for shift in (0.0, 1.0, 5.0)]
    kept = {"conv1", "skip", "late"}

    def forward_all() -> None:
        for batch in batches:
            network.from_features(batch, kept)

    network.train()
    recalibrate(network, forward_all)
    with torch.no_grad():
        outputs = [network.operations["conv1"].conv(batch) for batch in batches]
    means = torch.stack([output.mean((0, 2, 3)) for output in outputs]).mean(0)
    variances = torch.stack([output.var((0, 2, 3)) for output in outputs]).mean(0)
    torch.testing.assert_close(norm.running_mean, means)
    torch.testing.assert_close(norm.running_var, variances)
    assert not network.training and not norm.training and norm.momentum == 0.1


EDGES = {
    **{"kws-ds": 45, "kws-coarse": 16, "kws-gated": 5, "kws-cnn": 8, "kws-cnn-cached": 4},
    **{"resnet-fabric": 58, "neural-fabric": 82},
}


@pytest.mark.parametrize("name", sorted(SPACES))
def test_a_space_is_whole(name: str) -> None:
    space = find_space(name)
    network = space.build(labels=5, hop_ms=200).eval()
    graph = network.graph
    assert graph.live(graph.full) == graph.full, "an edge that can never be live is no choice"
    assert len(graph.edges) == EDGES[name]
    assert not any(edge_name.count(".") for edge_name in graph.full)
    with torch.no_grad():
        logits = network(torch.randn(2, *space.shape(200)[1:]))
    assert logits.flatten(1).shape == (2, 5) and logits.isfinite().all()
    assert graph.digest() == space.build(labels=12, hop_ms=200).graph.digest()


@pytest.mark.parametrize("space", ["kws-ds", "kws-coarse"])
def test_a_listener_may_be_wider(space: str) -> None:
    usual, same, wide = (find_space(f"{space}{setting}").build(5) for setting in ("", ":width=32", ":width=48"))
    assert usual.graph.digest() == same.graph.digest() != wide.graph.digest()
    assert usual.graph.full == wide.graph.full and wide.head.linear.in_features == 1.5 * usual.head.linear.in_features
    with torch.no_grad():
        assert wide.eval()(torch.randn(1, 3200)).shape == (1, 1, 5)
    with pytest.raises(MilliwiseError, match="a width of 33 cannot be halved for the fine row: take 32 or 34"):
        find_space(f"{space}:width=33").build()


def test_another_head_or_stem_is_another_graph_and_more_labels_are_not() -> None:
    def digest(stem: nn.Module, *head: nn.Module) -> str:
        graph = Graph((Edge("only", "in", "out"),), "in", "out")
        return SuperNetwork(graph, {"only": nn.Identity()}, stem, nn.Sequential(*head)).graph.digest()

    plain = digest(nn.Identity(), nn.Linear(4, 8), nn.Linear(8, 3))
    assert plain == digest(nn.Identity(), nn.Linear(4, 8), nn.Linear(8, 30))
    assert digest(nn.Identity(), nn.Conv2d(4, 3, 1)) == digest(nn.Identity(), nn.Conv2d(4, 5, 1))
    others = [
        digest(nn.Identity(), nn.Linear(4, 9), nn.Linear(9, 3)),
        digest(nn.Identity(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)),
        digest(nn.ReLU(), nn.Linear(4, 8), nn.Linear(8, 3)),
    ]
    assert len({plain, *others}) == 4


@pytest.mark.parametrize("name", [name for name, space in SPACES.items() if "hop_samples" in space.input_shape])
def test_a_listener_says_something_every_hop(name: str) -> None:
    network = find_space(name).build(labels=5, hop_ms=200).eval()
    with torch.no_grad():
        assert network(torch.randn(2, 3 * 3200)).shape == (2, 3, 5)


def test_the_coarse_space_is_the_part_of_the_whole_without_its_fine_row() -> None:
    part, whole = (find_space(name).build(5) for name in ("kws-coarse", "kws-ds"))
    assert part.graph.full < whole.graph.full
    assert not any("fine" in (edge.source[:-1], edge.target[:-1]) for edge in part.graph.edges)
    whole.operations.load_state_dict(part.operations.state_dict(), strict=False)
    whole.head.load_state_dict(part.head.state_dict())
    audio = 0.1 * torch.randn(1, 16_000)
    with torch.no_grad():
        assert torch.allclose(part.eval()(audio), whole.eval()(audio, part.graph.full), atol=1e-6)


@pytest.mark.parametrize("hop_ms", [0, -40, 30, 100, 2040])
def test_a_hop_that_does_not_fit_is_refused_with_one_that_does(hop_ms: int) -> None:
    with pytest.raises(MilliwiseError, match=rf"hop of {hop_ms} ms .* such as (\d+)") as error:
        find_space("kws-ds").build(3, hop_ms)
    find_space("kws-ds").build(3, int(str(error.value).split()[-1]))


def test_an_unknown_space_lists_those_there_are() -> None:
    with pytest.raises(MilliwiseError, match="kws-ds"):
        find_space("kws")


def test_gates_weigh_what_edges_give() -> None:
    """One factor for all examples, or one for each: 0 as if the edge were absent, 2 as if it were there twice."""
    network = toy.network().eval()
    features = torch.randn(3, *toy.FEATURES[1:])
    rest = toy.GRAPH.full - {"mix"}
    absent, whole = network.from_features(features, rest), network.from_features(features)
    torch.testing.assert_close(network.from_features(features, gates={"mix": torch.zeros(())}), absent)
    mixed = network.from_features(features, gates={"mix": torch.tensor([0.0, 1.0, 2.0])})
    torch.testing.assert_close(mixed, torch.stack([absent[0], whole[1], (2 * whole - absent)[2]]))
