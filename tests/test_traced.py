"""Any stateless torch module can be an edge: what onnxruntime makes of its trace is what torch computes."""

from __future__ import annotations

from collections import OrderedDict

import exported
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from exporters.onnx import GraphWriter, Value, state_shapes, to_onnx, write
from toolkit.errors import MilliwiseError
from toolkit.features import LogMel
from toolkit.graph import Edge, Graph
from toolkit.layers import CausalConv
from toolkit.supernet import SuperNetwork

SHAPE = (1, 4, 6, 8)


class Residual(nn.Module):
    """What a user might write: a block with a shortcut, parameters of its own and a choice by shape."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.gain = nn.Parameter(torch.randn(4, 1, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.body(inputs) * self.gain
        return outputs + inputs if outputs.shape == inputs.shape and inputs.shape[2] % 2 == 0 else outputs


class Shuffle(nn.Module):
    """Needs indices and truth values, which are no float32 parameters, and two outputs of one node."""

    order: Tensor
    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor([3, 1, 0, 2]))
        self.register_buffer("mask", torch.tensor([True, False] * 4))

    def forward(self, inputs: Tensor) -> Tensor:
        largest, place = torch.topk(torch.where(self.mask, inputs[:, self.order], -inputs), 3)
        return largest + place


class Added(nn.Sequential):
    """A sequence that is more than a sequence."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + super().forward(inputs)


class Doubled(nn.Identity):
    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * inputs


MODULES: dict[str, nn.Module] = {
    "strided": nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "grouped": nn.Conv2d(4, 8, (3, 1), groups=2, padding=(1, 0), dilation=(2, 1)),
    "norm": nn.BatchNorm2d(4),
    "two equal norms": nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4)),
    "unit": nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
    "linear": nn.Linear(8, 5),
    "classifier": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    "max": nn.MaxPool2d(2),
    "max with rest": nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
    "mean": nn.AvgPool2d(2, count_include_pad=False),
    "adaptive": nn.AdaptiveAvgPool2d((3, 2)),
    "flatten": nn.Flatten(),
    "nearest": nn.Upsample(scale_factor=2, mode="nearest"),
    "gelu": nn.GELU(),
    "tanh": nn.Tanh(),
    "layer norm": nn.LayerNorm([6, 8]),
    "group norm": nn.GroupNorm(2, 4),
    "weight norm": nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)),
    "dropout": nn.Dropout(0.5),
    "nothing": nn.Sequential(),
    "residual": Residual(),
    "nested": nn.Sequential(Residual(), nn.Dropout(), nn.Sequential(Residual(), nn.Identity())),
    "shuffle": Shuffle(),
    "own forward of a sequence": Added(nn.Conv2d(4, 4, 1)),
    "own forward of an identity": Doubled(),
}


def randomise(module: nn.Module) -> nn.Module:
    exported.randomise(module)
    with torch.no_grad():
        for value in module.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return module


def network_of(*modules: nn.Module, head: nn.Module | None = None) -> SuperNetwork:
    """Edges side by side."""
    graph = Graph(tuple(Edge(f"edge{i}", "in", "out") for i in range(len(modules))), "in", "out")
    operations = {edge.name: module for edge, module in zip(graph.edges, modules, strict=True)}
    return SuperNetwork(graph, operations, nn.Identity(), head or nn.Identity()).eval()


def run(content: bytes, inputs: Tensor) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    assert isinstance(output, np.ndarray)
    return output


def assert_like_torch(network: SuperNetwork, shape: tuple[int, ...], opset: int = 17) -> onnx.ModelProto:
    model = to_onnx(network, shape, opset, ir=10 if opset > 18 else 8)
    onnx.checker.check_model(model, full_check=True)
    inputs = torch.randn(shape)
    with torch.no_grad():
        expected = network(inputs).numpy()
    np.testing.assert_allclose(run(model.SerializeToString(), inputs), expected, atol=1e-5, rtol=1e-5)
    (declared,) = model.graph.output
    assert [size.dim_value for size in declared.type.tensor_type.shape.dim] == list(expected.shape)
    return model


@pytest.mark.parametrize("name", MODULES)
def test_a_module_computes_what_torch_does(name: str) -> None:
    model = assert_like_torch(network_of(randomise(MODULES[name])), SHAPE)
    assert model.opset_import[0].version == 17 and all(not node.domain for node in model.graph.node)
    assert all(tensor.name.startswith("edge0.") for tensor in model.graph.initializer)


@pytest.mark.parametrize("opset", [18, 20, 21])
@pytest.mark.parametrize("name", ["unit", "residual", "mean", "gelu", "group norm", "nearest", "shuffle", "layer norm"])
def test_newer_operator_sets(name: str, opset: int) -> None:
    model = assert_like_torch(network_of(randomise(MODULES[name])), SHAPE, opset)
    assert model.opset_import[0].version == opset


@st.composite
def stacks(draw: st.DrawFn) -> tuple[nn.Sequential, tuple[int, ...]]:
    """Small random networks, and the shape of their input."""
    channels, size = draw(st.integers(1, 4)), draw(st.integers(6, 9))
    shape = (1, channels, size, size)
    layers: list[nn.Module] = []
    for kind in draw(st.lists(st.sampled_from(["conv", "norm", "act", "pool", "drop", "up"]), max_size=5)):
        if kind == "conv":
            kernel, outputs = draw(st.sampled_from([1, 3])), draw(st.integers(1, 4))
            layers.append(nn.Conv2d(channels, outputs, kernel, draw(st.integers(1, 2)), kernel // 2))
            channels = outputs
        elif kind == "act":
            layers.append(draw(st.sampled_from([nn.ReLU, nn.Sigmoid, nn.GELU, nn.Hardswish, nn.SiLU]))())
        else:
            others = {"norm": nn.BatchNorm2d(channels), "drop": nn.Dropout(), "up": nn.Upsample(scale_factor=2)}
            layers.append(others.get(kind) or draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))(2, 1, 1))
    return nn.Sequential(*layers), shape


