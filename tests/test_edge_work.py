"""What an edge computes, and the models it is timed in: work that is the same is timed once, in context."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as functional
import toy
from torch import Tensor, nn

from exporters.onnx import to_onnx, with_properties
from profilers.latency import Work, context_models, edge_work, empty_model, priors
from profilers.parallel import operation_model
from toolkit.graph import Edge, Graph
from toolkit.layers import CausalConv
from toolkit.makespan import HEAD
from toolkit.supernet import SuperNetwork


def test_work_is_the_same_computation_on_the_same_shape() -> None:
    work = edge_work(toy.network(), toy.FEATURES)
    assert work["late"].same_as == work["early"].same_as  # which of the two comes first is a matter of order
    others = [item.same_as for name, item in work.items() if name not in ("late", "early")]
    assert len(set(others)) == len(others)
    assert work["skip"].input_shape == (1, 2, 2, 4) and work["pass"].input_shape == (1, 4, 1, 2)


class Own(nn.Module):
    """A module of the user's, which prints the same whatever it computes."""

    def __init__(self, compute: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.compute = compute

    def forward(self, inputs: Tensor) -> Tensor:
        return self.compute(inputs) * self.scale


def softmax_of_columns(columns: int) -> Own:
    return Own(lambda x: torch.softmax(x.reshape(1, -1, columns), 1).view_as(x))


def resized(size: int) -> Own:
    return Own(lambda x: functional.interpolate(functional.interpolate(x, size=(size, size)), size=(8, 8)))


def same_work(first: nn.Module, second: nn.Module, shape: tuple[int, ...]) -> bool:
    graph = Graph((Edge("a", "in", "out"), Edge("b", "in", "out")), "in", "out")
    work = edge_work(SuperNetwork(graph, {"a": first, "b": second}, nn.Identity(), nn.Identity()), shape)
    return work["a"].same_as == work["b"].same_as


@pytest.mark.parametrize(
    "other",
    [
        lambda: CausalConv(2, 2, (3, 3), relu=False),
        lambda: CausalConv(2, 2, (3, 3), groups=2),
        lambda: CausalConv(2, 2, (3, 4)),
        lambda: CausalConv(2, 2, (5, 3)),
    ],
)
def test_work_that_differs_is_timed_apart(other: Callable[[], nn.Module]) -> None:
    assert not same_work(CausalConv(2, 2, (3, 3)), other(), (1, 2, 8, 8))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Own(torch.tanh), Own(torch.sin)),
        (Own(lambda x: x.pow(2.0)), Own(lambda x: x.abs().pow(2.37))),
        (softmax_of_columns(2), softmax_of_columns(4)),
        (resized(16), resized(64)),
        (Own(lambda x: functional.max_pool2d(x, 3, 1, 1)), Own(lambda x: functional.max_pool2d(x, 5, 1, 2))),
    ],
)
def test_work_that_prints_alike_but_differs_is_timed_apart(first: Own, second: Own) -> None:
    assert repr(first) == repr(second)
    assert not same_work(first, second, (1, 2, 8, 8))


def test_equal_structures_with_other_weights_are_the_same_work() -> None:
    torch.manual_seed(1)
    assert same_work(CausalConv(2, 2, (3, 3)), CausalConv(2, 2, (3, 3)), (1, 2, 8, 8))
    makes: list[Callable[[], nn.Module]] = [
        lambda: nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.ReLU()),
        lambda: resized(16),
        lambda: nn.Linear(8, 8),
    ]
    for make in makes:
        first, second = make(), make()
        with torch.no_grad():
            for parameter in second.parameters():
                parameter.add_(1.0)
        assert same_work(first, second, (1, 2, 8, 8))
    assert not same_work(nn.Linear(8, 8), nn.Linear(8, 8, bias=False), (1, 2, 8, 8))


def test_an_edge_is_timed_in_context() -> None:
    models = context_models(edge_work(toy.network(), toy.FEATURES))
    timed = {name.split()[0] for name in models}
    assert {"conv3", "conv1", "entry", "separable", "mix"} < timed and len(timed) == 6  # early or late
    assert sorted(models) == sorted(f"{name} x{copies}" for name in timed for copies in (1, 4))
    for copies in (1, 4):
        session = onnxruntime.InferenceSession(models[f"separable x{copies}"], providers=["CPUExecutionProvider"])
        feeds = {item.name: np.ones(item.shape, np.float32) for item in session.get_inputs()}
        assert len(feeds) == 1 + copies  # a cache for each copy
        outputs = session.run(None, feeds)
        assert outputs[0].shape == (1, 2, 2, 4)