@settings(max_examples=25)
@given(stack=stacks(), seed=st.integers(0, 99))
def test_random_stacks(stack: tuple[nn.Sequential, tuple[int, ...]], seed: int) -> None:
    torch.manual_seed(seed)
    module, shape = stack
    assert_like_torch(network_of(randomise(module)), shape)


def test_equal_edges_keep_weights_of_their_own_and_add_up() -> None:
    twins = [MODULES["unit"], MODULES["unit"], randomise(Residual())]
    model = assert_like_torch(network_of(*twins[:2]), SHAPE)
    names = [tensor.name for tensor in model.graph.initializer]
    assert len(names) == len(set(names)) == 4 and {name.split(".")[0] for name in names} == {"edge0", "edge1"}
    assert_like_torch(network_of(twins[2], twins[2], nn.Identity()), SHAPE)


def test_the_norm_is_folded_into_the_convolution() -> None:
    nodes = [node.op_type for node in to_onnx(network_of(randomise(MODULES["unit"])), SHAPE).graph.node]
    assert nodes == ["Conv", "Relu", "Identity"]


def test_what_is_not_float32_is_no_parameter() -> None:
    model = to_onnx(network_of(Shuffle()), SHAPE)
    assert not model.graph.initializer
    kinds = {node.attribute[0].t.data_type for node in model.graph.node if node.op_type == "Constant"}
    assert {onnx.TensorProto.INT64, onnx.TensorProto.BOOL} <= kinds


def test_the_same_module_gives_the_same_bytes() -> None:
    network = network_of(*(randomise(Residual()) for _ in range(3)))
    first, second = (to_onnx(network, SHAPE).SerializeToString() for _ in range(2))
    assert first == second


def test_the_module_is_left_as_it_was(capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    network = network_of(Residual())
    block = network.operations["edge0"]
    network.train()
    block.body[1].eval()  # frozen
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random_state, modes = torch.get_rng_state(), [part.training for part in network.modules()]
    to_onnx(network, SHAPE)
    assert [part.training for part in network.modules()] == modes and len(set(modes)) == 2
    assert torch.equal(torch.get_rng_state(), random_state) and torch.is_grad_enabled()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(value.requires_grad and value.grad is None for value in network.parameters())
    assert capfd.readouterr() == ("", "") and not recwarn.list


class Holder(nn.Module):
    """A container that nobody told how it streams."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.ReLU(), CausalConv(4, 4, (1, 3)))

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.inner(inputs)
        return result


class Shifted(CausalConv):
    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) + 1


@pytest.mark.parametrize("module", [Holder(), nn.Sequential(nn.ReLU(), Holder()), Added(CausalConv(4, 4, (1, 3)))])
def test_a_streaming_layer_is_not_traced(module: nn.Module) -> None:
    with pytest.raises(MilliwiseError, match=r"holds CausalConv, whose streaming state .* nn\.Sequential"):
        to_onnx(network_of(module), SHAPE)


def test_a_writer_is_not_used_for_what_computes_otherwise() -> None:
    with pytest.raises(MilliwiseError, match="Shifted at 'edge0': it computes otherwise than CausalConv"):
        to_onnx(network_of(Shifted(4, 4)), SHAPE)


def test_streaming_and_traced_layers_in_one_sequence() -> None:
    parts = OrderedDict(late=CausalConv(4, 4, (3, 3)), norm=nn.BatchNorm2d(4), block=nn.Conv2d(4, 2, 1), act=nn.GELU())
    network = network_of(nn.Sequential(parts))
    exported.randomise(network)
    model = to_onnx(network, SHAPE)
    assert state_shapes(model)["edge0.late"]["shape"] == [1, 4, 6, 2]
    features = torch.randn(1, 4, 6, 32)
    rows = exported.streamed(model.SerializeToString(), features.numpy(), 8, 3, "features")
    with torch.no_grad():
        expected = network(features).numpy()
    np.testing.assert_allclose(np.concatenate([row[0] for row in rows], 3), expected, atol=1e-5, rtol=0)


def test_a_registered_writer_is_used() -> None:
    class Negated(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return -inputs

    @write.register(Negated)
    def negated(module: Negated, writer: GraphWriter, value: Value, scope: str) -> Value:
        return Value(writer.node("Neg", [value.name]), value.shape)

    model = assert_like_torch(network_of(nn.Sequential(Negated(), nn.Tanh())), SHAPE)
    assert [node.op_type for node in model.graph.node] == ["Neg", "Tanh", "Identity"]


@pytest.mark.parametrize("name", ["head", "audio"])
def test_names_that_would_collide_are_refused(name: str) -> None:
    graph = Graph((Edge(name, "in", "out"),), "in", "out")
    stem, layer = (LogMel(), CausalConv(1, 1, (1, 3))) if name == "audio" else (nn.Identity(), nn.Conv2d(1, 1, 1))
    network = SuperNetwork(graph, {name: layer}, stem, nn.Conv2d(1, 1, 1)).eval()
    with pytest.raises(MilliwiseError, match=f"'{name}.*rename that edge"):
        to_onnx(network, (1, 3200) if name == "audio" else (1, 1, 4, 4))