def test_the_copies_differ_so_that_none_is_computed_once_for_all() -> None:
    models = context_models(edge_work(toy.network(), toy.FEATURES))
    session = onnxruntime.InferenceSession(models["conv1 x4"], providers=["CPUExecutionProvider"])
    single = onnxruntime.InferenceSession(models["conv1 x1"], providers=["CPUExecutionProvider"])
    features = np.random.default_rng(0).normal(0, 1, toy.FEATURES).astype(np.float32)
    four, one = (each.run(None, {"features": features})[0] for each in (session, single))
    assert not np.allclose(four, 4 * one, atol=1e-3)


def test_priors_by_hand() -> None:
    """A third of three more copies, or what one takes beyond a call that computes nothing."""
    work = edge_work(toy.network(), toy.FEATURES)
    first = work["late"].same_as
    timed = [name for name in work if name not in {"skip", "pass", "early", "late"} - {first}]
    times = {f"{name} x{copies}": 0.05 + 0.1 * copies for name in timed for copies in (1, 4)}
    times["mix x4"] = times["mix x1"] - 0.01  # noise
    nothing = {"skip": 0.0, "pass": 0.0}
    assert priors(work, times, 0.07) == pytest.approx({**dict.fromkeys(work, 0.1), **nothing, "mix": 0.0})
    alone = {name: ms for name, ms in times.items() if name.endswith("x1")}
    assert priors(work, alone, 0.07) == pytest.approx({**dict.fromkeys(work, 0.08), **nothing})
    assert set(priors(work, alone, 1.0).values()) == {0.0}
    del alone["conv3 x1"]  # it failed
    assert priors(work, alone, 0.07)["conv3"] == 0.0


def test_without_weights_there_is_one_copy_for_four_would_be_computed_once() -> None:
    graph = Graph(tuple(Edge(name, "in", "out") for name in ("pool", "same", "dropped", "conv")), "in", "out")
    modules = {"pool": nn.MaxPool2d(3, 1, 1), "same": nn.Identity(), "dropped": nn.Dropout(), "conv": CausalConv(2, 2)}
    work = edge_work(SuperNetwork(graph, modules, nn.Identity(), nn.Identity()), (1, 2, 8, 8))
    assert {name for name, item in work.items() if item.computes} == {"pool", "conv"}
    models = context_models(work)
    assert sorted(models) == ["conv x1", "conv x4", "pool x1"]
    assert priors(work, {"pool x1": 0.5, "conv x1": 0.3, "conv x4": 0.9}, 0.1) == pytest.approx(
        {"pool": 0.4, "same": 0.0, "dropped": 0.0, "conv": 0.2}
    )


def test_the_empty_model_gives_back_what_it_is_given() -> None:
    session = onnxruntime.InferenceSession(empty_model(toy.FEATURES), providers=["CPUExecutionProvider"])
    features = np.random.default_rng(0).normal(0, 1, toy.FEATURES).astype(np.float32)
    (found,) = session.run(None, {"features": features})
    assert np.array_equal(found, features)


def flat_network() -> SuperNetwork:
    """Nodes of shape (1, n), an edge that computes nothing, and a node at which two edges join."""
    edges = (Edge("in", "a", "b"), Edge("skip", "b", "c"), Edge("wide", "b", "c"), Edge("last", "c", "d"))
    operations = {"in": nn.Linear(6, 4), "skip": nn.Identity(), "wide": nn.Linear(4, 4), "last": nn.Linear(4, 4)}
    return SuperNetwork(Graph(edges, "a", "d"), operations, nn.Identity(), nn.Linear(4, 3)).eval()


def test_rows_of_numbers_are_features_not_audio() -> None:
    network, rng = flat_network(), np.random.default_rng(0)
    work = edge_work(network, (1, 6))
    assert {name for name, item in work.items() if not item.computes} == {"skip"}
    models = {**context_models(work), "empty": empty_model((1, 6))}
    models |= {f"{name} of {n}": operation_model(work[name], n) for name in ("in", "wide", "last") for n in (1, 2, 3)}
    models["head"] = operation_model(Work(HEAD, network.head, (1, 4)), 2)
    for name, content in models.items():
        model = onnx.load_from_string(content)
        assert [node.op_type for node in model.graph.node].count("Softmax") == 0, name
        assert model.graph.output[0].name == "output" and "audio" not in {each.name for each in model.graph.input}
        onnx.checker.check_model(model, full_check=True)
    values = rng.normal(size=(3, 1, 4)).astype(np.float32)
    session = onnxruntime.InferenceSession(models["wide of 3"])
    (seen,) = session.run(None, {f"value_{index}": each for index, each in enumerate(values)})
    with torch.no_grad():
        expected = network.operations["wide"](torch.from_numpy(values.sum(0)))
    np.testing.assert_allclose(seen, expected.numpy(), atol=1e-6)
    whole = onnx.load_from_string(with_properties(to_onnx(network, (1, 6)), {}))
    assert (whole.graph.input[0].name, whole.graph.output[0].name) == ("features", "output")
